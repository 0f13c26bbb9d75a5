"""ΔW as an element-wise or a Kronecker product of small factors: a high rank from few floats."""

from dataclasses import dataclass
from math import isqrt, prod

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.low_rank import Scaled
from visual_decathlon.methods.per_conv import Ranked
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import ConvShape, KroneckerShape


@register
@dataclass(frozen=True)
class LoHa(Scaled):
    """FedPara's product as LyCORIS adds it (flat form): ΔM = λ (B1 A1) ⊙ (B2 A2) on the weight as a matrix.

    λ = alpha / rank; ΔM has a rank up to rank². B2 starts at zero: the identity; A2 starts as LoRA's A; B1 and A1 are
    normal such that the entries of B1 A1 have variance one. (This start is ours and learns about as fast as LoRA. With
    HF PEFT's start it learns some thirty times slower, and with that of its Tucker form, which is not here, not at
    all.) It stores 2 rank (n + cout) a convolution: #par. 1.43 at rank 4.
    """

    name = "loha"
    label = "LoHa"
    family = "products"
    fidelity = "adaptation"
    paper = "Hyeon-Woo 2022 (FedPara), arXiv 2108.06098; Yeh 2024 (LyCORIS), arXiv 2309.14859"
    mergeable = True
    lr = 0.15

    rank: int = 4
    alpha: float = 4.0

    def layer(self, conv):
        """W + λ (B1 A1) ⊙ (B2 A2) at this convolution."""

        from visual_decathlon.methods.layers.hadamard import LoHaConv

        return LoHaConv(conv, self.scale, self.rank_at(ConvShape.of(conv)))

    def new_floats(self, conv: ConvShape) -> int:
        """2 rank (n + cout)."""
        return 2 * self.rank_at(conv) * (conv.fan_in + conv.cout)


def two_factors(channels: int, factor: int) -> tuple[int, int]:
    """`channels` as a product of two: the first is `factor` if it divides, else the largest divisor below it.

    Unless `factor` divides, the first is at most the second; -1 gives the two that are closest to each other.
    """
    if factor > 0 and channels % factor == 0:
        return factor, channels // factor
    most = isqrt(channels) if factor == -1 else min(factor, isqrt(channels))
    first = next(d for d in range(most, 0, -1) if channels % d == 0)
    return first, channels // first


@register
@dataclass(frozen=True)
class LoKr(Scaled):
    """LyCORIS's Kronecker product: ΔW = λ W1 ⊗ W2, W1 (out1, in1), W2 (out2, in2, k, l), λ = alpha / rank.

    cout = out1 out2 and cin / groups = in1 in2, split by `factor` (-1: as evenly as possible). W2 is B A of this rank,
    or one whole matrix where the rank is at least half of the larger of out2 and in2, as in LyCORIS: with the default
    rank that is everywhere on the ResNet-26. W1 starts Kaiming uniform, and W2 or its factor B at zero: the identity
    (HF PEFT starts W1 at zero).

    Where LyCORIS and HF PEFT differ, this is PEFT's, with which it agrees to rounding: where W2 is whole, LyCORIS sets
    λ to 1 and PEFT leaves it alpha / rank (both are 1 by default); where `factor` divides the channels and is above
    their root, LyCORIS swaps the two parts, so that the first is the smaller one, and PEFT does not (with -1 there is
    no difference). For a convolution with groups in1 in2 is cin / groups; LyCORIS has no groups. Its options to
    decompose W1 too, and to factor W2 as a Tucker product, are not here.

    It stores out1 in1 + rank (out2 + in2 k l), or out1 in1 + out2 in2 k l: #par. 1.08.
    """

    name = "lokr"
    label = "LoKr"
    family = "products"
    fidelity = "adaptation"
    paper = "Edalati 2022 (KronA), arXiv 2212.10650; Yeh 2024 (LyCORIS), arXiv 2309.14859"
    mergeable = True
    lr = 0.1

    rank: int = 8
    alpha: float = 8.0
    factor: int = -1

    def __post_init__(self):
        super().__post_init__()
        if self.factor < 1 and self.factor != -1:
            raise InputError(f"lokr(factor={self.factor}): factor must be 1 or more, or -1 for an even split")

    def _split(self, conv: ConvShape) -> tuple[int, int, int, int]:
        return *two_factors(conv.cout, self.factor), *two_factors(conv.cin // conv.groups, self.factor)

    def largest_rank(self, conv: ConvShape) -> int:
        """The largest rank of W2 as a matrix: min(out2, in2 k l)."""
        _, out2, _, in2 = self._split(conv)
        return min(out2, in2 * prod(conv.kernel))

    def shapes_at(self, conv: ConvShape) -> KroneckerShape:
        """The shapes of W1 and W2 at this convolution."""
        out1, out2, in1, in2 = self._split(conv)
        whole = 2 * self.rank >= max(out2, in2)
        return KroneckerShape(out1, out2, in1, in2, conv.kernel, 0 if whole else self.rank_at(conv))

    def layer(self, conv):
        """W + λ W1 ⊗ W2 at this convolution."""

        from visual_decathlon.methods.layers.hadamard import LoKrConv

        return LoKrConv(conv, self.scale, self.shapes_at(ConvShape.of(conv)))

    def new_floats(self, conv: ConvShape) -> int:
        """out1 in1 + rank (out2 + in2 k l), or out1 in1 + out2 in2 k l."""
        return self.shapes_at(conv).floats


@register
@dataclass(frozen=True)
class HiRA(Ranked):
    """Huang et al. 2025: ΔM = M ⊙ (B A) on the weight as a matrix (cout, n): a change relative to the weight.

    B (cout, rank) starts at zero: the identity. A (rank, n) is normal with variance one (ours: B A multiplies weights,
    not activations; with HF PEFT's Kaiming start it learns 3n times slower). A weight of exactly zero stays zero.
    HF PEFT refuses groups; here M is one matrix for any number of groups. It stores rank (n + cout) a convolution:
    #par. 1.43 at rank 8.
    """

    name = "hira"
    label = "HiRA"
    family = "products"
    fidelity = "adaptation"
    paper = "Huang 2025, ICLR (OpenReview TwJrTz9cRS)"
    mergeable = True
    lr = 0.15

    rank: int = 8

    def largest_rank(self, conv: ConvShape) -> int:
        """min(cout, n)."""
        return min(conv.cout, conv.fan_in)

    def layer(self, conv):
        """W ⊙ (1 + B A) at this convolution."""

        from visual_decathlon.methods.layers.hadamard import HiRAConv

        return HiRAConv(conv, self.rank_at(ConvShape.of(conv)))

    def new_floats(self, conv: ConvShape) -> int:
        """rank (n + cout)."""
        return self.rank_at(conv) * (conv.fan_in + conv.cout)
