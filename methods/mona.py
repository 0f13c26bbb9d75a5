"""Mona, the multi-cognitive visual adapter: a bottleneck with filters of three sizes, one in each residual block."""

from dataclasses import dataclass

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.per_block import PerBlock
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import Shapes


@register
@dataclass(frozen=True)
class Mona(PerBlock):
    """Yin et al. 2024: h + U gelu(z + P z), z = v + (f3 + f5 + f7)(v) / 3, v = D (s1 LN(h) + (1 + s2) h).

    D and U are 1x1 convolutions to and from `bottleneck` = m channels, f3, f5 and f7 depthwise convolutions of sides 3,
    5 and 7 on them, P a 1x1, LN a layer norm over the channels of a position. h is the output of the last batch norm on
    a residual block's main path, before the sum; in the paper it is the stream behind the sums of attention and of MLP,
    so that a Swin block has two. U starts at zero: the identity; the release starts it as any linear layer. s1 and s2
    start at zero; in the release s1 starts at 1e-6, and 1 + s2 is what is trained, so that decay would pull it to 0.
    What the release has twice is there once: LN has no affine values beside s1 and D, the three filters have one bias,
    and U none beside the shift of the domain's own batch norm. Its dropout of 0.1 is left out. It has m = 64, on 128
    to 1,536 channels.
    In a transformer h is what attention's output projection gives and what the MLP gives, each before its sum, as maps
    of the patches; U has a bias there. A class token is a map of one pixel. Attention in windows, as Swin's, gives no
    map of the image, and has no adapter. Layer norms stay the source's.
    It stores 2 C + 2 C m + m (83 + m + 3) for an adapter of C channels, C more where there is no batch norm, and 2 a
    batch norm channel: #par. 1.14 at m = 16.
    """

    name = "mona"
    label = "Mona"
    family = "convolutional adapters"
    fidelity = "adaptation"
    paper = "Yin 2024, arXiv 2408.08345"
    mergeable = False
    lr = 0.3
    instead = "conv_adapter"

    bottleneck: int = 16

    def places(self, shapes: Shapes) -> dict[str, int]:
        """As of every PerBlock, without attention that reads windows: what it gives is no map of the image."""
        projections = {attention.proj for attention in shapes.attentions}
        return {n: c for n, c in super().places(shapes).items() if n not in projections or shapes.grid(n)}

    def check(self, shapes: Shapes) -> None:
        """Raises InputError for a backbone without blocks, narrower than the bottleneck, or with tokens of no grid."""
        super().check(shapes)
        linear = {conv.name for conv in shapes.convs if conv.linear}
        tokens = {block.last for block in shapes.block_shapes if block.tokens}
        for path in self.places(shapes):
            if path in linear | tokens and shapes.grid(path) is None:
                raise InputError(
                    f"mona filters the map of an image, and the tokens that {path} of this backbone gives have no "
                    "known grid; use houlsby"
                )

    def behind(self, layer, shapes, path):
        """The layer with the adapter behind it."""

        from visual_decathlon.methods.layers.layout import Layout
        from visual_decathlon.methods.layers.mona import MonaNorm

        return MonaNorm(layer, self.bottleneck, Layout.of_layer(shapes, path, layer))

    def new_floats(self, channels: int, after_norm: bool) -> int:
        """2 C + 2 C m + m (83 + m + 3), and C more, U's bias, where there is no batch norm."""
        m = self.bottleneck
        return 2 * channels + 2 * channels * m + m * (83 + m + 3) + (0 if after_norm else channels)
