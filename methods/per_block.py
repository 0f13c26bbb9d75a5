"""Base class of methods that put a bottleneck adapter into every residual block."""

from typing import TYPE_CHECKING, ClassVar

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.shapes import Shapes

if TYPE_CHECKING:
    from torch import nn

    from visual_decathlon.methods.layers.network import Adapter


class PerBlock(Method):
    """An adapter after the last batch norm on each residual block's main path, before the sum; own batch norms."""

    instead: ClassVar[str]  # the method to take on a backbone without residual blocks
    bottleneck: int

    def after_norm(self, norm: "nn.Module") -> "Adapter":
        """The adapter that replaces this batch norm and holds it."""
        raise NotImplementedError

    def new_floats(self, channels: int) -> int:
        """Trained floats that an adapter of so many channels stores beside its batch norm's."""
        raise NotImplementedError

    def __post_init__(self):
        if self.bottleneck < 1:
            raise InputError(f"{self.name}(bottleneck={self.bottleneck}): the bottleneck must be 1 or more")

    def check(self, shapes: Shapes) -> None:
        """Raises InputError for a backbone without residual blocks, or narrower than the bottleneck."""
        shapes.require_blocks(self.name, self.instead)
        widest = max(block.width for block in shapes.block_shapes)
        if self.bottleneck > widest:
            raise InputError(
                f"{self.name}(bottleneck={self.bottleneck}) is no bottleneck: this backbone's widest layer has "
                f"{widest} channels; lower it"
            )

    def place(self, source, classes):
        """The shared network with own batch norms, an adapter after the last one of each block, and a fresh head."""

        from visual_decathlon.methods.layers.linear import adapter_at
        from visual_decathlon.methods.layers.network import new_head, norms, own, share

        network = share(source)
        self.check(network.shapes)
        own(*norms(network))
        for block in network.shapes.block_shapes:
            network.set_submodule(block.last, adapter_at(network.get_submodule(block.last), self.after_norm))
        new_head(network, classes)
        return network

    def floats(self, shapes: Shapes) -> int:
        """2 floats for each batch norm channel, and `new_floats` of each block's channels."""
        return shapes.affine + sum(self.new_floats(block.width) for block in shapes.block_shapes)
