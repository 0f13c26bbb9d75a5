"""A linear layer as a 1x1 convolution, so that every adapter of a convolution adapts it as well.

In weight space nothing differs: the weight is (cout, cin, 1, 1). An adapter that computes on maps gets the positions of
a linear layer's input as a map of one column.
"""

import copy
from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from visual_decathlon.methods.layers.adapter import Adapter
from visual_decathlon.methods.layers.network import conv_like


class LinearConv(nn.Conv2d):
    """(..., cin) -> (..., cout): a linear layer whose weight has the shape (cout, cin, 1, 1) of a 1x1 convolution.

    An adapter computes with `_conv_forward(x, weight, bias)`, as it does with a convolution.
    """

    linear = True  # channels are the last axis

    def __init__(self, linear: nn.Linear):
        super().__init__(linear.in_features, linear.out_features, 1, bias=linear.bias is not None, device="meta")
        self.weight = nn.Parameter(linear.weight.detach()[:, :, None, None], linear.weight.requires_grad)
        self.bias = linear.bias
        self.train(linear.training)

    @property
    def in_features(self) -> int:
        """The linear layer's own name of its channels, as its library may read it."""
        return self.in_channels

    @property
    def out_features(self) -> int:
        """As `in_features`."""
        return self.out_channels

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, weight.flatten(1), bias)


def as_conv(linear: LinearConv) -> nn.Conv2d:
    """The same tensors as a plain 1x1 convolution of maps."""
    conv = copy.copy(linear)
    conv.__class__ = nn.Conv2d
    return conv


def as_map(x: Tensor) -> Tensor:
    """(N, ..., C) -> (N, C, L, 1): the L positions between the first and the last axis as a map of one column."""
    return x.reshape(len(x), -1, x.shape[-1]).mT[..., None]


def as_tokens(y: Tensor, shape: tuple[int, ...]) -> Tensor:
    """(N, C, L, 1) -> (*shape, C), the inverse of `as_map`."""
    return y[..., 0].mT.reshape(*shape, y.shape[1])


class OnTokens(Adapter):
    """(..., cin) -> (..., cout): an adapter of a 1x1 convolution in the place of a linear layer."""

    in_features, out_features = LinearConv.in_features, LinearConv.out_features

    def __init__(self, inner: Adapter):
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """(N, ..., cin) -> (N, ..., cout), contiguous as a linear layer's: some libraries take views of it."""
        return as_tokens(self.inner(as_map(x)), x.shape[:-1]).contiguous()

    def merge(self) -> nn.Module:
        """A frozen linear layer. Raises AttributeError where the adapter cannot merge."""
        conv = self.inner.merge()
        out = conv_like(conv, conv.weight, conv.bias)
        out.__class__ = LinearConv
        return out


def adapter_at(module: nn.Module, make: Callable[[nn.Module], Adapter]) -> Adapter:
    """The adapter that `make` gives for a convolution, or for a linear layer the same on its positions.

    An adapter with `any_axis` takes a linear layer as it is.
    """
    if not isinstance(module, LinearConv):
        return make(module)
    adapter = make(as_conv(module))
    if not adapter.any_axis:
        return OnTokens(adapter)
    adapter.conv = module
    return adapter


def inner_of(module: nn.Module) -> nn.Module:
    """The adapter of a convolution that is in the place of a linear layer; any other module itself."""
    return module.inner if isinstance(module, OnTokens) else module
