"""A convolution whose weight is a function of the frozen one and a few trained tensors.

The function is evaluated in weight space, `conv(x; W')`: right for every stride, dilation, group, kernel
and padding mode by construction, and merging is the same expression.
"""

import torch
from torch import Tensor, nn

from visual_decathlon.methods.layers.network import Adapter, conv_like


class DeltaConv(Adapter):
    """(N, cin, H, W) -> (N, cout, H', W') with the weight that a subclass computes."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.conv = conv

    def weight(self) -> Tensor:
        """(cout, cin / groups, k, l), differentiable in the domain's tensors."""
        raise NotImplementedError

    def bias(self) -> Tensor | None:
        """(cout,), or None where the convolution has none."""
        return self.conv.bias

    def empty(self, *shape: int) -> nn.Parameter:
        """A trained tensor of this shape where and as the convolution's weight is; not yet started."""
        return nn.Parameter(self.conv.weight.new_empty(shape))

    def zeros(self, *shape: int) -> nn.Parameter:
        return nn.Parameter(self.conv.weight.new_zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # solves and thresholds are not bfloat16's
            weight, bias = self.weight(), self.bias()
        return self.conv._conv_forward(x, weight, bias)

    def merge(self) -> nn.Conv2d:
        return conv_like(self.conv, self.weight(), self.bias())
