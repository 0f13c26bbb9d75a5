"""A convolution whose weight is a function of the frozen weight and a few trained tensors.

The function is evaluated in weight space, `conv(x; W')`. It is therefore right for every stride, dilation, group,
kernel and padding mode, and merging evaluates the same expression. Each family writes it as a pure function of
tensors in its own module, and the layer calls that function.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from visual_decathlon.methods.layers.adapter import Adapter
from visual_decathlon.methods.layers.network import conv_like


class DeltaConv(Adapter):
    """(N, cin, H, W) -> (N, cout, H', W') with the weight that a subclass computes; a linear layer's (..., cin) too."""

    any_axis = True

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.conv = conv

    def adapted_weight(self) -> Tensor:
        """W' (cout, cin / groups, k, l), differentiable in the domain's tensors."""
        raise NotImplementedError

    def adapted_bias(self) -> Tensor | None:
        """(cout,), or None where the convolution has no bias."""
        return self.conv.bias

    def empty(self, *shape: int) -> nn.Parameter:
        """A trained tensor of this shape, uninitialised, on the device and in the type of the convolution's weight."""
        return nn.Parameter(self.conv.weight.new_empty(shape))

    def zeros(self, *shape: int) -> nn.Parameter:
        """A trained tensor of zeros, on the device and in the type of the convolution's weight."""
        return nn.Parameter(self.conv.weight.new_zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        """(N, cin, H, W) -> (N, cout, H', W')."""
        with torch.autocast(x.device.type, enabled=False):  # bfloat16 has no solver, and thresholds need precision
            weight, bias = self.adapted_weight(), self.adapted_bias()
        return self.conv._conv_forward(x, weight, bias)

    def merge(self) -> nn.Conv2d:
        """A frozen convolution with the weight W'."""
        return conv_like(self.conv, self.adapted_weight(), self.adapted_bias())


class FormulaConv(DeltaConv):
    """W' = formula(W, **tensors): the shortest layer, from a pure function and the start of its trained tensors.

    `formula` must be a function of a module, so that a network can be copied. The trained tensors have the keywords'
    names in the domain's file.
    """

    def __init__(self, conv: nn.Conv2d, formula: Callable[..., Tensor], **tensors: Tensor):
        super().__init__(conv)
        self.formula, self.names = formula, tuple(tensors)
        for name, start in tensors.items():
            self.register_parameter(name, nn.Parameter(start))

    def adapted_weight(self) -> Tensor:
        """W' = formula(W, **tensors)."""
        return self.formula(self.conv.weight, **{name: getattr(self, name) for name in self.names})
