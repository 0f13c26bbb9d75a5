"""ARC, adapter re-composing: two projections for all layers of a width, a few coefficients for each layer."""

from dataclasses import dataclass

from visual_decathlon.methods.per_conv import Ranked, grouped
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import ConvShape, Shapes, first_of_blocks


@register
@dataclass(frozen=True)
class ARC(Ranked):
    """ARC (Dong 2023): conv((I + P diag(c_l) Pᵀ) x), P shared by layers, c_l of each: W <- W (I + P diag(c_l) Pᵀ).

    As in the paper, what a layer reads is adapted, and a width has two projections of `rank` columns: a transformer has
    one in front of its attention and one in front of its MLP, here the first convolutions of residual blocks share one
    and all others with as many input channels the second. P starts as Xavier's and c at zero: the identity. The rank is
    at most the number of input channels; the paper's 50 is for 768 of them.

    What differs from the release: its second c starts as Xavier's, so that it is no identity. Its adapter has a bias
    too, one float a channel; in front of a convolution that is one constant for each of the output's channels, except
    where the padding's zeros do not have it, and batch norm cancels that constant in training. It is left out, so that
    the adapter merges. Its dropout within the adapter is left out too (0 in its configurations, 0.1 by default in its
    training command). Convolutions with groups are left alone: their filters read different channels.

    It stores r floats a convolution, and C r for each projection of C channels: #par. 1.06, at rank 50 1.08. (The
    release's own form on a ViT-B is 2 · 768 · 50 floats and 24 (50 + 768), the biases among them: 96,432.)
    """

    name = "arc"
    label = "ARC"
    family = "shared projections"
    fidelity = "adaptation"
    paper = "Dong 2023, arXiv 2310.06234"
    mergeable = True
    revision = 2
    lr = 0.1

    rank: int = 32

    def skip_reason(self, conv):
        """Convolutions with groups are left alone."""
        return grouped(conv)

    def largest_rank(self, conv):
        """cin."""
        return conv.cin

    def layer(self, conv):
        """W (I + P diag(c) Pᵀ) at this convolution."""

        from visual_decathlon.methods.layers.arc import ARCConv

        return ARCConv(conv, self.rank_at(ConvShape.of(conv)))

    def place(self, source, classes):
        """As a PerConv; layers of one width and place in a block then share the first one's projection."""

        from visual_decathlon.methods.layers.arc import share_projections

        network = super().place(source, classes)
        share_projections(network)
        return network

    def new_floats(self, conv):
        """r: the coefficients c; the projections are counted in `floats`."""
        return self.rank_at(conv)

    def floats(self, shapes: Shapes) -> int:
        """As a PerConv, plus C r for every projection."""
        heads = first_of_blocks([c.name for c in shapes.convs], shapes.blocks)
        ranks = {(c.cin, c.name in heads): self.rank_at(c) for c in self.adapted(shapes)}
        return super().floats(shapes) + sum(width * rank for (width, _), rank in ranks.items())
