"""What methods share that put one adapter at every convolution and give the domain its own batch norm."""

from typing import TYPE_CHECKING

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.shapes import ConvShape, Shapes

if TYPE_CHECKING:
    from torch import nn

    from visual_decathlon.methods.layers.network import Adapter, Network


def grouped(conv: ConvShape) -> str:
    """Why what combines all filters of a convolution leaves this one alone; "" where it has one group."""
    return "" if conv.groups == 1 else f"its {conv.groups} groups read different channels"


class PerConv(Method):
    """An adapter at every convolution that `skip_reason` lets through; batch norm affine and statistics per domain."""

    def layer(self, conv: "nn.Conv2d") -> "Adapter":
        """The adapter that stands in the place of this frozen convolution."""
        raise NotImplementedError

    def new_floats(self, conv: ConvShape) -> int:
        """Trained floats of `layer(conv)`."""
        raise NotImplementedError

    def new_bits(self, conv: ConvShape) -> int:
        """Bits stored of `layer(conv)` beside them."""
        return 0

    def check(self, shapes: Shapes) -> None:
        if not self.adapted(shapes):
            raise InputError(
                f"{self.spec} fits no convolution of this backbone: {self.skip_reason(shapes.convs[-1])}; "
                "change its options or take another method"
            )

    def place(self, source: "Network", classes: int) -> "Network":
        from visual_decathlon.methods.layers.network import new_head, norms, own, share

        network = share(source)
        convs = tuple(ConvShape.of(conv, site.conv) for site, conv in network.conv_sites())
        shapes = Shapes(convs, (), 0, network.blocks)
        self.check(shapes)
        for conv in self.adapted(shapes):
            network.set_submodule(conv.name, self.layer(network.get_submodule(conv.name)))
        own(*norms(network))
        new_head(network, classes)
        return network

    def floats(self, shapes: Shapes) -> int:
        return shapes.affine + sum(map(self.new_floats, self.adapted(shapes)))

    def bits(self, shapes: Shapes) -> int:
        return sum(map(self.new_bits, self.adapted(shapes)))


class Ranked(PerConv):
    """A PerConv with a `rank`: where a convolution's largest rank is below it, that one is taken and counted."""

    rank: int

    def largest_rank(self, conv: ConvShape) -> int:
        """The largest rank that means something at this convolution."""
        raise NotImplementedError

    def rank_at(self, conv: ConvShape) -> int:
        return min(self.rank, self.largest_rank(conv))

    def __post_init__(self):
        if self.rank < 1:
            raise InputError(f"{self.name}(rank={self.rank}): rank must be 1 or more")

    def check(self, shapes: Shapes) -> None:
        super().check(shapes)
        largest = max(map(self.largest_rank, self.adapted(shapes)))
        if largest < self.rank:
            raise InputError(
                f"{self.name}(rank={self.rank}): the rank is larger than every matrix of this backbone "
                f"(the largest allows {largest}); lower it"
            )
