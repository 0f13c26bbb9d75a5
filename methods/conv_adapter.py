"""Conv-Adapter: a narrow depthwise and pointwise pair beside every convolution."""

from dataclasses import dataclass

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.per_conv import PerConv
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import ConvShape


@register
@dataclass(frozen=True)
class ConvAdapter(PerConv):
    """conv(x) + α · P relu(D x + d), then the domain's BN (Chen 2022, Conv-Adapter, its parallel form).

    D is a k x k to w = cin / reduction channels in w groups, of the convolution's own geometry, P a 1x1 to
    cout, α one scale a channel. α starts at zero, the identity, and D and P as He has it; in the release α
    starts at one. The release's P has a bias, which a batch norm in training takes out, so here it has none.
    Stores k² cin + w + w cout + cout a convolution: #par. 1.19. The stem's 3 channels leave no width: there it
    has no adapter.
    """

    name = "conv_adapter"
    label = "Conv-Adapter"
    family = "convolutional adapters"
    fidelity = "reproduction"
    paper = "Chen 2022, arXiv 2208.07463"
    mergeable = False
    lr = 0.3

    reduction: int = 8

    def __post_init__(self):
        if self.reduction < 1:
            raise InputError(f"conv_adapter(reduction={self.reduction}): the reduction must be 1 or more")

    def skip_reason(self, conv: ConvShape) -> str:
        return f"{conv.cin} channels do not divide by {self.reduction}" if conv.cin % self.reduction else ""

    def layer(self, conv):
        from visual_decathlon.methods.layers.conv_adapter import ConvAdapterConv

        return ConvAdapterConv(conv, self.reduction)

    def new_floats(self, conv: ConvShape) -> int:
        width = conv.cin // self.reduction
        depthwise = conv.kernel[0] * conv.kernel[1] * conv.cin + width
        return depthwise + width * conv.cout + conv.cout
