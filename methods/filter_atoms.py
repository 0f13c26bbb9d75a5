"""Filter-atom tuning: the small filters of which every kernel is made are adapted, how they are combined is not."""

from dataclasses import dataclass
from math import prod

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.per_conv import PerConv
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import ConvShape


@register
@dataclass(frozen=True)
class FilterAtoms(PerConv):
    """Chen, Miao, Qiu 2025: a k x l slice of W is Σ_m a_m D_m; atoms D adapt, the coefficients a of W stay frozen.

    W' = W + Σ_m a_m ΔD_m. With `inner` = 0, ΔD (k l, k l) is one for the layer. Otherwise each input channel i has its
    own, ΔD_i[m] = Σ_j β[m, i, j] E[m, j] of `inner` = r atoms E a atom, the paper's overcomplete form. ΔD, and E,
    start at zero: the identity; β is normal with variance 1 / r (in the release Kaiming over all of β, far smaller).
    The release codes W sparsely over a learned dictionary of nine atoms. For a 3x3 nine are a basis, and any basis
    gives one set of W' = W (I + T) with `inner` = 0; ours are the cosines of the grid, with nothing to be learned or
    stored, and a is exact. The form that also tunes the coefficients is not offered.
    It stores k l r (cin + k l) a convolution, #par. 1.21 with 4, or (k l)² without inner atoms, #par. 1.02. A 1x1 has
    one atom: with `inner` that is a scale for each input channel, without it a size that batch norm cancels.
    """

    name = "filter_atoms"
    label = "Filter atoms"
    family = "filter combinations"
    fidelity = "adaptation"
    paper = "Chen 2025, arXiv 2403.00269"
    mergeable = True
    lr = 0.1

    inner: int = 4

    def __post_init__(self):
        if self.inner < 0:
            raise InputError(f"filter_atoms(inner={self.inner}): inner is a number of atoms, or 0 for none")

    def largest_inner(self, conv: ConvShape) -> int:
        """The changes of one atom over the channels are a (cin, k l) matrix: min(cin, k l)."""
        return min(conv.cin, prod(conv.kernel))

    def inner_at(self, conv: ConvShape) -> int:
        """Inner atoms at this convolution: min(inner, largest)."""
        return min(self.inner, self.largest_inner(conv))

    def skip_reason(self, conv: ConvShape) -> str:
        """A 1x1 whose single atom batch norm would cancel."""
        if prod(conv.kernel) > 1 or (self.inner and conv.groups < conv.cin):
            return ""
        return "a 1x1 has one atom, whose size batch norm cancels"

    def check(self, shapes) -> None:
        """Raises InputError where `inner` is larger than every convolution allows."""
        super().check(shapes)
        largest = max(map(self.largest_inner, self.adapted(shapes)))
        if self.inner > largest:
            raise InputError(
                f"filter_atoms(inner={self.inner}): an atom of this backbone has at most {largest} inner atoms; "
                "lower it"
            )

    def layer(self, conv):
        """W + a ΔD at this convolution."""

        from visual_decathlon.methods.layers.filter_atoms import AtomsConv, InnerAtomsConv

        return InnerAtomsConv(conv, self.inner_at(ConvShape.of(conv))) if self.inner else AtomsConv(conv)

    def new_floats(self, conv: ConvShape) -> int:
        """k l r (cin + k l), or (k l)² without inner atoms."""
        taps, rank = prod(conv.kernel), self.inner_at(conv)
        return taps * rank * (conv.cin + taps) if self.inner else taps**2
