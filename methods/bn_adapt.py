"""BN adaptation: batch norm per domain."""

from dataclasses import dataclass

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import Shapes


@register
@dataclass(frozen=True)
class BNAdapt(Method):
    """Bilen, Vedaldi 2017 (arXiv 1701.07275): scale, shift and running statistics of every batch norm.

    On a transformer the norms are layer norms, which have no statistics: it is layer-norm tuning. It starts at the
    source's affine values and statistics: the identity. It stores 2 floats a channel: #par. 1.01.
    """

    name = "bn_adapt"
    label = "BN adapt."
    family = "batch norm"
    fidelity = "reproduction"
    paper = "Bilen 2017, arXiv 1701.07275"
    mergeable = True
    lr = 0.2

    def check(self, shapes: Shapes) -> None:
        """Raises InputError for a backbone whose norms have no affine values: it would be `feature`."""
        if not any(norm.batch or norm.floats for norm in shapes.norms):
            raise InputError("bn_adapt trains a backbone's norms, and this one has none; use feature or bitfit")

    def place(self, source, classes):
        """The shared network with its own batch norms and a fresh head."""

        from visual_decathlon.methods.layers.network import new_head, own, share

        network = share(source)
        own(*(network.get_submodule(norm.name) for norm in network.shapes.norms))
        new_head(network, classes)
        return network

    def floats(self, shapes: Shapes) -> int:
        """2 floats for each channel of a norm that has a scale and a shift."""
        return sum(norm.floats for norm in shapes.norms)
