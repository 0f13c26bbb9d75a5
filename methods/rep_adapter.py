"""RepAdapter: a linear bottleneck before every convolution, which merges into it."""

from dataclasses import dataclass

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.per_conv import PerConv
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import ConvShape, Shapes


@register
@dataclass(frozen=True)
class RepAdapter(PerConv):
    """conv(x + s U D x), then the domain's BN (Luo 2023): D a 1x1 to `hidden` channels, U one back in two groups.

    It is linear, so at every tap it merges into W (I + s U D). D starts as Xavier's, U at zero: the identity. In
    training, `dropout` sets this share of the hidden numbers D x to zero. Its default is the release's, as that of
    `hidden`. The release searches the scale s for each task among 0.1, 0.5, 1, 5 and 10; here it is one for all
    domains, and with SGD, unlike the release's AdamW, it also multiplies the gradients.

    The paper has adapters in front of a transformer's projections and, in a ConvNeXt, of a block's depthwise
    convolution and of its MLP; here one is in front of every convolution with an even number of input channels and one
    group. The paper's have biases, D x + d and U h + u. `bias=True` has them too and does not merge, because the
    convolution pads with zeros after them (an error of 4 % at the borders). Before a 1x1 they would be one constant a
    channel, which batch norm cancels, so a 1x1 has none. The release's drop-path of 0.1 belongs to its recipe and is
    not here.

    It stores 1.5 hidden cin = 12 cin a convolution, #par. 1.07; with biases cin + hidden more, 1.08. The paper prints
    0.22 M floats for a ViT-B, which is 24 adapters of 12 · 768 without their biases. The stem's 3 channels do not make
    two groups: it has no adapter.
    """

    name = "rep_adapter"
    label = "RepAdapter"
    family = "convolutional adapters"
    fidelity = "adaptation"
    paper = "Luo 2023, arXiv 2302.08106"
    lr = 0.1

    bias: bool = False
    hidden: int = 8
    scale: float = 1.0
    dropout: float = 0.1

    def __post_init__(self):
        if self.hidden < 2 or self.hidden % 2:
            raise InputError(f"rep_adapter(hidden={self.hidden}): hidden channels make two groups; give an even number")
        if self.scale <= 0:
            raise InputError(f"rep_adapter(scale={self.scale:g}): scale must be above 0")
        if not 0 <= self.dropout < 1:
            raise InputError(f"rep_adapter(dropout={self.dropout:g}): dropout must be 0 or more and below 1")

    def check(self, shapes: Shapes) -> None:
        """Raises InputError where `hidden` is larger than every convolution's input channels."""
        super().check(shapes)
        widest = max(c.cin for c in self.adapted(shapes))
        if self.hidden > widest:
            raise InputError(
                f"rep_adapter(hidden={self.hidden}) is no bottleneck: no convolution of this backbone reads more than "
                f"{widest} channels; lower it"
            )

    @property
    def mergeable(self):
        """Only without biases."""
        return not self.bias

    def skip_reason(self, conv: ConvShape) -> str:
        """Convolutions with groups or an odd number of input channels are left alone."""
        if conv.groups != 1:
            return f"its {conv.groups} groups read only their own inputs, an adapter before them mixes all of them"
        return "" if conv.cin % 2 == 0 else f"{conv.cin} channels make no two groups"

    def _biased(self, conv: ConvShape) -> bool:
        return self.bias and conv.kernel != (1, 1)

    def layer(self, conv):
        """conv(x + s U D x) at this convolution."""

        from visual_decathlon.methods.layers.rep_adapter import RepAdapterConv

        return RepAdapterConv(conv, self.hidden, self._biased(ConvShape.of(conv)), self.scale, self.dropout)

    def new_floats(self, conv: ConvShape) -> int:
        """1.5 hidden cin, with biases cin + hidden more."""
        return self.hidden * conv.cin * 3 // 2 + self._biased(conv) * (conv.cin + self.hidden)
