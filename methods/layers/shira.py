"""A kernel of which few entries are trained: at random places (SHiRA), or where the first gradients are largest."""

import torch
from torch import Tensor, nn

from visual_decathlon.methods.layers.delta import DeltaConv
from visual_decathlon.methods.layers.drawn import positions
from visual_decathlon.methods.layers.masks import pack, unpack


def sparse_delta(values: Tensor, at: Tensor, shape: torch.Size) -> Tensor:
    """A tensor of this shape: `values` (count,) at the different places `at` (count,) int64, 0 elsewhere."""
    return values.new_zeros(shape.numel()).scatter(0, at, values).view(shape)


class ShiraConv(DeltaConv):
    """W + S, S zero but at random places; its values start at zero: the identity."""

    def __init__(self, conv: nn.Conv2d, count: int, seed: int):
        super().__init__(conv)
        self.values = self.zeros(count)
        at = positions(seed, count, conv.weight.numel(), conv.weight)
        self.register_buffer("at", at, persistent=False)  # not stored: the seed gives them again

    def adapted_weight(self) -> Tensor:
        """W' = W + S."""
        return self.conv.weight + sparse_delta(self.values, self.at, self.conv.weight.shape)


def pack_places(places: Tensor, n: int) -> Tensor:
    """(rows, kept) int64 places below n, ascending in each row -> bytes of as many bits as `Shira.new_bits` counts."""
    width = (n - 1).bit_length()
    if places.shape[1] * width < n:
        return pack(places[:, :, None] >> torch.arange(width, device=places.device) & 1)
    return pack(torch.zeros(len(places), n, dtype=torch.bool, device=places.device).scatter(1, places, True))


def unpack_places(packed: Tensor, rows: int, kept: int, n: int) -> Tensor:
    """(rows, kept) int64 from the bytes that `pack_places` made of them."""
    width = (n - 1).bit_length()
    if kept * width < n:
        bits = unpack(packed, torch.Size((rows, kept, width)))
        return (bits.long() << torch.arange(width, device=packed.device)).sum(2)
    mask = unpack(packed, torch.Size((rows, n)))
    # Places outside of the mask become n and are sorted to the end: no size depends on values.
    return torch.arange(n, device=packed.device).where(mask, n).sort(1).values[:, :kept]


class GradientShiraConv(DeltaConv):
    """W + S, S zero but at `kept` entries of each filter, chosen in training; S starts at zero: the identity.

    `delta` has W's shape, so that every entry has a gradient; `chosen` is 1 where it counts, everywhere at first.
    """

    def __init__(self, conv: nn.Conv2d, kept: int):
        super().__init__(conv)
        self.kept = kept
        self.delta = nn.Parameter(torch.zeros_like(conv.weight, memory_format=torch.contiguous_format))
        self.register_buffer("chosen", torch.ones_like(self.delta, dtype=torch.bool, requires_grad=False))

    def adapted_weight(self) -> Tensor:
        """W' = W + S."""
        return self.conv.weight + self.delta * self.chosen

    @torch.no_grad()
    def choose(self, size: Tensor) -> None:
        """From now on trains the `kept` entries of each filter with the largest `size`, of W's shape."""
        places = size.flatten(1).topk(self.kept).indices
        self.chosen.copy_(torch.zeros_like(self.chosen).flatten(1).scatter(1, places, True).view_as(self.chosen))

    def stored(self) -> dict[str, Tensor]:
        """The chosen `values` (cout, kept) and their `places` as bits. Before a choice, the largest values."""
        size = self.delta.detach().abs()
        # At least 1 where chosen, so that a chosen entry of zero comes before the others.
        places = ((size + 1) * self.chosen).flatten(1).topk(self.kept).indices.sort(1).values
        values = (self.delta * self.chosen).flatten(1).gather(1, places)
        return {"values": values, "places": pack_places(places, size[0].numel())}

    def unpacked(self, stored: dict[str, Tensor]) -> dict[str, Tensor]:
        """`delta` with the values at their places and 0 elsewhere, `chosen` 1 there."""
        shape = self.delta.shape
        places = unpack_places(stored["places"], shape[0], self.kept, shape[1:].numel())
        delta = stored["values"].new_zeros(shape[0], shape[1:].numel()).scatter(1, places, stored["values"])
        chosen = torch.zeros_like(delta, dtype=torch.bool).scatter(1, places, True)
        return {"delta": delta.view(shape), "chosen": chosen.view(shape)}


class GradientSum(nn.Module):
    """The sum of the gradients that a GradientShiraConv has seen, of its weight's shape."""

    def __init__(self, conv: GradientShiraConv):
        super().__init__()
        self.register_buffer("total", torch.zeros_like(conv.delta.detach()))

    @torch.no_grad()
    def observe(self, conv: GradientShiraConv) -> None:
        """Adds the last gradient, which is not finite after a step that fp16 skipped, and undoes the step."""
        gradient = conv.delta.grad
        self.total.add_(gradient.where(gradient.isfinite().all(), 0))
        conv.delta.zero_()


def gradient_convs(network: nn.Module) -> list[GradientShiraConv]:
    """Every GradientShiraConv of a network, in order."""
    return [m for m in network.modules() if isinstance(m, GradientShiraConv)]
