"""Adapter re-composing: one projection for all layers of a width, a few coefficients for each."""

from dataclasses import dataclass

from visual_decathlon.methods.per_conv import Ranked, grouped
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import ConvShape, Shapes


@register
@dataclass(frozen=True)
class ARC(Ranked):
    """ARC (Dong 2023): M <- (I + P_C diag(c_l) P_Cᵀ) M, and a convolution's own bias likewise.

    All layers of C filters share P_C, within a domain. c starts at zero, the identity, P_C as Xavier has it.
    ARC's own bias, C floats a layer, would stand in front of a batch norm, which takes it out in training; behind
    it, it adds to the norm's shift β, and one of the two is enough: β, the domain's own anyway, is ARC's bias. So
    the method's Σ_widths C r + Σ_layers (r + C) is all there, C among batch norm's 2 C: beside those it stores
    Σ_widths C r + Σ_layers r. #par. 1.04 at rank 32. Convolutions in groups are left alone: their filters read
    different channels.
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
        return grouped(conv)

    def largest_rank(self, conv):
        return conv.cout

    def layer(self, conv):
        from visual_decathlon.methods.layers.arc import ARCConv

        return ARCConv(conv, self.rank_at(ConvShape.of(conv)))

    def place(self, source, classes):
        from visual_decathlon.methods.layers.arc import share_projections

        network = super().place(source, classes)
        share_projections(network)
        return network

    def new_floats(self, conv):
        return self.rank_at(conv)

    def floats(self, shapes: Shapes) -> int:
        ranks = {c.cout: self.rank_at(c) for c in self.adapted(shapes)}
        return super().floats(shapes) + sum(width * rank for width, rank in ranks.items())
