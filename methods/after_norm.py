"""A trained shift, scale, or both behind norms and layers: BitFit, SSF and (IA)³.

Before a batch norm that trains with its batch's statistics they would have no effect, since it normalises them away.
So a convolution that a batch norm reads has none. Behind a norm they are its affine values in another form, so the
affine values stay the source's and are not counted. A ResNet has them behind its batch norms alone; a transformer also
at its linear layers. What is learned is stored as the difference to the source: weight decay pulls it to the identity,
not a scale to 0. (The released SSF exempts vectors from decay.)
"""

from dataclasses import dataclass

from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import ConvShape, NormShape, Shapes


@dataclass(frozen=True)
class _Scaled(Method):
    """Base: a scale, a shift or both behind norms, and at layers that no batch norm reads."""

    scales = True
    shifts = True
    revision = 2  # 1 stored scales and BitFit's shifts themselves, which decay pulled to 0

    def norms(self, shapes: Shapes) -> tuple[NormShape, ...]:
        """The norms that have one behind them: all that have a scale and a shift."""
        return shapes.affine_norms

    def adapted(self, shapes: Shapes) -> list[ConvShape]:
        """The convolutions and linear layers that have one: all that no batch norm reads."""
        return [conv for conv in shapes.convs if not conv.normed]

    def place(self, source, classes):
        """The shared network with a ScaledNorm at those norms, an adapter at those layers, and a fresh head."""

        from visual_decathlon.methods.layers.after_norm import ScaledNorm
        from visual_decathlon.methods.layers.linear import adapter_at
        from visual_decathlon.methods.layers.network import new_head, share

        network = share(source)
        shapes = network.shapes
        for norm in self.norms(shapes):
            scaled = ScaledNorm(network.get_submodule(norm.name), self.scales, self.shifts)
            network.set_submodule(norm.name, scaled)
        for conv in self.adapted(shapes):
            network.set_submodule(conv.name, adapter_at(network.get_submodule(conv.name), self.maker(conv, shapes)))
        new_head(network, classes)
        return network

    def maker(self, conv: ConvShape, shapes: Shapes):
        """What makes the adapter of this layer from its module."""

        from visual_decathlon.methods.layers.after_norm import ScaledConv

        return lambda module: ScaledConv(module, self.scales, self.shifts)

    def layer_floats(self, conv: ConvShape, shapes: Shapes) -> int:
        """1 float for each output of a layer, 2 with both a scale and a shift."""
        return conv.cout * (self.scales + self.shifts)

    def floats(self, shapes: Shapes) -> int:
        """1 float for each channel of a norm, 2 with both a scale and a shift, and those of the layers."""
        behind_norms = sum(norm.channels for norm in self.norms(shapes)) * (self.scales + self.shifts)
        return behind_norms + sum(self.layer_floats(conv, shapes) for conv in self.adapted(shapes))


@register
@dataclass(frozen=True)
class BitFit(_Scaled):
    """The change s of every bias (Ben Zaken 2021: all biases of a transformer and nothing else).

    At a norm it is the change of its shift β, as BN(x) + s. A bias in front of a batch norm has no effect, so on a
    ResNet β is all; linear layers, and convolutions that no batch norm reads, have it at their bias. It starts at
    s = 0: the identity. It merges into β and the biases. It stores 1 float a channel of a norm and an output of such a
    layer: #par. 1.01, and 102,912 floats on a ViT-B/16. Biases inside modules that
    are no layer by themselves, as torch's MultiheadAttention, stay shared.
    """

    name = "bitfit"
    label = "BitFit"
    family = "batch norm"
    fidelity = "adaptation"
    paper = "Ben Zaken 2021, arXiv 2106.10199"
    mergeable = True
    lr = 0.1
    scales = False

    def adapted(self, shapes: Shapes) -> list[ConvShape]:
        """The layers with a bias that no batch norm reads."""
        return [conv for conv in super().adapted(shapes) if conv.bias]


@register
@dataclass(frozen=True)
class SSF(_Scaled):
    """γ f(x) + β behind every operation f (Lian 2022), stored as γ - 1 and β, both zero at the start: the identity.

    The operations are norms, and the linear layers and convolutions that no batch norm reads; before a batch norm it
    would have no effect. The paper starts at random values around these. It merges: into a norm's affine values, and
    into a layer as rows γ W and the bias γ b + β. It stores 2 floats a channel of a norm and an output of such a layer:
    #par. 1.01, and 205,824 floats on a ViT-B/16. (The paper's 0.28 M on CIFAR-100 are these and a head of 76,900.)
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
class IA3(_Scaled):
    """Scales l of keys, values and an MLP's hidden activation (Liu 2022); without attention l BN(x) behind every norm.

    With attention, keys and values are rows of the fused projection and the hidden activation is what the MLP's last
    layer reads; batch norms have their scale too, layer norms have none. A projection in another order (TinyViT) has no
    scales. It is stored as l - 1, zero at the start: the
    identity. It merges into the affine values or the weights. It stores 1 float a channel of a norm: #par. 1.01; and
    2 inner + hidden floats an attention and its MLP, 55,296 on a ViT-B/16.
    """

    name = "ia3"
    label = "(IA)³"
    family = "batch norm"
    fidelity = "adaptation"
    paper = "Liu 2022, arXiv 2205.05638"
    mergeable = True
    lr = 0.1
    shifts = False

    def norms(self, shapes: Shapes) -> tuple[NormShape, ...]:
        """Those with a scale and a shift; where there is attention only the batch norms among them."""
        return tuple(norm for norm in shapes.affine_norms if norm.batch or not shapes.attentions)

    def adapted(self, shapes: Shapes) -> list[ConvShape]:
        """The fused projections of attentions, and the last layer of the MLP behind each."""
        names = {name for a in shapes.attentions for name in ([a.qkv] * a.thirds + [a.hidden[2]])}
        return [conv for conv in shapes.convs if conv.name in names]

    def maker(self, conv: ConvShape, shapes: Shapes):
        """Scales of the rows of keys and values, or of the columns of an MLP's last layer."""

        from visual_decathlon.methods.layers.after_norm import ScaledConv, ScaledInputs

        if _ends_mlp(conv, shapes):
            return ScaledInputs
        return lambda module: ScaledConv(module, scales=True, shifts=False, first=conv.cout // 3)

    def layer_floats(self, conv: ConvShape, shapes: Shapes) -> int:
        """2 inner at a fused projection, its keys and values; the inputs of an MLP's last layer."""
        return conv.cin if _ends_mlp(conv, shapes) else conv.cout // 3 * 2


def _ends_mlp(conv: ConvShape, shapes: Shapes) -> bool:
    return any(conv.name == attention.hidden[2] for attention in shapes.attentions)
