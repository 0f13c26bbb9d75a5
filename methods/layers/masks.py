"""Convolutions under a binary mask that is trained as real numbers and stored as bits."""

import torch
from torch import Tensor, nn

from visual_decathlon.methods.layers.delta import DeltaConv

START, THRESHOLD = 1e-2, 5e-3


def switched(m: Tensor) -> Tensor:
    """1 where m is above the threshold, 0 elsewhere, to the bit; its gradient is m's own (straight through)."""
    return (m > THRESHOLD).to(m.dtype) + (m - m.detach())


def pack(on: Tensor) -> Tensor:
    """Booleans of any shape, in row-major order -> (ceil(count / 8),) uint8, the first in the lowest bit."""
    bits = on.flatten().to(torch.uint8)
    bits = torch.cat([bits, bits.new_zeros(-len(bits) % 8)]).view(-1, 8)
    return (bits << torch.arange(8, dtype=torch.uint8, device=bits.device)).sum(1, dtype=torch.uint8)


def unpack(packed: Tensor, shape: torch.Size) -> Tensor:
    """What `pack` packed."""
    bits = packed[:, None] >> torch.arange(8, dtype=torch.uint8, device=packed.device) & 1
    return bits.flatten()[: shape.numel()].view(shape).bool()


class MaskedConv(DeltaConv):
    """A convolution with a trained `mask`, of whatever shape a subclass gives it."""

    mask: nn.Parameter

    def stored(self) -> dict[str, Tensor]:
        return {"mask": pack(self.mask > THRESHOLD)}

    def unpacked(self, stored: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"mask": unpack(stored["mask"], self.mask.shape) * START}


class WeightMask(MaskedConv):
    """W' = W * 1[mask > threshold], a mask of W's shape (Piggyback)."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__(conv)
        self.mask = nn.Parameter(torch.full_like(conv.weight, START))

    def weight(self) -> Tensor:
        return self.conv.weight * switched(self.mask)


class InputSwitch(MaskedConv):
    """conv(s * x), s = 1[mask > threshold] of (cin,), computed as a convolution with W s (BA2)."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__(conv)
        self.mask = nn.Parameter(conv.weight.new_full((conv.in_channels,), START))

    def weight(self) -> Tensor:
        conv = self.conv
        seen = switched(self.mask).view(conv.groups, -1)  # the input channels of each group's filters
        return conv.weight * seen.repeat_interleave(conv.out_channels // conv.groups, 0)[:, :, None, None]


def masks_of(network: nn.Module) -> list[nn.Parameter]:
    return [m.mask for m in network.modules() if isinstance(m, MaskedConv)]


def mean_on(network: nn.Module) -> Tensor:
    """Mean of all switches, straight through."""
    return torch.cat([switched(mask).flatten() for mask in masks_of(network)]).mean()
