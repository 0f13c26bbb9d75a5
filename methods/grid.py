"""The talk's grid: a linear 1x1 after or parallel to every convolution, of three kinds, with or without a scale."""

from dataclasses import dataclass
from typing import Literal

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.per_conv import PerConv
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.residual_adapters import no_centre_tap
from visual_decathlon.methods.shapes import ConvShape


@register
@dataclass(frozen=True)
class Grid(PerConv):
    """Serial y + λ A y of y = conv(x), or parallel conv(x) + λ A x, then the domain's BN (He 2022; the talk).

    A is a 1x1 convolution: `matching` from all channels to all; `copy_concat` to cout / m channels, which are copied
    and concatenated m times, m = cout / cin where channels grow and 2 elsewhere; `group` with `group_count` groups.
    The talk's adapters are linear, one at each convolution, so they merge; He's have a ReLU inside, one at each layer.
    It starts as the identity: with `scale='none'` A is zero, with a learned scale λ is zero and A random. It stores
    c cout / m / g floats a convolution, c the channels that A reads (cin if parallel, cout if serial), and 1 for λ.
    The stem's 3 channels allow no parallel copies and no groups: it then has no adapter.
    """

    name = "adapter"
    label = "Adapter"
    family = "adapter grid"
    fidelity = "adaptation"
    paper = "He 2022, arXiv 2110.04366"
    mergeable = True
    lr = 0.3

    arrangement: Literal["serial", "parallel"] = "parallel"
    conv: Literal["matching", "copy_concat", "group"] = "matching"
    scale: Literal["learned", "none"] = "learned"
    group_count: int = 2

    def __post_init__(self):
        if self.group_count < 1:
            raise InputError(f"adapter(group_count={self.group_count}): group_count must be 1 or more")
        if self.group_count != 2 and self.conv != "group":
            raise InputError(f"adapter(group_count={self.group_count}) has no effect without groups; add conv='group'")

    def _reads(self, conv: ConvShape) -> int:
        """Number of channels that A reads."""
        return conv.cin if self.arrangement == "parallel" else conv.cout

    def _copies(self, conv: ConvShape) -> int:
        if self.conv != "copy_concat":
            return 1
        reads = self._reads(conv)
        return conv.cout // reads if conv.cout > reads else 2

    @property
    def _groups(self) -> int:
        return self.group_count if self.conv == "group" else 1

    def skip_reason(self, conv: ConvShape) -> str:
        """The channels must make whole copies or groups, a parallel 1x1 must be the kernel's centre tap."""
        reads = self._reads(conv)
        if self.arrangement == "parallel" and (why := no_centre_tap(conv)):
            return why
        if conv.groups != 1:
            return f"its {conv.groups} groups read only their own inputs, a 1x1 after them mixes all of them"
        if self.conv == "copy_concat" and conv.cout % (reads if conv.cout > reads else 2):
            return f"{reads} channels make no whole number of copies for {conv.cout} channels"
        if reads % self._groups or conv.cout % self._groups:
            return f"{reads} and {conv.cout} channels make no {self._groups} groups"
        if self.arrangement == "serial" and conv.cout == self._groups:
            return "one channel a group is a scale, which batch norm cancels"
        return ""

    def layer(self, conv):
        """conv(x) + λ A x, or y + λ A y of y = conv(x), at this convolution."""

        from visual_decathlon.methods.layers.grid import GridParallel, GridSerial, Mix

        shape = ConvShape.of(conv)
        learned = self.scale == "learned"
        mix = Mix(conv.weight, self._reads(shape), conv.out_channels, self._copies(shape), self._groups, learned)
        return (GridParallel if self.arrangement == "parallel" else GridSerial)(conv, mix)

    def new_floats(self, conv: ConvShape) -> int:
        """c cout / m / g, c the channels that A reads, m copies and g groups; 1 more for a learned λ."""
        return self._reads(conv) * conv.cout // self._copies(conv) // self._groups + (self.scale == "learned")
