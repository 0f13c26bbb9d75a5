"""FacT, factor tuning: one low-rank tensor for the ΔW of all layers."""

from dataclasses import dataclass
from math import prod
from typing import Literal

from visual_decathlon.methods.low_rank import require_positive
from visual_decathlon.methods.per_conv import Ranked, grouped
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import ConvShape, Shapes


@register
@dataclass(frozen=True)
class FacT(Ranked):
    """Jie, Deng 2023: ΔW[l, s] = λ V S[l, s] Uᵀ for the tap s of layer l, U and V shared by the layers, r = `rank`.

    A ViT's matrices are all d x d, or made of such blocks, and are the slices of one tensor. Here every tap of a kernel
    is a slice. A ResNet's channels differ, so that layers with as many inputs share U (cin, r), and layers with as many
    outputs V (cout, r). With `form` = 'tt' (FacT-TT, a tensor train) each slice has its own S (r, r). With 'tk'
    (FacT-TK, Tucker) S[l, s] = Σ_c P[l, s, c] C[c], C (r, r, r) shared by all layers of the domain.
    V starts at zero: the identity; all others are normal and keep the size of what they multiply. λ is `scale`, which
    the paper chooses a task from 0.01 to 100 (with Adam); with SGD at this rate 'tk' diverges at 1. Its dropout of 0.1
    between the factors is left out.
    It stores r cin for each number of inputs, r cout for each number of outputs, and r² k l a convolution ('tt', #par.
    1.12), or r k l a convolution and r³ once ('tk', #par. 1.05). Convolutions with groups are left alone.
    """

    name = "fact"
    label = "FacT"
    family = "shared projections"
    fidelity = "adaptation"
    paper = "Jie 2023, arXiv 2212.03145"
    mergeable = True
    lr = 0.3

    rank: int = 16
    form: Literal["tt", "tk"] = "tt"
    scale: float = 0.3

    def __post_init__(self):
        super().__post_init__()
        require_positive(self, "scale")

    def skip_reason(self, conv: ConvShape) -> str:
        """Convolutions with groups are left alone."""
        return grouped(conv)

    def largest_rank(self, conv: ConvShape) -> int:
        """min(cin, cout); the factors, which layers share, have the whole rank at smaller layers too."""
        return min(conv.cin, conv.cout)

    def layer(self, conv):
        """W + λ V (S U) at this convolution."""

        from visual_decathlon.methods.layers.fact import FactConv

        return FactConv(conv, self.scale, self.rank, self.form == "tk")

    def place(self, source, classes):
        """As a PerConv; layers then share the factors over channels, and with 'tk' the core."""

        from visual_decathlon.methods.layers.fact import share_factors

        network = super().place(source, classes)
        share_factors(network)
        return network

    def new_floats(self, conv: ConvShape) -> int:
        """r² k l, or r k l with 'tk'; what layers share is counted in `floats`."""
        return prod(conv.kernel) * self.rank ** (2 if self.form == "tt" else 1)

    def floats(self, shapes: Shapes) -> int:
        """As a PerConv, plus U for each number of inputs, V for each number of outputs, and with 'tk' the core."""
        convs = self.adapted(shapes)
        widths = sum({c.cin for c in convs}) + sum({c.cout for c in convs})
        return super().floats(shapes) + self.rank * widths + (self.rank**3 if self.form == "tk" else 0)
