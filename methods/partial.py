"""The last blocks of the network per domain, all before them shared."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import dropwhile

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import Shapes


def onwards(names: Iterable[str], block: str) -> list[str]:
    """Of module paths in the network's order, those from the first that lies in `block` to the end."""
    return list(dropwhile(lambda name: not name.startswith(f"{block}."), names))


@register
@dataclass(frozen=True)
class Partial(Method):
    """Partial fine-tuning: the `last` residual blocks, what lies behind them, and the head are the domain's own.

    They start at the shared weights; their batch norms have the domain's statistics, those of the
    shared part keep the source's. (Yosinski 2014 is the study of which layers transfer; there the
    trained ones start afresh.) Stores every weight of those blocks: #par. 2.83 with last=1.
    With `views` the shared part is computed once for so many crops of each image, as `feature` does,
    and not at every step; 0 draws a new crop in every epoch.
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
        return self.views

    def __post_init__(self):
        if self.views < 0:
            raise InputError(f"partial(views={self.views}): views must be 0 or more")
        if self.last < 1:
            raise InputError(f"partial(last={self.last}): last must be 1 or more; for a head alone there is feature")

    def check(self, shapes: Shapes) -> None:
        if self.last > len(shapes.blocks):
            raise InputError(
                f"partial(last={self.last}): this backbone has {len(shapes.blocks)} residual blocks; "
                "lower last, or use finetune for all weights"
            )

    def place(self, source, classes):
        from visual_decathlon.methods.layers.network import new_head, own, share

        network = share(source)
        self.check(Shapes((), (), 0, network.blocks))
        layers = [name for name, module in network.body.named_modules(prefix="body") if not [*module.children()]]
        own(*map(network.get_submodule, onwards(layers, network.blocks[-self.last])))
        new_head(network, classes)
        return network

    def split(self, network):
        from visual_decathlon.methods.layers.network import cut

        return cut(network, network.blocks[-self.last])

    def floats(self, shapes: Shapes) -> int:
        first = shapes.blocks[-self.last]
        floats = {c.name: c.floats for c in shapes.convs} | {n.name: 2 * n.channels for n in shapes.norms}
        ends = (onwards([layer.name for layer in layers], first) for layers in (shapes.convs, shapes.norms))
        return sum(floats[name] for names in ends for name in names)
