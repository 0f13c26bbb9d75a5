"""Changes of weights by plus or minus a step, at one place of each group of weights, in few bits."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visual_decathlon.methods.layers.delta import DeltaConv


def to_groups(d: Tensor, group: int) -> Tensor:
    """(cout, cin, k, l) -> (cout, ceil(cin k l / group), group): weights of neighbouring input channels at one tap.

    The order is that of the taps, and of the input channels within a tap. The last group of a filter is filled with
    zeros.
    """
    rows = d.permute(0, 2, 3, 1).flatten(1)
    return F.pad(rows, (0, -rows.shape[1] % group)).view(len(rows), -1, group)


def from_groups(groups: Tensor, shape: torch.Size) -> Tensor:
    """The tensor of this shape (cout, cin, k, l) that `to_groups` made these of."""
    cout, cin, height, width = shape
    return groups.flatten(1)[:, : cin * height * width].view(cout, height, width, cin).permute(0, 3, 1, 2)


def signed_steps(d: Tensor, group: int) -> Tensor:
    """D (cout, cin, k, l) -> its coded form, of the same shape.

    In each group the entry of the largest size becomes plus or minus the filter's step, by its sign, and all others
    become 0. The step is the mean size of those largest entries: of all such forms this one has the least squared
    distance to the filter. It is rounded to half precision, in which it is stored. The coded form of a coded form is
    the same, to the bit, up to 8192 groups a filter: the sums of its mean are then exact.
    """
    if group == 1:  # as below, without the sorting into groups
        step = d.abs().mean((1, 2, 3), keepdim=True).half().to(d.dtype)
        return torch.where(d < 0, -step, step)
    groups = to_groups(d, group)
    largest, place = groups.abs().max(2, keepdim=True)
    step = largest.mean((1, 2), keepdim=True).half().to(d.dtype)
    signed = torch.where(groups.gather(2, place) < 0, -step, step)  # a group of zeros gets a plus: it has no code for 0
    return from_groups(torch.zeros_like(groups).scatter_(2, place, signed), d.shape)


def straight_through(d: Tensor, group: int) -> Tensor:
    """`signed_steps(d)`; its gradient is that of d."""
    return d + (signed_steps(d.detach(), group) - d.detach())


def pack(digits: Tensor, base: int, count: int, size: int) -> Tensor:
    """Whole numbers below `base`, of any shape in row-major order -> uint8: `count` of them in `size` bytes."""
    places = base ** torch.arange(count, device=digits.device)
    flat = digits.flatten().long()
    numbers = (F.pad(flat, (0, -len(flat) % count)).view(-1, count) * places).sum(1, keepdim=True)
    return (numbers >> 8 * torch.arange(size, device=digits.device) & 255).to(torch.uint8).flatten()


def unpack(packed: Tensor, base: int, count: int, size: int) -> Tensor:
    """Whole numbers, int64, from the bytes that `pack` made of them, with the zeros that fill the last bytes."""
    numbers = (packed.long().view(-1, size) << 8 * torch.arange(size, device=packed.device)).sum(1, keepdim=True)
    places = base ** torch.arange(count, device=packed.device)
    return (numbers // places % base).flatten()


class SignsConv(DeltaConv):
    """W' = W + the coded form of `common`, if there is one, + that of `delta`. Both have W's shape.

    `delta` is the layer's own and starts at zero. `common` belongs to the layer of another network, which codes it in
    groups of one. `packing` is (count, size): so many choices of `delta` are stored in so many bytes.
    """

    def __init__(self, conv: nn.Conv2d, group: int, packing: tuple[int, int], common: nn.Parameter | None = None):
        super().__init__(conv)
        self.group, self.packing = group, (2 * group, *packing)
        self.common = common
        self.delta = self.zeros(*conv.weight.shape)

    def adapted_weight(self) -> Tensor:
        """W', its gradient straight through."""
        weight = self.conv.weight if self.common is None else self.conv.weight + straight_through(self.common, 1)
        return weight + straight_through(self.delta, self.group)

    def stored(self) -> dict[str, Tensor]:
        """`codes`: 2 * place + (1 for minus) of each group, packed; `steps`: (cout,) in half precision, as bytes."""
        groups = to_groups(signed_steps(self.delta.detach(), self.group), self.group)
        steps, place = groups.abs().max(2)
        minus = groups.gather(2, place[..., None])[..., 0] < 0
        halves = steps[:, 0].half().clone(memory_format=torch.contiguous_format)  # one filter may have any stride
        return {"codes": pack(2 * place + minus, *self.packing), "steps": halves.view(torch.uint8)}

    def unpacked(self, stored: dict[str, Tensor]) -> dict[str, Tensor]:
        """The coded form as `delta`."""
        weight = self.conv.weight
        per_filter = -(-weight[0].numel() // self.group)
        digits = unpack(stored["codes"], *self.packing)[: len(weight) * per_filter].view(len(weight), per_filter, 1)
        steps = stored["steps"].view(torch.float16).to(weight.dtype)[:, None, None]
        signed = torch.where(digits % 2 == 1, -steps, steps)
        groups = signed.new_zeros(len(weight), per_filter, self.group).scatter_(2, digits // 2, signed)
        return {"delta": from_groups(groups, weight.shape).contiguous()}
