"""Mona, the multi-cognitive visual adapter: a bottleneck with filters of three sizes, one in each residual block."""

from dataclasses import dataclass

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import Shapes


@register
@dataclass(frozen=True)
class Mona(Method):
    """Yin et al. 2024: h + U gelu(z + P z), z = v + (f3 + f5 + f7)(v) / 3, v = D (s1 LN(h) + (1 + s2) h).

    D and U are 1x1 convolutions to and from `bottleneck` = m channels, f3, f5 and f7 depthwise convolutions of sides 3,
    5 and 7 on them, P a 1x1, LN a layer norm over the channels of a position. h is the output of the last batch norm on
    a residual block's main path, before the sum; in the paper it is the stream behind the sums of attention and of MLP,
    so that a Swin block has two. U starts at zero: the identity; the release starts it as any linear layer. s1 and s2
    start at zero; in the release s1 starts at 1e-6, and 1 + s2 is what is trained, so that decay would pull it to 0.
    What the release has twice is there once: LN has no affine values beside s1 and D, the three filters have one bias,
    and U none beside the shift of the domain's own batch norm. Its dropout of 0.1 is left out. It has m = 64, on 128
    to 1,536 channels.
    It stores 2 C + 2 C m + m (83 + m + 3) for a block of C channels, and 2 a batch norm channel: #par. 1.14 at m = 16.
    """

    name = "mona"
    label = "Mona"
    family = "convolutional adapters"
    fidelity = "adaptation"
    paper = "Yin 2024, arXiv 2408.08345"
    mergeable = False
    lr = 0.1

    bottleneck: int = 16

    def __post_init__(self):
        if self.bottleneck < 1:
            raise InputError(f"mona(bottleneck={self.bottleneck}): the bottleneck must be 1 or more")

    def check(self, shapes: Shapes) -> None:
        """Raises InputError for a backbone without residual blocks, or narrower than the bottleneck."""
        if not shapes.blocks:
            raise InputError("mona adapts residual blocks and this backbone has none; use conv_adapter")
        widest = max((n.channels for n in shapes.norms), default=self.bottleneck)
        if self.bottleneck > widest:
            raise InputError(
                f"mona(bottleneck={self.bottleneck}) is no bottleneck: this backbone's widest layer has {widest} "
                "channels; lower it"
            )

    def place(self, source, classes):
        """The shared network with own batch norms, an adapter after the last one of each block, and a fresh head."""

        from visual_decathlon.methods.layers.mona import MonaNorm
        from visual_decathlon.methods.layers.network import last_norms, new_head, norms, own, share

        network = share(source)
        self.check(Shapes((), (), 0, network.blocks))
        own(*norms(network))
        for last in last_norms(network):
            network.set_submodule(last, MonaNorm(network.get_submodule(last), self.bottleneck))
        new_head(network, classes)
        return network

    def floats(self, shapes: Shapes) -> int:
        """2 floats for each batch norm channel, and 2 C + 2 C m + m (83 + m + 3) for each block of C channels."""
        # A shortcut's norm has as many channels as the last one, to which it is added.
        last = [[n.channels for n in shapes.norms if n.name.startswith(f"{block}.")][-1] for block in shapes.blocks]
        m = self.bottleneck
        return shapes.affine + sum(2 * c + 2 * c * m + m * (83 + m + 3) for c in last)
