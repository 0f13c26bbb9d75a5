"""Bottleneck adapters behind layers: Houlsby's two a transformer's layer, and Pfeiffer's one."""

from dataclasses import dataclass

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.per_block import PerBlock
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import Shapes


class BottleneckBehind(PerBlock):
    """h + U relu(D h + d) + u behind a layer, U, d and u from zero: the identity. Behind a batch norm no d and u."""

    instead = "par_adapter"

    bottleneck: int

    def behind(self, layer, shapes, path):
        """The layer with the adapter behind it."""

        from visual_decathlon.methods.layers.houlsby import BottleneckNorm

        return BottleneckNorm(layer, self.bottleneck)

    def new_floats(self, channels: int, after_norm: bool) -> int:
        """2 C m, and m + C more for the biases where there is no batch norm."""
        m = self.bottleneck
        return 2 * m * channels + (0 if after_norm else m + channels)


@register
@dataclass(frozen=True)
class Houlsby(BottleneckBehind):
    """h + U relu(D h + d) + u behind both halves of a transformer's layer (Houlsby 2019).

    One adapter is behind the output projection of attention, one behind the last layer of the MLP, each before its
    residual sum; as in the paper the layer norms are trained too. D starts as He's, and not near zero, and U, d and u
    at zero: the identity. LayerScale, where a backbone has it, is behind the adapter.
    On a network without attention each block has one, behind the last layer of its main path: a batch norm, whose
    shift, the domain's own, takes the place of d and u, or where there is none the convolution. Where a block ends in
    several layers side by side (SqueezeNet) it is behind the one that is called last. Attention without one linear
    layer for queries, keys and values (torchvision's transformers, BEiT, EVA) has no adapter; its MLP has one.
    It stores 2 C m an adapter of C channels, m the bottleneck, without a batch norm C + m more, and all norms: #par.
    1.06.
    """

    name = "houlsby"
    label = "Houlsby"
    family = "adapter grid"
    fidelity = "adaptation"
    paper = "Houlsby 2019, arXiv 1902.00751"
    mergeable = False
    lr = 0.1
    own_layer_norms = True

    bottleneck: int = 8


@register
@dataclass(frozen=True)
class Pfeiffer(BottleneckBehind):
    """h + U relu(D h + d) + u behind the MLP of a transformer's layer alone (Pfeiffer 2021, AdapterFusion).

    It is the adapter of one domain; the paper's second step, attention over the adapters of several domains, is not
    here. The paper's transformers have their norms behind the residual sums, those of images have them in front of
    attention and MLP; the adapter is before the sum. Layer norms stay the source's. U, d and u start at zero: the
    identity. On a network without attention it would be houlsby, and is refused.
    It stores 2 C m + C + m a layer.
    """

    name = "pfeiffer"
    label = "Pfeiffer"
    family = "adapter grid"
    fidelity = "adaptation"
    paper = "Pfeiffer 2021, arXiv 2005.00247"
    mergeable = False
    lr = 0.1

    bottleneck: int = 8

    def unsupported_reason(self, network: str) -> str:
        """The decathlon's own network has no attention; `check` reads the shapes of the others."""
        return self._reason(network) if network == "resnet26" else ""

    def _reason(self, network: str) -> str:
        return (
            f"pfeiffer is houlsby without the adapter behind attention, and {network} has no attention with one linear "
            "layer for queries, keys and values in front of an MLP: there it would be houlsby; use that"
        )

    def check(self, shapes: Shapes) -> None:
        """Raises InputError for a backbone without attention, or narrower than the bottleneck."""
        if not self.places(shapes):
            raise InputError(self._reason("this backbone"))
        super().check(shapes)

    def places(self, shapes: Shapes) -> dict[str, int]:
        """The last layers of the MLPs behind attention -> their channels."""
        widths = {conv.name: conv.cout for conv in shapes.convs}
        return {a.hidden[2]: widths[a.hidden[2]] for a in shapes.attentions if a.hidden[2]}
