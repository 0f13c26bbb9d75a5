"""Base classes of methods that put an adapter at every convolution and give each domain its own batch norm."""

from typing import TYPE_CHECKING

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.shapes import ConvShape, Shapes

if TYPE_CHECKING:
    from torch import nn

    from visual_decathlon.methods.layers.adapter import Adapter
    from visual_decathlon.methods.layers.network import Network


def grouped(conv: ConvShape) -> str:
    """Why a method that combines all filters skips this convolution; "" where it has one group."""
    return "" if conv.groups == 1 else f"its {conv.groups} groups read different channels"


class PerConv(Method):
    """An adapter at every convolution without a `skip_reason`; batch norm affine and statistics per domain."""

    def layer(self, conv: "nn.Conv2d") -> "Adapter":
        """The adapter that replaces this frozen convolution."""
        raise NotImplementedError

    def new_floats(self, conv: ConvShape) -> int:
        """Trained floats that `layer(conv)` stores."""
        raise NotImplementedError

    def new_bits(self, conv: ConvShape) -> int:
        """Bits that `layer(conv)` stores in addition to those floats."""
        return 0

    def check(self, shapes: Shapes) -> None:
        """Raises InputError where no convolution of this backbone can be adapted."""
        if not self.adapted(shapes):
            reason = self.skip_reason(shapes.convs[-1]) if shapes.convs else "it calls none as a module"
            raise InputError(
                f"{self.spec} fits no convolution of this backbone: {reason}; change its options or take another method"
            )

    def place(self, source: "Network", classes: int) -> "Network":
        """The shared network with `layer` at every adapted convolution, own batch norms and a fresh head."""
        from visual_decathlon.methods.layers.linear import adapter_at
        from visual_decathlon.methods.layers.network import new_head, norms, own, share

        network = share(source)  # or a trunk, which has an adapter where the domains share one
        self.check(network.shapes)
        for conv in self.adapted(network.shapes):
            network.set_submodule(conv.name, adapter_at(network.get_submodule(conv.name), self.layer))
        own(*norms(network))
        new_head(network, classes)
        return network

    def floats(self, shapes: Shapes) -> int:
        """2 floats for each batch norm channel plus `new_floats` of every adapted convolution."""
        return shapes.affine + sum(map(self.new_floats, self.adapted(shapes)))

    def bits(self, shapes: Shapes) -> int:
        """`new_bits` of every adapted convolution."""
        return sum(map(self.new_bits, self.adapted(shapes)))


class Ranked(PerConv):
    """A PerConv with a `rank`; a convolution whose largest rank is smaller uses that one, and it is counted so."""

    rank: int

    def largest_rank(self, conv: ConvShape) -> int:
        """The largest rank that is meaningful at this convolution."""
        raise NotImplementedError

    def rank_at(self, conv: ConvShape) -> int:
        """The rank at this convolution: min(rank, largest rank)."""
        return min(self.rank, self.largest_rank(conv))

    def __post_init__(self):
        if self.rank < 1:
            raise InputError(f"{self.name}(rank={self.rank}): rank must be 1 or more")

    def check(self, shapes: Shapes) -> None:
        """Raises InputError where the rank is larger than every convolution allows."""
        super().check(shapes)
        largest = max(map(self.largest_rank, self.adapted(shapes)))
        if largest < self.rank:
            raise InputError(
                f"{self.name}(rank={self.rank}): the rank is larger than every matrix that it adapts "
                f"(the largest allows {largest}); lower it"
            )
