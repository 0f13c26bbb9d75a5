"""The frozen network: a head on features that are computed once."""

from dataclasses import dataclass

from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import Shapes


@register
@dataclass(frozen=True)
class Feature(Method):
    """Rebuffi, Bilen, Vedaldi 2017, "feature extractor": head only, batch norm as the source left it.

    Features are computed once for `cached_views` crops of each image, so that training is almost free after that; the
    released code recomputes them at every step. It stores only the head: #par. 1.
    """

    name = "feature"
    label = "Feature extractor"
    family = "frozen"
    fidelity = "reproduction"
    paper = "Rebuffi 2017, arXiv 1705.08045"
    mergeable = True
    lr = 0.1
    cached_views = 8

    def place(self, source, classes):
        """The shared network with a fresh head."""

        from visual_decathlon.methods.layers.network import new_head, share

        network = share(source)
        new_head(network, classes)
        return network

    def split(self, network):
        """The frozen body, and the head."""
        return network.body, network.head

    def floats(self, shapes: Shapes) -> int:
        """0."""
        return 0
