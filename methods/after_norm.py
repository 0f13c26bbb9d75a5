"""A trained shift, scale, or both after every batch norm, whose statistics stay the source's.

Before a batch norm that trains with its batch's statistics they would have no effect, since it normalises them away.
After one they are its affine values in another form, so the affine values stay the source's and are not counted.
"""

from dataclasses import dataclass

from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import Shapes


@register
@dataclass(frozen=True)
class BitFit(Method):
    """The shift β of every batch norm (Ben Zaken 2021: all biases of a transformer and nothing else).

    All other biases of a ResNet come before a batch norm and have no effect, so β is enough. It starts at the
    source's: the identity. It stores 1 float a channel: #par. 1.01.
    """

    name = "bitfit"
    label = "BitFit"
    family = "batch norm"
    fidelity = "adaptation"
    paper = "Ben Zaken 2021, arXiv 2106.10199"
    mergeable = True
    lr = 0.1

    def place(self, source, classes):
        """The shared network with its own batch norm shifts and a fresh head."""

        from torch import nn

        from visual_decathlon.methods.layers.network import new_head, norms, share

        network = share(source)
        for norm in norms(network):
            norm.bias = nn.Parameter(norm.bias.detach().clone())
        new_head(network, classes)
        return network

    def floats(self, shapes: Shapes) -> int:
        """1 float for each batch norm channel."""
        return shapes.affine // 2


@dataclass(frozen=True)
class _ScaledNorms(Method):
    """Base of ssf and ia3: a scale, with `shifts` also a shift, after every batch norm."""

    shifts = False

    def place(self, source, classes):
        """The shared network with a ScaledNorm at every batch norm and a fresh head."""

        from visual_decathlon.methods.layers.after_norm import put_scaled_norms
        from visual_decathlon.methods.layers.network import new_head, share

        network = share(source)
        put_scaled_norms(network, self.shifts)
        new_head(network, classes)
        return network

    def floats(self, shapes: Shapes) -> int:
        """1 float for each batch norm channel, 2 with shifts."""
        return shapes.affine if self.shifts else shapes.affine // 2


@register
@dataclass(frozen=True)
class SSF(_ScaledNorms):
    """γ BN(x) + β after every batch norm (Lian 2022), with γ = 1 and β = 0 at the start: the identity.

    The paper starts at random values around these and has one after every operation; after a convolution it would
    have no effect here. It merges into the affine values. It stores 2 floats a channel: #par. 1.01.
    """

    name = "ssf"
    label = "SSF"
    family = "batch norm"
    fidelity = "adaptation"
    paper = "Lian 2022, arXiv 2210.08823"
    mergeable = True
    lr = 0.1
    shifts = True


@register
@dataclass(frozen=True)
class IA3(_ScaledNorms):
    """l BN(x) after every batch norm (Liu 2022: on a transformer's keys, values and inner activations).

    It starts at l = 1: the identity. It merges into the affine values. It stores 1 float a channel: #par. 1.01.
    """

    name = "ia3"
    label = "(IA)³"
    family = "batch norm"
    fidelity = "adaptation"
    paper = "Liu 2022, arXiv 2205.05638"
    mergeable = True
    lr = 0.1
