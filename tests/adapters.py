"""Adapters of single convolutions, of geometries in which a formula for plain 3x3 kernels goes wrong."""

import pytest
import torch
from torch import nn

GEOMETRIES = [
    {"kernel_size": 3, "padding": 1, "bias": False},
    {"kernel_size": (3, 2), "padding": (1, 0), "stride": (1, 2)},
    {"kernel_size": 3, "padding": 2, "dilation": 2, "padding_mode": "reflect"},
    {"kernel_size": 1, "stride": 2},
    {"kernel_size": 3, "padding": 1, "groups": 2, "padding_mode": "circular"},
]


def each_of(geometries: list[dict]) -> pytest.MarkDecorator:
    """Runs a test with each of them as its argument `geometry`."""
    return pytest.mark.parametrize("geometry", geometries, ids=lambda g: ",".join(f"{k}={v}" for k, v in g.items()))


geometries = each_of(GEOMETRIES)


def moved_adapter(method, geometry: dict, cin: int, cout: int, dtype: torch.dtype, std: float = 1.0):
    """A frozen convolution, the method's adapter of it, and that one's trained tensors by name, changed from the start.

    They are normal of this standard deviation.
    """
    torch.manual_seed(0)
    conv = nn.Conv2d(cin, cout, **geometry, dtype=dtype).requires_grad_(False)
    layer = method.layer(conv)
    own = {name: p for name, p in layer.named_parameters() if p.requires_grad}
    for p in own.values():
        nn.init.normal_(p, std=std)
    return conv, layer, own
