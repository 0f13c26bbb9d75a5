"""Householder adapters against their matrices written out tap by tap; start, count and rank."""

import pytest
import torch
from torch import nn
from torch.func import functional_call

from tests.adapters import GEOMETRIES, geometries
from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.householder import Householder
from visual_decathlon.methods.shapes import ConvShape

CHANNELS = [(6, 8), (8, 4), (6, 6)]


def adapter(geometry, channels=(6, 8), rank=2):
    torch.manual_seed(0)
    conv = nn.Conv2d(*channels, **geometry, dtype=torch.float64).requires_grad_(False)
    layer = Householder(rank).layer(conv)
    return conv, layer, {name: p for name, p in layer.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("channels", CHANNELS)
@geometries
def test_it_is_the_sum_written_out(geometry, channels):
    conv, layer, own = adapter(geometry, channels)
    assert torch.equal(layer.adapted_weight(), conv.weight)
    assert layer.left.norm().item() == pytest.approx(1) and layer.right.norm().item() == pytest.approx(1)
    shape = ConvShape.of(conv)
    assert sum(p.numel() for p in own.values()) == Householder(2).new_floats(shape)
    for p in own.values():
        nn.init.normal_(p)
    cout, cin, height, width = conv.weight.shape
    mirror = lambda v: torch.eye(len(v), dtype=v.dtype) - 2 * torch.outer(v, v) / v.norm() ** 2
    wanted = conv.weight + (layer.b @ layer.a).view_as(conv.weight)
    for tap in range(height * width):
        diagonal = torch.zeros(cout, cin, dtype=torch.float64)
        for i in range(min(cout, cin)):
            diagonal[i, i] = layer.d[tap, i]
        wanted[:, :, tap // width, tap % width] += mirror(layer.left) @ diagonal @ mirror(layer.right)
    torch.testing.assert_close(layer.adapted_weight(), wanted, rtol=0, atol=1e-12)
    x = torch.randn(2, channels[0], 9, 8, dtype=torch.float64)
    torch.testing.assert_close(layer(x), conv._conv_forward(x, wanted, conv.bias), rtol=0, atol=1e-10)
    assert torch.equal(layer.merge()(x), layer(x))


def test_gradients_are_finite_differences():
    for geometry in GEOMETRIES:
        _, layer, own = adapter(geometry)
        for p in own.values():
            nn.init.normal_(p)
        x = torch.randn(1, 6, 4, 5, dtype=torch.float64)
        run = lambda *values, layer=layer, own=own, x=x: functional_call(layer, dict(zip(own, values)), (x,))
        assert torch.autograd.gradcheck(run, tuple(own.values()), fast_mode=True)


def test_the_rank_of_a_tap_is_not_that_of_b_and_a():
    conv, layer, own = adapter(GEOMETRIES[0], rank=1)
    nn.init.normal_(own["d"])
    taps = (layer.adapted_weight() - conv.weight).permute(2, 3, 0, 1)
    assert (torch.linalg.matrix_rank(taps) == 6).all()


def test_count():
    shapes = resnet26_shapes()
    assert f"{Householder().multiplier(shapes):.2f}" == "1.12"
    assert Householder(4).new_floats(ConvShape(32, 64, (3, 3))) == 64 + 32 + 9 * 32 + 4 * (64 + 288)
    assert Householder(40).new_floats(shapes.convs[0]) == 32 + 3 + 9 * 3 + 27 * (32 + 27)
    with pytest.raises(InputError, match="1 or more"):
        Householder(0)
    with pytest.raises(InputError, match="lower it"):
        Householder(257).check(shapes)
