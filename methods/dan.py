"""DAN, deep adaptation networks: new filters as linear combinations of the shared ones."""

from dataclasses import dataclass

from visual_decathlon.methods.per_conv import PerConv, grouped
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import ConvShape


@register
@dataclass(frozen=True)
class DAN(PerConv):
    """Rosenfeld, Tsotsos 2017, deep adaptation networks: M <- C M, M the weight as a matrix of cout filters.

    C (cout, cout) starts at the identity. It is stored as C = I + D: the gradient is the same, and weight decay pulls
    D to 0, the shared filters, instead of C to 0, no filters. The paper also learns each convolution's bias; here it
    is part of the domain's own batch norm after it. It stores cout² a convolution and 2 a batch norm channel:
    #par. 2.08. Convolutions with groups are left alone: their filters read different channels.
    """

    name = "dan"
    label = "DAN"
    family = "filter combinations"
    fidelity = "reproduction"
    paper = "Rosenfeld 2017, arXiv 1705.04228"
    mergeable = True
    lr = 0.1

    def skip_reason(self, conv: ConvShape) -> str:
        """Convolutions with groups are left alone."""
        return grouped(conv)

    def layer(self, conv):
        """(I + D) M at this convolution."""

        from visual_decathlon.methods.layers.dan import CombinedConv

        return CombinedConv(conv)

    def new_floats(self, conv: ConvShape) -> int:
        """cout²."""
        return conv.cout**2
