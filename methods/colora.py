"""CoLoRA, correlated low-rank adaptation: two convolutions in a row share a part of their ranks."""

from dataclasses import dataclass
from itertools import pairwise
from math import prod

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.low_rank import Scaled
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import ConvShape, Shapes


def pairs(shapes: Shapes) -> list[tuple[ConvShape, ConvShape]]:
    """Convolutions in a row in one residual block, the second of which reads what the first one writes; no groups."""
    found: list[tuple[ConvShape, ConvShape]] = []
    for block in shapes.blocks:
        taken = ""
        for first, second in pairwise(shapes.inside(block)):
            if first.name != taken and first.cout == second.cin and first.groups == second.groups == 1:
                found.append((first, second))
                taken = second.name
    return found


@register
@dataclass(frozen=True)
class CoLora(Scaled):
    """Ran et al. 2025: LoRA whose factors a pair of layers shares, each pulled through the other's frozen weight.

    For convolutions in a row, M1 (h, n1) and M2 (cout k l, h), the latter a row for every output and tap:
    ΔM1 = λ (B1 A1 + M2ᵀ B A) and ΔM2 = λ (B2 A2 + B A M1ᵀ). A (`shared`, n1) and B (cout k l, `shared`) belong to both,
    B1, A1, B2 and A2 have the other `rank` - `shared` ranks. B, B1 and B2 start at zero: the identity; A, A1 and A2
    start as LoRA's A, and λ = alpha / rank.
    The paper's pair are the two 1x1 of a ConvNeXt block, where this is its ΔW; with taps it is ours. Pairs here are the
    two convolutions of a basic block, and the first two of a bottleneck; every other convolution has LoRA of the whole
    rank. The release differs: M1 and M2 there are the adapted weights of the step before, and each product is divided
    by the standard deviations of its factors, which suits Adam; SGD would have steps some hundred times as large as in
    LoRA. Its filter without parameters, which widens what a LoRA of a depthwise convolution sees, acts on features,
    depends on the image, and would not merge: it is left out. So is the rule of a rank of a sixteenth of the channels.
    It stores r1 (n1 + cout k l) and r2 (n1 + h + n2 + cout) a pair with r1 = `shared` and r2 = `rank` - `shared`, and
    rank (n + cout) for other convolutions: #par. 1.41.
    """

    name = "colora"
    label = "CoLoRA"
    family = "low rank"
    fidelity = "adaptation"
    paper = "Ran 2025, NeurIPS (OpenReview 3pF7rt9fQM)"
    mergeable = True
    lr = 0.15

    rank: int = 8
    shared: int = 4
    alpha: float = 8.0

    def __post_init__(self):
        super().__post_init__()
        if not 0 < self.shared < self.rank:
            raise InputError(
                f"colora(rank={self.rank}, shared={self.shared}): shared must be 1 or more and below rank; without "
                "shared ranks there is lora"
            )

    def layer(self, conv):
        """W + λ B A at this convolution; `place` replaces it where there is a pair."""

        from visual_decathlon.methods.layers.low_rank import LoraConv

        return LoraConv(conv, self.scale, self.rank_at(ConvShape.of(conv)))

    def own_rank_at(self, conv: ConvShape) -> int:
        """The rank of a paired convolution's own factors: min(rank - shared, largest)."""
        return min(self.rank - self.shared, self.largest_rank(conv))

    def shared_rank_at(self, first: ConvShape, second: ConvShape) -> int:
        """The rank of a pair's factors: min(shared, h, n1, cout k l)."""
        return min(self.shared, self.largest_rank(first), second.cout * prod(second.kernel))

    def place(self, source, classes):
        """As a PerConv, with the pairs of convolutions put together."""

        from visual_decathlon.methods.layers.colora import FirstConv, SecondConv

        network = super().place(source, classes)
        for first, second in pairs(network.shapes):
            here, after = (network.get_submodule(c.name).conv for c in (first, second))
            shared = self.shared_rank_at(first, second)
            adapter = FirstConv(here, after, self.scale, self.own_rank_at(first), shared)
            network.set_submodule(first.name, adapter)
            network.set_submodule(second.name, SecondConv(after, adapter, self.scale, self.own_rank_at(second)))
        return network

    def new_floats(self, conv: ConvShape) -> int:
        """rank (n + cout): what a convolution outside of pairs stores."""
        return self.rank_at(conv) * (conv.fan_in + conv.cout)

    def floats(self, shapes: Shapes) -> int:
        """As a PerConv, with every pair's own and shared factors in place of its two convolutions'."""
        total = super().floats(shapes)
        for first, second in pairs(shapes):
            total -= self.new_floats(first) + self.new_floats(second)
            total += sum(self.own_rank_at(c) * (c.fan_in + c.cout) for c in (first, second))
            total += self.shared_rank_at(first, second) * (first.fan_in + second.cout * prod(second.kernel))
        return total
