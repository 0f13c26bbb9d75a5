"""Conv-Adapter: a narrow depthwise and pointwise pair parallel to a convolution of every residual block."""

from dataclasses import dataclass
from typing import Literal

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.per_conv import PerConv
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import ConvShape, Shapes


@register
@dataclass(frozen=True)
class ConvAdapter(PerConv):
    """conv(x) + α · P relu(D x + d), then the domain's BN (Chen 2022, Conv-Adapter, its convolution-parallel form).

    D is a k x k convolution to w = cin / reduction channels in w groups, with the convolution's own geometry, P a 1x1
    to cout channels, α one scale a channel. With `where='block'`, as released, a residual block has one adapter, at the
    first convolution of its main path that is larger than 1x1; with 'all', which is an adaptation, every convolution
    has one whose channels divide by `reduction`. The start is the release's and `other`: α is 1, D and P are He's with
    the fan of their outputs, d is zero.

    What differs from the release: P has no bias, because the batch norm behind it cancels one in training. Batch norm
    is the domain's own, as in the release's `conv_adapt_norm` (its `conv_adapt` trains the statistics alone). In a
    bottleneck the release adds the branch behind the 3x3's batch norm and ReLU; here it is in front of them, as in the
    release's basic block. The release trains with AdamW and has one more batch norm in front of the head.

    It stores k² cin + w + w cout + cout an adapter: #par. 1.10, with 'all' 1.19. The paper prints no count for this
    network: on its ResNet-50 adapters take 3.5 % of the parameters.
    """

    name = "conv_adapter"
    label = "Conv-Adapter"
    family = "convolutional adapters"
    fidelity = "reproduction"
    paper = "Chen 2022, arXiv 2208.07463"
    mergeable = False
    lr = 0.3

    reduction: int = 8
    where: Literal["block", "all"] = "block"

    def __post_init__(self):
        if self.reduction < 1:
            raise InputError(f"conv_adapter(reduction={self.reduction}): the reduction must be 1 or more")

    @property
    def start(self):
        """`other`: α starts at 1."""
        return "other"

    def skip_reason(self, conv: ConvShape) -> str:
        """cin must be a multiple of `reduction`."""
        return f"{conv.cin} channels do not divide by {self.reduction}" if conv.cin % self.reduction else ""

    def adapted(self, shapes: Shapes) -> list[ConvShape]:
        """The first convolution larger than 1x1 of every residual block, or with 'all' every convolution."""
        convs = shapes.convs
        if self.where == "block":
            convs = self._first(shapes)
        return [c for c in convs if not self.skip_reason(c)]

    def _first(self, shapes: Shapes) -> list[ConvShape]:
        first = (next((c for c in shapes.inside(b) if c.kernel != (1, 1)), None) for b in shapes.blocks)
        return [c for c in first if c]

    def check(self, shapes: Shapes) -> None:
        """Raises InputError for a backbone without residual blocks, or without a convolution that can be adapted."""
        if self.where == "block":
            shapes.require_blocks("conv_adapter", "add where='all'")
            if not self._first(shapes):
                raise InputError(
                    "conv_adapter adapts the first convolution of a block that is larger than 1x1, and the blocks of "
                    "this backbone have none; use where='all', or houlsby"
                )
        super().check(shapes)

    def layer(self, conv):
        """conv(x) + α · P relu(D x + d) at this convolution."""

        from visual_decathlon.methods.layers.conv_adapter import ConvAdapterConv

        return ConvAdapterConv(conv, self.reduction)

    def new_floats(self, conv: ConvShape) -> int:
        """k l cin + w + w cout + cout, w = cin / reduction."""
        width = conv.cin // self.reduction
        depthwise = conv.kernel[0] * conv.kernel[1] * conv.cin + width
        return depthwise + width * conv.cout + conv.cout
