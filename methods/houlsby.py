"""Houlsby's bottleneck adapter, one in each residual block."""

from dataclasses import dataclass

from visual_decathlon.methods.per_block import PerBlock
from visual_decathlon.methods.registry import register


@register
@dataclass(frozen=True)
class Houlsby(PerBlock):
    """h + U relu(D h), h the output of the last batch norm on a residual block's main path (Houlsby 2019).

    The paper has one after each half of a transformer layer. Here each residual block has one, before its sum, and the
    two projections are 1x1 convolutions without biases. U starts at zero: the identity. Batch norm is the domain's
    own, as the paper trains layer norm. It stores 2 C m for a block of C channels, m the bottleneck: #par. 1.06.
    """

    name = "houlsby"
    label = "Houlsby"
    family = "adapter grid"
    fidelity = "adaptation"
    paper = "Houlsby 2019, arXiv 1902.00751"
    mergeable = False
    lr = 0.1
    instead = "par_adapter"

    bottleneck: int = 8

    def after_norm(self, norm):
        """The norm with the adapter behind it."""

        from visual_decathlon.methods.layers.houlsby import BottleneckNorm

        return BottleneckNorm(norm, self.bottleneck)

    def new_floats(self, channels: int) -> int:
        """2 C m."""
        return 2 * self.bottleneck * channels
