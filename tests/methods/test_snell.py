"""SNELL against plain loops over rows and columns; the entries it keeps, its start, its count."""

import pytest
import torch
from torch import nn
from torch.func import functional_call

from tests.adapters import GEOMETRIES, geometries
from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.layers.snell import START
from visual_decathlon.methods.registry import select
from visual_decathlon.methods.shapes import ConvShape
from visual_decathlon.methods.snell import SNELL


def moved(method, geometry):
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 8, **geometry, dtype=torch.float64).requires_grad_(False)
    layer = method.layer(conv)
    assert layer.delta().norm().item() == pytest.approx(START * conv.weight.norm().item())
    for p in (layer.o, layer.i):
        nn.init.normal_(p)
    return conv, layer


@geometries
def test_it_is_the_largest_differences_of_distances(geometry):
    method = SNELL(dim=4, sparsity=0.7)
    conv, layer = moved(method, geometry)
    kept, size = method.kept(ConvShape.of(conv)), conv.weight.numel()
    assert kept == round(0.3 * size) and layer.delta().count_nonzero() == kept
    dense = {}
    for row, o in enumerate(layer.o.T):
        for col, i in enumerate(layer.i.T):
            dense[row, col] = 0.1 * (o[:2] - i[:2]).norm() - 0.1 * (o[2:] - i[2:]).norm()
    wanted = torch.zeros_like(layer.delta())
    for at in sorted(dense, key=lambda at: -abs(dense[at]))[:kept]:
        wanted[at] = dense[at]
    torch.testing.assert_close(layer.delta(), wanted)
    x = torch.randn(2, 6, 9, 8, dtype=torch.float64)
    plain = conv._conv_forward(x, conv.weight + wanted.view_as(conv.weight), conv.bias)
    torch.testing.assert_close(layer(x), plain)
    assert torch.equal(layer.merge()(x), layer(x))


@geometries
def test_gradients_are_finite_differences(geometry):
    """Where the selection does not change: a step of 1e-6 is far below the gap at the threshold."""
    _, layer = moved(SNELL(dim=4, sparsity=0.7), geometry)
    x = torch.randn(1, 6, 4, 5, dtype=torch.float64)
    run = lambda o, i: functional_call(layer, {"o": o, "i": i}, (x,))
    assert torch.autograd.gradcheck(run, (layer.o, layer.i), fast_mode=True)


@pytest.mark.parametrize("width", [0.125, 0.5])
@pytest.mark.parametrize("sparsity", [0.0, 0.9, 0.99])
def test_it_starts_near(width, sparsity):
    """Features with the domain's statistics are within the tolerance, but not equal to the frozen ones."""
    torch.manual_seed(0)
    source = resnet26(3, width)
    with torch.no_grad():
        for _ in range(5):
            source.train()(torch.randn(8, 3, 32, 32))
        source.requires_grad_(False).eval()
        x = 0.3 + 1.2 * torch.randn(8, 3, 32, 32)
        wanted = source.body(x)
        off = (SNELL(sparsity=sparsity).place(source, 3).eval().body(x) - wanted).abs().max() / wanted.abs().max()
    assert 0 < off < SNELL.start_tolerance


def test_a_nearer_start_has_no_smaller_gradients():
    """Distances scale with the points, their slopes do not, so a start near zero still has gradients."""
    conv, layer = moved(SNELL(dim=4), GEOMETRIES[0])
    slope = torch.randn(conv.weight.flatten(1).shape, dtype=torch.float64)

    def gradient():
        return torch.autograd.grad((layer.delta() * slope).sum(), layer.o)[0]

    first, delta = gradient(), layer.delta()
    with torch.no_grad():
        for p in (layer.o, layer.i):
            p.mul_(1e-4)
    torch.testing.assert_close(layer.delta(), 1e-4 * delta)
    torch.testing.assert_close(gradient(), first)


@pytest.mark.parametrize(
    ("spec", "part"),
    [
        ("snell(dim=7)", "even"),
        ("snell(dim=0)", "even, 2 or more"),
        ("snell(sparsity=1)", "below 1"),
        ("snell(sparsity=-0.1)", "0 or more"),
    ],
)
def test_options_refused(spec, part):
    with pytest.raises(InputError, match=part):
        select(spec)


def test_count():
    assert f"{SNELL().multiplier(resnet26_shapes()):.2f}" == "2.69"
    assert SNELL(8).new_floats(ConvShape(32, 64, (3, 3), 2)) == 8 * (64 + 16 * 9)
