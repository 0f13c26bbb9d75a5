"""Houlsby's bottleneck adapter, one in each residual block."""

from dataclasses import dataclass

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import Shapes


@register
@dataclass(frozen=True)
class Houlsby(Method):
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

    bottleneck: int = 8

    def __post_init__(self):
        if self.bottleneck < 1:
            raise InputError(f"houlsby(bottleneck={self.bottleneck}): the bottleneck must be 1 or more")

    def check(self, shapes: Shapes) -> None:
        """Raises InputError for a backbone without residual blocks, or narrower than the bottleneck."""
        if not shapes.blocks:
            raise InputError("houlsby adapts residual blocks and this backbone has none; use par_adapter")
        widest = max((n.channels for n in shapes.norms), default=self.bottleneck)
        if self.bottleneck > widest:
            raise InputError(
                f"houlsby(bottleneck={self.bottleneck}) is no bottleneck: this backbone's widest layer has {widest} "
                "channels; lower it"
            )

    def place(self, source, classes):
        """The shared network with own batch norms, a bottleneck after the last one of each block, and a fresh head."""

        from visual_decathlon.methods.layers.houlsby import BottleneckNorm
        from visual_decathlon.methods.layers.network import last_norms, new_head, norms, own, share

        network = share(source)
        self.check(Shapes((), (), 0, network.blocks))
        own(*norms(network))
        for last in last_norms(network):
            network.set_submodule(last, BottleneckNorm(network.get_submodule(last), self.bottleneck))
        new_head(network, classes)
        return network

    def floats(self, shapes: Shapes) -> int:
        """2 floats for each batch norm channel, and 2 C m for each block of C channels."""
        # A shortcut's norm has as many channels as the last one, to which it is added.
        last = [[n.channels for n in shapes.norms if n.name.startswith(f"{block}.")][-1] for block in shapes.blocks]
        return shapes.affine + 2 * self.bottleneck * sum(last)
