"""Mona: an adapter with convolutions of three sizes between its two projections, behind a layer of a block."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from visual_decathlon.methods.layers.adapter import Adapter
from visual_decathlon.methods.layers.houlsby import channels_of
from visual_decathlon.methods.layers.layout import Layout

SIZES = (3, 5, 7)
EPS = 1e-5  # of the layer norm


def rescaled(h: Tensor, normalised: Tensor, kept: Tensor) -> Tensor:
    """s1 LN(h) + (1 + s2) h over the channels of h (N, C, H, W): s1 `normalised` and s2 `kept`, (C, 1, 1) each."""
    # Not F.layer_norm: its result would be in channels_last, and so would all that is computed from it.
    h = h.to(torch.promote_types(h.dtype, torch.float32))
    variance, mean = torch.var_mean(h, 1, correction=0, keepdim=True)
    return normalised * ((h - mean) * torch.rsqrt(variance + EPS)) + (1 + kept) * h


def averaged_kernel(kernels: list[Tensor]) -> Tensor:
    """(m, 1, 7, 7): the mean of depthwise kernels of sides 3, 5 and 7, plus the identity in the middle.

    The mean of the three convolutions of z plus z is one convolution of z with it; every side is padded by its half.
    """
    largest = max(SIZES)
    total = sum(F.pad(kernel, [(largest - kernel.shape[-1]) // 2] * 4) for kernel in kernels) / len(kernels)
    one = torch.zeros_like(total[:1])
    one[..., largest // 2, largest // 2] = 1
    return total + one


def _pointwise(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """conv(x), its bias added afterwards: on a CPU a 1x1 with bias has other bits with another number of threads."""
    y = F.conv2d(x, conv.weight)
    return y if conv.bias is None else y + conv.bias[:, None, None]


class MonaNorm(Adapter):
    """(N, C, H, W) -> the same shape: h = norm(x), then h + U gelu(z + P z), z the filtered D (rescaled h).

    The filters are 3x3, 5x5 and 7x7 depthwise convolutions, their mean and z itself, computed as one of 7x7. `norm` is
    a batch norm, or a convolution or linear layer without one, behind which U has a bias. `layout` is that of h; a
    token in front of the patches is a map of one pixel.
    """

    def __init__(self, norm: nn.Module, bottleneck: int, layout: Layout = Layout()):  # noqa: B008, it is frozen
        super().__init__()
        self.norm, self.layout = norm, layout
        channels, like = channels_of(norm), {"device": norm.weight.device, "dtype": norm.weight.dtype}
        self.normalised = nn.Parameter(torch.zeros(channels, 1, 1, **like))
        self.kept = nn.Parameter(torch.zeros(channels, 1, 1, **like))
        self.down = nn.Conv2d(channels, bottleneck, 1, **like)
        # Their biases would only add up to one vector: `bias`.
        self.filters = nn.ModuleList(
            nn.Conv2d(bottleneck, bottleneck, size, padding=size // 2, groups=bottleneck, bias=False, **like)
            for size in SIZES
        )
        self.bias = nn.Parameter(torch.zeros(bottleneck, **like))
        self.mix = nn.Conv2d(bottleneck, bottleneck, 1, **like)
        self.up = nn.Conv2d(bottleneck, channels, 1, bias=not isinstance(norm, _BatchNorm), **like)
        for start in self.up.parameters():
            nn.init.zeros_(start)

    def forward(self, x: Tensor) -> Tensor:
        """What the layer reads -> what it gives, adapted."""
        return self.layout.changed(self.norm(x), self.adapted, self.adapted)

    def adapted(self, h: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        z = _pointwise(self.down, rescaled(h, self.normalised, self.kept))
        kernel = averaged_kernel([filter.weight for filter in self.filters])
        z = F.conv2d(z, kernel, self.bias, padding=max(SIZES) // 2, groups=len(kernel))
        return h + _pointwise(self.up, F.gelu(z + _pointwise(self.mix, z)))
