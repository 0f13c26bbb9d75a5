"""ARC, adapter re-composing: one projection for all layers of a width, a few coefficients for each layer."""

from dataclasses import dataclass

from visual_decathlon.methods.per_conv import Ranked, grouped
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import ConvShape, Shapes


@register
@dataclass(frozen=True)
class ARC(Ranked):
    """ARC (Dong 2023): M <- (I + P_C diag(c_l) P_Cᵀ) M, and a convolution's own bias likewise.

    All layers of a domain with C filters share P_C. c starts at zero: the identity; P_C starts as Xavier's. ARC's own
    bias, C floats a layer, would come before a batch norm, which cancels it in training. The norm's shift β, which is
    the domain's own, takes its place. So of the paper's Σ_widths C r + Σ_layers (r + C), the C are among batch norm's
    2 C, and it stores Σ_widths C r + Σ_layers r in addition: #par. 1.04 at rank 32. Convolutions with groups are left
    alone: their filters read different channels.
    """

    name = "arc"
    label = "ARC"
    family = "shared projections"
    fidelity = "adaptation"
    paper = "Dong 2023, arXiv 2310.06234"
    mergeable = True
    lr = 0.1

    rank: int = 32

    def skip_reason(self, conv):
        """Convolutions with groups are left alone."""
        return grouped(conv)

    def largest_rank(self, conv):
        """cout."""
        return conv.cout

    def layer(self, conv):
        """(I + P diag(c) Pᵀ) M at this convolution."""

        from visual_decathlon.methods.layers.arc import ARCConv

        return ARCConv(conv, self.rank_at(ConvShape.of(conv)))

    def place(self, source, classes):
        """As a PerConv; layers of one width then share the first one's projection."""

        from visual_decathlon.methods.layers.arc import share_projections

        network = super().place(source, classes)
        share_projections(network)
        return network

    def new_floats(self, conv):
        """r: the coefficients c; the projections are counted in `floats`."""
        return self.rank_at(conv)

    def floats(self, shapes: Shapes) -> int:
        """As a PerConv, plus Σ_widths C r for the projections."""
        ranks = {c.cout: self.rank_at(c) for c in self.adapted(shapes)}
        return super().floats(shapes) + sum(width * rank for width, rank in ranks.items())
