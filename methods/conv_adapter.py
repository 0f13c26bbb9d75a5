"""Conv-Adapter: a narrow depthwise and pointwise pair parallel to every convolution."""

from dataclasses import dataclass

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.per_conv import PerConv
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import ConvShape


@register
@dataclass(frozen=True)
class ConvAdapter(PerConv):
    """conv(x) + α · P relu(D x + d), then the domain's BN (Chen 2022, Conv-Adapter, its parallel form).

    D is a k x k convolution to w = cin / reduction channels in w groups, with the convolution's own geometry, P a 1x1
    to cout channels, α one scale a channel. α starts at zero: the identity; D and P start as He's. In the release α
    starts at one, and P has a bias, which a batch norm in training cancels, so it has none here. It stores
    k² cin + w + w cout + cout a convolution: #par. 1.19. The stem has only 3 channels and no adapter.
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
        """cin must be a multiple of `reduction`."""
        return f"{conv.cin} channels do not divide by {self.reduction}" if conv.cin % self.reduction else ""

    def layer(self, conv):
        """conv(x) + α · P relu(D x + d) at this convolution."""

        from visual_decathlon.methods.layers.conv_adapter import ConvAdapterConv

        return ConvAdapterConv(conv, self.reduction)

    def new_floats(self, conv: ConvShape) -> int:
        """k l cin + w + w cout + cout, w = cin / reduction."""
        width = conv.cin // self.reduction
        depthwise = conv.kernel[0] * conv.kernel[1] * conv.cin + width
        return depthwise + width * conv.cout + conv.cout
