"""A shift, a scale, or both behind every batch norm, whose statistics stay the source's.

In front of a batch norm that trains on its batch's statistics they would be taken out; behind one they
are its affine in another form, so that the affine itself stays the source's and is not counted.
"""

from dataclasses import dataclass

from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import Shapes


@register
@dataclass(frozen=True)
class BitFit(Method):
    """The shift β of every batch norm (Ben Zaken 2021: all biases of a transformer and nothing else).

    The other biases of a ResNet stand in front of a batch norm, so β is all. Starts at the source's.
    Stores 1 float a channel: #par. 1.01.
    """

    name = "bitfit"
    label = "BitFit"
    family = "batch norm"
    fidelity = "adaptation"
    paper = "Ben Zaken 2021, arXiv 2106.10199"
    mergeable = True
    lr = 0.1

    def place(self, source, classes):
        from torch import nn

        from visual_decathlon.methods.layers.network import new_head, norms, share

        network = share(source)
        for norm in norms(network):
            norm.bias = nn.Parameter(norm.bias.detach().clone())
        new_head(network, classes)
        return network

    def floats(self, shapes: Shapes) -> int:
        return shapes.affine // 2


@dataclass(frozen=True)
class _Behind(Method):
    """What ssf and ia3 share."""

    shifts = False

    def place(self, source, classes):
        from visual_decathlon.methods.layers.after_norm import put_scaled_norms
        from visual_decathlon.methods.layers.network import new_head, share

        network = share(source)
        put_scaled_norms(network, self.shifts)
        new_head(network, classes)
        return network

    def floats(self, shapes: Shapes) -> int:
        return shapes.affine if self.shifts else shapes.affine // 2


@register
@dataclass(frozen=True)
class SSF(_Behind):
    """γ BN(x) + β behind every batch norm (Lian 2022), with γ = 1 and β = 0 at the start: the identity.

    The paper's start is random about these, and it has one behind every operation; behind a convolution it
    would be taken out here. Folds into the affine. Stores 2 floats a channel: #par. 1.01.
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
class IA3(_Behind):
    """l BN(x) behind every batch norm (Liu 2022: on a transformer's keys, values and inner activations).

    Starts at l = 1, the identity. Folds into the affine. Stores 1 float a channel: #par. 1.01.
    """

    name = "ia3"
    label = "(IA)³"
    family = "batch norm"
    fidelity = "adaptation"
    paper = "Liu 2022, arXiv 2205.05638"
    mergeable = True
    lr = 0.1
