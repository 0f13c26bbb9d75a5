"""SNELL, sparse tuning without stored masks: the largest entries of an update that few points define."""

from dataclasses import dataclass

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.per_conv import PerConv
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import ConvShape, Shapes


@register
@dataclass(frozen=True)
class SNELL(PerConv):
    """SNELL (Shen 2024): ΔM = keep-largest(Σ_h c_h dist(Q_out,h, Q_in,h)), two heads of dim / 2, c = 0.1 and -0.1.

    dist is the Euclidean distance between a row's and a column's point. In each layer the share 1 - `sparsity` of the
    entries with the largest size is kept, chosen again at every step. The start is `near`: the points start as
    Kaiming's, scaled until |ΔM| is 3e-4 of |M|, which changes features by less than 2 % (unscaled, ΔM is 7 % of M and
    adds up over the columns). The release multiplies the kept entries by their own size, which makes their gradients as
    small; that is not done here.

    What else differs: the release has a sparsity for each task, from 0, where nothing is dropped (13 of its scripts),
    to 0.995; here it is one for all domains. Its recipe has AdamW and a drop-path of 0.1 in the backbone's blocks; here
    it is that of all methods, without drop-path. The paper adapts the linear maps of a transformer; here M is a
    convolution as a matrix.

    It stores dim (cout + n) a convolution: #par. 2.69 at dim 32. The paper's dim 32 is small beside the 768 to 3072
    rows and columns of its matrices, and large beside these.
    """

    name = "snell"
    label = "SNELL"
    family = "sparse"
    fidelity = "adaptation"
    paper = "Shen 2024, arXiv 2411.01800"
    mergeable = True
    lr = 0.3
    start_tolerance = 0.05

    dim: int = 32
    sparsity: float = 0.9

    def __post_init__(self):
        if self.dim < 2 or self.dim % 2:
            raise InputError(f"snell(dim={self.dim}): dim is shared by two heads; it must be even, 2 or more")
        if not 0 <= self.sparsity < 1:
            raise InputError(f"snell(sparsity={self.sparsity:g}): sparsity must be 0 or more and below 1")

    def check(self, shapes: Shapes) -> None:
        """Raises InputError where a head has more dimensions than every matrix of the backbone."""
        super().check(shapes)
        largest = max(min(c.cout, c.fan_in) for c in shapes.convs)
        if self.dim > 2 * largest:
            raise InputError(
                f"snell(dim={self.dim}): each of its two heads has more dimensions than every matrix of this backbone "
                f"({largest}); lower it"
            )

    @property
    def start(self):
        """`near`: the points start small, not at zero."""
        return "near"

    def kept(self, conv: ConvShape) -> int:
        """Number of entries of ΔM that are not zero."""
        return max(1, round((1 - self.sparsity) * conv.cout * conv.fan_in))

    def layer(self, conv):
        """M + ΔM at this convolution."""

        from visual_decathlon.methods.layers.snell import SNELLConv

        return SNELLConv(conv, self.dim, self.kept(ConvShape.of(conv)))

    def new_floats(self, conv):
        """dim (cout + n)."""
        return self.dim * (conv.cout + conv.fan_in)
