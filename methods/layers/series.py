"""Series residual adapter: y + A BN(y) behind a convolution (Rebuffi, Bilen, Vedaldi 2017, their code).

With the batch's statistics BN(y) is s y + t, so the sum is one 1x1 convolution of y, by I + A diag s with the bias
A t. Neither BN(y) nor its product nor its gradient is written to memory. It is exact up to rounding; a test compares
it with the plain sum.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visual_decathlon.methods.layers.adapter import Adapter
from visual_decathlon.methods.layers.linear import adapter_at
from visual_decathlon.methods.layers.network import Network, conv_like
from visual_decathlon.methods.layers.pointwise import first_order, large, weight_gradient


class _Mixed(torch.autograd.Function):
    """y (N, C, H, W) -> y + A (s y + t), s = gamma r, t = beta - mean s, with r = 1 / deviation of the batch itself.

    `mean` and `r` (C,) belong to y: the gradient for y flows through them too. In float32 it is as close to
    float64 as the plain sum, except for one digit where a mean is a thousand deviations.
    """

    @staticmethod
    def forward(ctx, y, mean, r, gamma, beta, mix):
        a = mix[:, :, 0, 0]
        scale = gamma * r
        shift = beta - mean * scale
        matrix = a * scale
        matrix.diagonal().add_(1)
        ctx.save_for_backward(y, mean, r, gamma, scale, shift, a, matrix)
        return F.conv2d(y, matrix[:, :, None, None], a @ shift)

    @staticmethod
    def backward(ctx, grad):
        first_order()
        y, mean, r, gamma, scale, shift, a, matrix = ctx.saved_tensors
        grad_bias = grad.sum((0, 2, 3))
        grad_matrix = weight_gradient(grad, y)
        grad_shift = a.t() @ grad_bias
        grad_scale = (grad_matrix * a).sum(0) - mean * grad_shift
        grad_a = grad_matrix * scale + grad_bias[:, None] * shift
        # r = (variance + eps) ** -1/2: its derivative by a value of y is -r³ (y - mean) / n, the mean's is 1 / n.
        n = y.numel() // y.shape[1]
        slope = -(r**3) * gamma * grad_scale / n
        offset = -scale * grad_shift / n - slope * mean
        grad_y = F.conv2d(grad, matrix.t()[:, :, None, None], offset).addcmul_(y, slope[:, None, None])
        return grad_y, None, None, r * grad_scale, grad_shift, grad_a[:, :, None, None]


class SeriesConv(Adapter):
    """(N, cin, H, W) -> (N, cout, H', W'): y = conv(x), then y + mix(norm(y)), mix a 1x1 without bias."""

    fused = True  # False: computes norm and mix one after the other, as the released code does

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.conv = conv
        channels, like = conv.out_channels, {"device": conv.weight.device, "dtype": conv.weight.dtype}
        self.norm = nn.BatchNorm2d(channels, **like)
        self.mix = nn.Conv2d(channels, channels, 1, bias=False, **like)

    def forward(self, x: Tensor) -> Tensor:
        """(N, cin, H, W) -> (N, cout, H', W'), fused for large work in training."""
        y, norm = self.conv(x), self.norm
        # Small work is faster with fewer operations, and bf16 would round the 1 + of the matrix.
        if not (self.fused and norm.training and large(y, y.shape[1])):
            return y + self.mix(norm(y))
        with torch.no_grad():
            norm.num_batches_tracked.add_(1)
            mean, variance = torch.ops.aten.batch_norm_update_stats(
                y, norm.running_mean, norm.running_var, norm.momentum
            )
            r = torch.rsqrt(variance + norm.eps)
        return _Mixed.apply(y, mean, r, norm.weight, norm.bias, self.mix.weight)

    def merge(self) -> nn.Conv2d:
        """A frozen convolution; with the inner norm as s y + t, its weight is (I + A diag s) W, its bias
        (I + A diag s) b + A t. Raises AttributeError for a convolution with groups."""
        if self.conv.groups != 1:
            raise AttributeError(f"a {self.conv} cannot mix its channels: each group reads only its own inputs")
        scale = self.norm.weight * torch.rsqrt(self.norm.running_var + self.norm.eps)
        shift = self.norm.bias - self.norm.running_mean * scale
        mix = self.mix.weight[:, :, 0, 0]
        matrix = torch.eye(len(mix), device=mix.device, dtype=mix.dtype) + mix * scale
        weight = (matrix @ self.conv.weight.flatten(1)).view_as(self.conv.weight)
        bias = mix @ shift
        if self.conv.bias is not None:
            bias = bias + matrix @ self.conv.bias
        return conv_like(self.conv, weight, bias)


def put_series(network: Network, init: str = "he") -> None:
    """Puts a series adapter after every convolution; `init` is how A starts, as `start_mix` has it."""
    for site, conv in list(network.conv_sites()):
        network.set_submodule(site.conv, adapter_at(conv, lambda conv: start_mix(SeriesConv(conv), init)))


def start_mix(adapter: SeriesConv, init: str) -> SeriesConv:
    """Initialises A: `he` as the released code does, otherwise zero, the identity. Returns the adapter."""
    if init == "he":
        nn.init.kaiming_normal_(adapter.mix.weight, mode="fan_out", nonlinearity="relu")
    else:
        nn.init.zeros_(adapter.mix.weight)
    return adapter
