"""A trained shift, scale, or both after every batch norm, whose statistics stay the source's.

Before a batch norm that trains with its batch's statistics they would have no effect, since it normalises them away.
After one they are its affine values in another form, so the affine values stay the source's and are not counted.
What is learned is stored as the difference to the source's norm: weight decay pulls it to the identity, not a scale to
0. (The released SSF exempts vectors from decay.)
"""

from dataclasses import dataclass

from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import Shapes


@dataclass(frozen=True)
class _ScaledNorms(Method):
    """Base: a scale, a shift or both after every batch norm."""

    scales = True
    shifts = True
    revision = 2  # 1 stored scales and BitFit's shifts themselves, which decay pulled to 0

    def place(self, source, classes):
        """The shared network with a ScaledNorm at every batch norm and a fresh head."""

        from visual_decathlon.methods.layers.after_norm import put_scaled_norms
        from visual_decathlon.methods.layers.network import new_head, share

        network = share(source)
        put_scaled_norms(network, self.scales, self.shifts)
        new_head(network, classes)
        return network

    def floats(self, shapes: Shapes) -> int:
        """1 float for each channel of a norm, 2 with both a scale and a shift."""
        return sum(norm.channels for norm in shapes.affine_norms) * (self.scales + self.shifts)


@register
@dataclass(frozen=True)
class BitFit(_ScaledNorms):
    """BN(x) + s after every batch norm (Ben Zaken 2021: all biases of a transformer and nothing else).

    s is the change of the batch norm's shift β. All other biases of a ResNet come before a batch norm and have no
    effect, so β is enough. It starts at s = 0: the identity. It merges into β. It stores 1 float a channel:
    #par. 1.01.
    """

    name = "bitfit"
    label = "BitFit"
    family = "batch norm"
    fidelity = "adaptation"
    paper = "Ben Zaken 2021, arXiv 2106.10199"
    mergeable = True
    lr = 0.1
    scales = False


@register
@dataclass(frozen=True)
class SSF(_ScaledNorms):
    """γ BN(x) + β after every batch norm (Lian 2022), stored as γ - 1 and β, both zero at the start: the identity.

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


@register
@dataclass(frozen=True)
class IA3(_ScaledNorms):
    """l BN(x) after every batch norm (Liu 2022: on a transformer's keys, values and inner activations).

    It is stored as l - 1, zero at the start: the identity. It merges into the affine values. It stores 1 float a
    channel: #par. 1.01.
    """

    name = "ia3"
    label = "(IA)³"
    family = "batch norm"
    fidelity = "adaptation"
    paper = "Liu 2022, arXiv 2205.05638"
    mergeable = True
    lr = 0.1
    shifts = False
