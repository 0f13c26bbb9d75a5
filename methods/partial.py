"""Partial fine-tuning: the last blocks of the network per domain, all before them shared."""

from dataclasses import dataclass

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import Shapes, onwards


@register
@dataclass(frozen=True)
class Partial(Method):
    """Partial fine-tuning: the `last` residual blocks, all layers after them and the head are the domain's own.

    They start at the shared weights: the identity. Their batch norms have the domain's statistics, those of the shared
    part keep the source's. (Yosinski 2014 studies which layers transfer; there the trained layers have a random
    start.) It stores every weight of those blocks: #par. 2.83 with last=1. With `views` above 0 the shared part is
    computed once for this many crops of each image, as in `feature`, and not at every step; with 0 every epoch draws
    new crops.
    """

    name = "partial"
    label = "Partial finetune"
    family = "own network"
    fidelity = "reproduction"
    paper = "Yosinski 2014, arXiv 1411.1792"
    mergeable = True
    lr = 0.05

    views: int = 0
    last: int = 1

    @property
    def cached_views(self):
        """The option `views`."""
        return self.views

    def __post_init__(self):
        if self.views < 0:
            raise InputError(f"partial(views={self.views}): views must be 0 or more")
        if self.last < 1:
            raise InputError(f"partial(last={self.last}): last must be 1 or more; for a head alone there is feature")

    def check(self, shapes: Shapes) -> None:
        """Raises InputError where the backbone has fewer blocks than `last`, or with views cannot be cut there."""
        if self.last > len(shapes.blocks):
            raise InputError(
                f"partial(last={self.last}): this backbone has {len(shapes.blocks)} residual blocks; "
                "lower last, or use finetune for all weights"
            )
        block = shapes.blocks[-self.last]
        if self.views and not shapes.chain and block not in shapes.cuts:
            raise InputError(
                f"{self.spec}: this backbone cannot be cut in front of {block}, since what follows reads more than one "
                "map of what comes before; use views=0"
            )

    def place(self, source, classes):
        """The shared network with its last blocks, all layers after them and a fresh head as its own."""

        from visual_decathlon.methods.layers.network import new_head, own_layer, share

        network = share(source)
        self.check(network.shapes)
        for layer in onwards(network.shapes.order, network.blocks[-self.last]):
            own_layer(network.get_submodule(layer))
        new_head(network, classes)
        return network

    def split(self, network):
        """The shared blocks, and the domain's own ones with the head."""

        from visual_decathlon.methods.layers.cut import cut

        return cut(network, network.blocks[-self.last])

    def floats(self, shapes: Shapes) -> int:
        """All weights from the first of the last blocks to the end."""
        first = shapes.blocks[-self.last]
        layers = (*shapes.convs, *shapes.norms, *shapes.others)
        floats = {layer.name: layer.floats for layer in layers}
        return sum(floats[name] for name in onwards(shapes.order, first))
