"""Householder adaptation: ΔW like a singular value decomposition whose orthogonal factors are single reflections."""

from dataclasses import dataclass
from math import prod

from visual_decathlon.methods.per_conv import Ranked
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import ConvShape


@register
@dataclass(frozen=True)
class Householder(Ranked):
    """Dong 2024: ΔW[:, :, u, v] = H_L D_uv H_R per tap plus a low-rank B A of the whole matrix.

    H_L and H_R are Householder reflections I - 2 v vᵀ / |v|² of the filters and of the input channels (of a group).
    All taps share them; their vectors start random with unit length. D_uv is diagonal, cout by cin. D and B start at
    zero: the identity. It stores cout + cin + k² min(cout, cin) + r (cout + n) a convolution: #par. 1.12. The paper
    adapts matrices; a flattened kernel would pair channels by their position in memory, so each tap has its own
    diagonal here.
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
        """min(cout, n)."""
        return min(conv.cout, conv.fan_in)

    def layer(self, conv):
        """W + H_L D H_R for each tap + B A at this convolution."""

        from visual_decathlon.methods.layers.householder import HouseholderConv

        return HouseholderConv(conv, self.rank_at(ConvShape.of(conv)))

    def new_floats(self, conv):
        """cout + cin + k l min(cout, cin) + r (cout + n), cin the input channels of a group."""
        cin = conv.cin // conv.groups
        diagonals = prod(conv.kernel) * min(conv.cout, cin)
        return conv.cout + cin + diagonals + self.rank_at(conv) * (conv.cout + conv.fan_in)
