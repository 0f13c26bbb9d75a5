"""Deep adaptation: new filters as linear combinations of the shared ones."""

from dataclasses import dataclass

from visual_decathlon.methods.per_conv import PerConv, grouped
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import ConvShape


@register
@dataclass(frozen=True)
class DAN(PerConv):
    """Rosenfeld, Tsotsos 2017, deep adaptation networks: M <- C M, M the weight as a matrix of cout filters.

    C (cout, cout) starts at the identity, so the network does. It is kept as C = I + D: the gradient is
    the same, and weight decay pulls D to 0, the shared filters, where it would pull C to 0, no
    filters. The paper also learns each convolution's bias; here the batch norm behind, the domain's
    own, has it. Stores cout² a convolution and 2 a batch norm channel: #par. 2.08. Convolutions in groups are
    left alone: their filters read different channels.
    """

    name = "dan"
    label = "DAN"
    family = "filter combinations"
    fidelity = "reproduction"
    paper = "Rosenfeld 2017, arXiv 1705.04228"
    mergeable = True
    lr = 0.1

    def skip_reason(self, conv: ConvShape) -> str:
        return grouped(conv)

    def layer(self, conv):
        from visual_decathlon.methods.layers.dan import CombinedConv

        return CombinedConv(conv)

    def new_floats(self, conv: ConvShape) -> int:
        return conv.cout**2
