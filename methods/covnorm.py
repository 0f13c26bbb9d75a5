"""CovNorm: 1x1 adapters reduced by the covariances of the features that they read and add."""

from dataclasses import dataclass

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.per_conv import PerConv, grouped
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import ConvShape


@register
@dataclass(frozen=True)
class CovNorm(PerConv):
    """Li, Vasconcelos 2019: y + C M W y after every convolution, W whitening, M a mini-adapter, C colouring.

    In the first half of the steps a whole adapter A (cout, cout) is trained, from zero: the identity. A principal
    component analysis of the features y, whose covariance the steps collect, and one of the adapter's outputs A y keep
    r = `keep` · cout components each: W (r, cout) makes the kept components of y white, C (cout, r) gives white values
    the covariance of A y, and M (r, r) starts at what A does between the two. The second half trains M; W and C stay.
    Means are left out: the domain's batch norm, which follows, removes them.
    The paper trains A to the end before it reduces it, and keeps in every layer the components that explain a given
    part of the variance; here r is a fixed part of the channels, 0.105 for the printed #par. of 1.25. Its adapters are
    those of residual adapters; that ours have no norm inside, and stand on a backbone pretrained without them, is ours.
    Its joint form, with C and W shared by the domains, is not offered.
    It stores 2 cout r + r² a convolution (cout² where that is less) and 2 a batch norm channel: #par. 1.25.
    Convolutions with groups are left alone.
    """

    name = "covnorm"
    label = "CovNorm"
    family = "residual adapters"
    fidelity = "adaptation"
    paper = "Li 2019, arXiv 1906.10267"
    mergeable = True
    revision = 2  # 1 kept the momentum of A, which moved M in other coordinates
    lr = 0.1

    keep: float = 0.105

    def __post_init__(self):
        if not 0 < self.keep < 1:
            raise InputError(f"covnorm(keep={self.keep!r}): keep is a part of the channels, between 0 and 1")

    def skip_reason(self, conv: ConvShape) -> str:
        """Convolutions with groups are left alone."""
        return grouped(conv)

    def rank_at(self, conv: ConvShape) -> int:
        """r: `keep` · cout, rounded, and at least 1."""
        return max(1, round(self.keep * conv.cout))

    def _is_smaller(self, conv: ConvShape) -> bool:
        rank = self.rank_at(conv)
        return 2 * conv.cout * rank + rank**2 < conv.cout**2

    def layer(self, conv):
        """(I + C M W) M' at this convolution of the matrix M', or (I + A) M' where C, M and W are not smaller."""

        from visual_decathlon.methods.layers.covnorm import CovNormConv
        from visual_decathlon.methods.layers.dan import CombinedConv

        shape = ConvShape.of(conv)
        return CovNormConv(conv, self.rank_at(shape)) if self._is_smaller(shape) else CombinedConv(conv)

    def after_step(self, network, step, steps):
        """Reduces the adapters after half of the steps, and returns the mini-adapters that they leave."""

        from visual_decathlon.methods.layers.covnorm import covnorm_convs

        if step != max(1, steps // 2):
            return ()
        convs = covnorm_convs(network)
        for conv in convs:
            conv.reduce()
        return [conv.mini for conv in convs]

    def new_floats(self, conv: ConvShape) -> int:
        """2 cout r + r², or cout² where that is less."""
        rank = self.rank_at(conv)
        return 2 * conv.cout * rank + rank**2 if self._is_smaller(conv) else conv.cout**2
