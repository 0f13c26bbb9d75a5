"""Adaptation by Householder transformations: a singular value decomposition of which only the values are many."""

from dataclasses import dataclass
from math import prod

from visual_decathlon.methods.per_conv import Ranked
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import ConvShape


@register
@dataclass(frozen=True)
class Householder(Ranked):
    """Dong 2024: ΔW[:, :, u, v] = H_L D_uv H_R per tap plus a low-rank B A of the whole matrix.

    H_L and H_R are Householder reflections I - 2 v vᵀ / |v|² of the filters and of the input channels (of a
    group), shared by the taps, their vectors random of unit length; D_uv is diagonal, cout by cin. D and B
    start at zero, the identity. Stores cout + cin + k² min(cout, cin) + r (cout + n) a convolution: #par. 1.12.
    The paper adapts matrices; taking a kernel flat would pair channels by their place in memory, so here
    every tap has its own diagonal.
    """

    name = "householder"
    label = "Householder"
    family = "Householder"
    fidelity = "adaptation"
    paper = "Dong 2024, arXiv 2410.22952"
    mergeable = True
    lr = 0.15

    rank: int = 1

    def largest_rank(self, conv):
        return min(conv.cout, conv.fan_in)

    def layer(self, conv):
        from visual_decathlon.methods.layers.householder import HouseholderConv

        return HouseholderConv(conv, self.rank_at(ConvShape.of(conv)))

    def new_floats(self, conv):
        cin = conv.cin // conv.groups
        diagonals = prod(conv.kernel) * min(conv.cout, cin)
        return conv.cout + cin + diagonals + self.rank_at(conv) * (conv.cout + conv.fan_in)
