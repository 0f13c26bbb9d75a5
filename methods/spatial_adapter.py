"""The spatial adapter of 3DSAM-Adapter: a bottleneck with a depthwise convolution in it, in each residual block."""

from dataclasses import dataclass

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.per_block import PerBlock
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import Shapes


@register
@dataclass(frozen=True)
class SpatialAdapter(PerBlock):
    """Gong et al. 2023, 3DSAM-Adapter, in 2D: h + U relu(F * relu(D h + d) + f).

    D and U are 1x1 convolutions to and from `bottleneck` = m channels, F a depthwise 3x3 convolution on them, d and f
    one number a channel of it. h is the output of the last layer on a block's main path, before the sum: of its batch
    norm, where it has one. U starts at zero: the identity. D, F and f start as any layer's, d at zero.

    The release adapts SAM's image encoder to volumes. F is 3x3x3 there, and the adapter is in front of a transformer
    block's first norm, so that both its attention and its shortcut read the adapted stream; m is half of the channels.
    Its third ReLU, behind U, is left out: with U at zero it would pass no gradient (the release starts U as any linear
    layer). U has no bias beside the shift of the domain's own batch norm. It is refused where blocks end in
    linear layers, whose tokens have no neighbours.

    It stores 2 C m + 11 m for a block of C channels, and 2 a batch norm channel: #par. 1.10 at m = 16.
    """

    name = "spatial_adapter"
    label = "Spatial adapter"
    family = "convolutional adapters"
    fidelity = "adaptation"
    paper = "Gong 2023, arXiv 2306.13465"
    mergeable = False
    lr = 0.3
    instead = "conv_adapter(where='all')"

    bottleneck: int = 16

    def check(self, shapes: Shapes) -> None:
        """As every PerBlock's; raises InputError also where a block gives tokens or ends in a linear layer."""
        super().check(shapes)
        linear = {conv.name for conv in shapes.convs if conv.linear}
        if any(block.tokens or block.last in linear for block in shapes.block_shapes):
            raise InputError(
                f"{self.name} filters maps, and blocks of this backbone end in linear layers, which give tokens; take "
                "houlsby, or a backbone of convolutions"
            )

    def behind(self, layer, shapes, path):
        """The layer with the adapter behind it."""

        from visual_decathlon.methods.layers.spatial_adapter import SpatialNorm

        return SpatialNorm(layer, self.bottleneck)

    def new_floats(self, channels: int, after_norm: bool) -> int:
        """2 C m + 11 m."""
        return (2 * channels + 11) * self.bottleneck
