"""Parallel residual adapter: conv(x) + A x (Rebuffi, Bilen, Vedaldi, CVPR 2018, their code).

Where the kernel has a centre, A acts like the kernel's centre tap, so the pair is trained as one convolution with
W + A. This saves the 1x1 pass over the input, the sum and the 1x1's input gradient; the gradient of A is the weight
gradient of a 1x1. It is exact up to rounding; a test compares it with two separate convolutions.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visual_decathlon.methods.layers.adapter import Adapter
from visual_decathlon.methods.layers.network import conv_like
from visual_decathlon.methods.layers.pointwise import first_order, weight_gradient
from visual_decathlon.methods.shapes import ConvShape


def centred(conv: nn.Conv2d) -> bool:
    """Whether a 1x1 of the same stride is this kernel's centre tap."""
    return conv.groups == 1 and ConvShape.of(conv).centred


def add_to_centre(weight: Tensor, side: Tensor) -> Tensor:
    """(cout, cin, k, l) kernel plus a (cout, cin, 1, 1) one in its middle."""
    # On a CPU the convolution reorders its weights itself; a GPU needs them in the layout of its input.
    kept = torch.contiguous_format if weight.device.type == "cpu" else torch.preserve_format
    out = weight.clone(memory_format=kept)
    out[:, :, weight.shape[2] // 2, weight.shape[3] // 2] += side[:, :, 0, 0]
    return out


def nearest_factors(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """(cout, r) and (r, cin), whose product is the nearest matrix of this rank; both carry the root of its size."""
    left, size, right = torch.linalg.svd(matrix, full_matrices=False)
    root = size[:rank].sqrt()
    return left[:, :rank] * root, root[:, None] * right[:rank]


class _CentreTap(torch.autograd.Function):
    """conv(x, W + A in the centre) with gradients for x and A alone: W is frozen."""

    @staticmethod
    def forward(ctx, x, weight, side, bias, stride, padding, dilation):
        kernel = add_to_centre(weight, side)
        ctx.save_for_backward(x, kernel)
        ctx.geometry = stride, padding, dilation
        return F.conv2d(x, kernel, bias, stride, padding, dilation)

    @staticmethod
    def backward(ctx, grad):
        first_order()
        x, kernel = ctx.saved_tensors
        stride, padding, dilation = ctx.geometry
        grad_x = grad_side = None
        if ctx.needs_input_grad[0]:
            grad_x = torch.ops.aten.convolution_backward(
                grad, x, kernel, None, stride, padding, dilation, False, [0, 0], 1, [True, False, False]
            )[0]
        if ctx.needs_input_grad[2]:
            grad_side = weight_gradient(grad, x[:, :, :: stride[0], :: stride[1]])[:, :, None, None]
        return grad_x, None, grad_side, None, None, None, None


class ParallelPointwise(Adapter):
    """(N, cin, H, W) -> (N, cout, H', W'): conv(x) + A x, A a 1x1 of the same stride that a subclass defines."""

    fused = True  # False: computes two separate convolutions, as the released code does

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.conv = conv

    def pointwise_kernel(self) -> Tensor:
        """A as a (cout, cin, 1, 1) kernel."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """(N, cin, H, W) -> (N, cout, H', W'), fused where A is the centre tap of a frozen kernel."""
        conv, fast = self.conv, self.fused and not torch.is_autocast_enabled(x.device.type)
        frozen = not any(p.requires_grad for p in conv.parameters())
        if fast and frozen and centred(conv) and conv.padding_mode == "zeros":
            return _CentreTap.apply(
                x, conv.weight, self.pointwise_kernel(), conv.bias, conv.stride, conv.padding, conv.dilation
            )
        # Sliced, not strided: the weight gradient of a strided 1x1 in channels_last can write past its
        # buffer on AVX-512 CPUs (seen in PyTorch 2.13 and 2.15).
        return conv(x) + F.conv2d(x[:, :, :: conv.stride[0], :: conv.stride[1]], self.pointwise_kernel())

    def merge(self) -> nn.Conv2d:
        """A frozen convolution with A in the kernel's centre tap. Raises AttributeError where it has no centre."""
        if not centred(self.conv):
            raise AttributeError(f"a {self.conv} has no centre tap into which a parallel 1x1 could merge")
        return conv_like(self.conv, add_to_centre(self.conv.weight, self.pointwise_kernel()), self.conv.bias)


class ParallelConv(ParallelPointwise):
    """A is trained directly: the weight of the convolution `side`."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__(conv)
        like = {"device": conv.weight.device, "dtype": conv.weight.dtype}
        self.side = nn.Conv2d(conv.in_channels, conv.out_channels, 1, bias=False, **like)

    def pointwise_kernel(self) -> Tensor:
        """A (cout, cin, 1, 1)."""
        return self.side.weight


class TruncatedConv(ParallelConv):
    """A is truncated to a rank by `truncate` and stored as two factors of that rank."""

    def __init__(self, conv: nn.Conv2d, rank: int):
        super().__init__(conv)
        self.rank = rank

    def _factors(self) -> tuple[Tensor, Tensor]:
        return nearest_factors(self.side.weight.detach()[:, :, 0, 0], self.rank)

    @torch.no_grad()
    def truncate(self) -> None:
        """Replaces A by the nearest matrix of the rank."""
        up, down = self._factors()
        self.side.weight.copy_((up @ down)[:, :, None, None])

    def stored(self) -> dict[str, Tensor]:
        """The factors `up` (cout, r) and `down` (r, cin)."""
        return dict(zip(("up", "down"), self._factors(), strict=True))

    def unpacked(self, stored: dict[str, Tensor]) -> dict[str, Tensor]:
        """A as the product of the stored factors."""
        return {"side.weight": (stored["up"] @ stored["down"])[:, :, None, None]}
