"""Houlsby's bottleneck adapter, one a residual block."""

from dataclasses import dataclass

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import Shapes


@register
@dataclass(frozen=True)
class Houlsby(Method):
    """h + U relu(D h), h what the last batch norm of a residual block's main path gives (Houlsby 2019).

    Born behind the two halves of a transformer layer; on a ResNet a block has one, in front of its sum, and its
    two projections are 1x1s without biases. U starts at zero: the identity. Batch norm is the domain's, as
    layer norm is trained there. Stores 2 C m a block of C channels, m the bottleneck: #par. 1.06.
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
        if not shapes.blocks:
            raise InputError("houlsby stands in residual blocks and this backbone has none; take par_adapter")
        widest = max((n.channels for n in shapes.norms), default=self.bottleneck)
        if self.bottleneck > widest:
            raise InputError(
                f"houlsby(bottleneck={self.bottleneck}) is no bottleneck: this backbone's widest layer has {widest} "
                "channels; lower it"
            )

    def place(self, source, classes):
        from visual_decathlon.methods.layers.houlsby import BottleneckNorm
        from visual_decathlon.methods.layers.network import new_head, norms, own, share

        network = share(source)
        self.check(Shapes((), (), 0, network.blocks))
        own(*norms(network))
        for block in network.blocks:
            last = [s.norm for s in network.sites if s.conv.startswith(f"{block}.") and not s.shortcut][-1]
            network.set_submodule(last, BottleneckNorm(network.get_submodule(last), self.bottleneck))
        new_head(network, classes)
        return network

    def floats(self, shapes: Shapes) -> int:
        # A shortcut's norm has as many channels as the last one, to which it is added.
        last = [[n.channels for n in shapes.norms if n.name.startswith(f"{block}.")][-1] for block in shapes.blocks]
        return shapes.affine + 2 * self.bottleneck * sum(last)
