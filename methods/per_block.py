"""Base class of methods that put a bottleneck adapter into every block."""

from typing import TYPE_CHECKING, ClassVar

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.shapes import Shapes

if TYPE_CHECKING:
    from torch import nn

    from visual_decathlon.methods.layers.adapter import Adapter


def require_narrow(method: Method, widest: int, what: str) -> None:
    """Raises InputError where the bottleneck is wider than the backbone's widest `what`, of so many channels."""
    if method.bottleneck > widest:
        raise InputError(
            f"{method.name}(bottleneck={method.bottleneck}) is no bottleneck: this backbone's widest {what} has "
            f"{widest} channels; lower it"
        )


class PerBlock(Method):
    """An adapter behind the last layer on each block's main path, before the sum; own batch norms.

    That layer is a batch norm, or the convolution or linear layer itself where there is none. A block with
    self-attention has two adapters: behind the attention's output projection, and behind the MLP's last layer.
    """

    instead: ClassVar[str]  # the method to take on a backbone without blocks
    own_layer_norms: ClassVar[bool] = False  # norms without statistics are the domain's own too
    bottleneck: int

    def behind(self, layer: "nn.Module", shapes: Shapes, path: str) -> "Adapter":
        """The adapter that replaces the layer of this path and holds it."""
        raise NotImplementedError

    def new_floats(self, channels: int, after_norm: bool) -> int:
        """Trained floats of an adapter of so many channels, behind a batch norm or behind another layer."""
        raise NotImplementedError

    def __post_init__(self):
        if self.bottleneck < 1:
            raise InputError(f"{self.name}(bottleneck={self.bottleneck}): the bottleneck must be 1 or more")

    def places(self, shapes: Shapes) -> dict[str, int]:
        """The paths of the layers that have an adapter behind them -> the channels that they give."""
        widths = {conv.name: conv.cout for conv in shapes.convs}
        found: dict[str, int] = {}
        for block in shapes.block_shapes:
            inside = [a for a in shapes.attentions if a.name.startswith(f"{block.name}.")]
            for attention in inside:
                last = attention.hidden[2]
                found |= {attention.proj: widths[attention.proj]} | ({last: widths[last]} if last else {})
            if not inside or not any(attention.hidden[2] for attention in inside):
                found[block.last] = block.width
        return found

    def check(self, shapes: Shapes) -> None:
        """Raises InputError for a backbone without blocks, or narrower than the bottleneck."""
        shapes.require_blocks(self.name, f"use {self.instead}")
        require_narrow(self, max(self.places(shapes).values()), "layer")

    def place(self, source, classes):
        """The shared network with own batch norms, an adapter behind each of `places`, and a fresh head."""

        from visual_decathlon.methods.layers.network import new_head, norms, own, share

        network = share(source)
        shapes = network.shapes
        self.check(shapes)
        own(*norms(network))
        if self.own_layer_norms:
            own(*(network.get_submodule(norm.name) for norm in shapes.norms if not norm.batch))
        for path in self.places(shapes):
            network.set_submodule(path, self.behind(network.get_submodule(path), shapes, path))
        new_head(network, classes)
        return network

    def floats(self, shapes: Shapes) -> int:
        """The floats of the own norms, and `new_floats` of each place."""
        norms = sum(norm.floats for norm in shapes.norms if norm.batch or self.own_layer_norms)
        batch = {norm.name for norm in shapes.norms if norm.batch}
        return norms + sum(self.new_floats(width, path in batch) for path, width in self.places(shapes).items())
