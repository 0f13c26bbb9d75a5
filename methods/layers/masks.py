"""Convolutions under a binary mask, which is trained as real numbers and stored as bits."""

import torch
from torch import Tensor, nn

from visual_decathlon.methods.layers.delta import DeltaConv

START, THRESHOLD = 1e-2, 5e-3


def switched(m: Tensor, threshold: float = THRESHOLD) -> Tensor:
    """Exactly 1 where m is above the threshold, 0 elsewhere; its gradient is that of m (straight through)."""
    return (m > threshold).to(m.dtype) + (m - m.detach())


def masked_weight(weight: Tensor, m: Tensor) -> Tensor:
    """W * 1[m > threshold], m of W's shape."""
    return weight * switched(m)


def input_masked_weight(weight: Tensor, m: Tensor, groups: int) -> Tensor:
    """W (cout, cin / groups, k, l) times 1[m > threshold] of its input channels, m (cin,)."""
    on = switched(m).view(groups, -1)  # the input channels that the filters of each group read
    return weight * on.repeat_interleave(len(weight) // groups, 0)[:, :, None, None]


def pack(on: Tensor) -> Tensor:
    """Booleans of any shape, in row-major order -> (ceil(count / 8),) uint8, the first in the lowest bit."""
    bits = on.flatten().to(torch.uint8)
    bits = torch.cat([bits, bits.new_zeros(-len(bits) % 8)]).view(-1, 8)
    return (bits << torch.arange(8, dtype=torch.uint8, device=bits.device)).sum(1, dtype=torch.uint8)


def unpack(packed: Tensor, shape: torch.Size) -> Tensor:
    """Booleans of this shape from the bytes that `pack` made of them."""
    bits = packed[:, None] >> torch.arange(8, dtype=torch.uint8, device=packed.device) & 1
    return bits.flatten()[: shape.numel()].view(shape).bool()


class MaskedConv(DeltaConv):
    """A convolution with a trained `mask`, whose shape a subclass sets."""

    mask: nn.Parameter

    def stored(self) -> dict[str, Tensor]:
        """The mask as bits: (ceil(count / 8),) uint8."""
        return {"mask": pack(self.mask > THRESHOLD)}

    def unpacked(self, stored: dict[str, Tensor]) -> dict[str, Tensor]:
        """The mask as real numbers: the start value where a bit is set, 0 elsewhere."""
        return {"mask": unpack(stored["mask"], self.mask.shape) * START}


class WeightMask(MaskedConv):
    """W' = W * 1[mask > threshold], a mask of W's shape (Piggyback)."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__(conv)
        self.mask = nn.Parameter(torch.full_like(conv.weight, START))

    def adapted_weight(self) -> Tensor:
        """W' = W * 1[mask > threshold]."""
        return masked_weight(self.conv.weight, self.mask)


class InputSwitch(MaskedConv):
    """conv(s * x), s = 1[mask > threshold] of (cin,), computed as a convolution with W s (BA2)."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__(conv)
        self.mask = nn.Parameter(conv.weight.new_full((conv.in_channels,), START))

    def adapted_weight(self) -> Tensor:
        """W' = W s, s over the input channels."""
        return input_masked_weight(self.conv.weight, self.mask, self.conv.groups)


def masks_of(network: nn.Module) -> list[nn.Parameter]:
    """The trained mask of every MaskedConv of a network, in order."""
    return [m.mask for m in network.modules() if isinstance(m, MaskedConv)]


def mean_on(network: nn.Module) -> Tensor:
    """Scalar mean of all switches, its gradient straight through."""
    return torch.cat([switched(mask).flatten() for mask in masks_of(network)]).mean()
