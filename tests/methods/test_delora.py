"""DeLoRA against HF PEFT and a loop over its terms; its bound, start, decay and counts."""

import pytest
import torch
from torch import nn
from torch.func import functional_call

from tests.adapters import GEOMETRIES, geometries
from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.delora import DeLoRA
from visual_decathlon.methods.layers.delora import delora_delta
from visual_decathlon.methods.layers.network import own_tensors, restore, stored_tensors
from visual_decathlon.methods.shapes import ConvShape


def moved(geometry):
    """The adapter of a frozen convolution 8 -> 12, its trained tensors changed from their start."""
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 12, **geometry, dtype=torch.float64).requires_grad_(False)
    layer = DeLoRA(4, 6.0).layer(conv)
    for p in (layer.up, layer.down, layer.growth):
        nn.init.normal_(p)
    return conv, layer


def by_terms(up, down, strength, matrix):
    """ΔM as a sum over unit vectors, each column as long as M's."""
    delta = torch.zeros_like(matrix)
    for b, a in zip(up.T, down, strict=True):
        delta += strength / len(down) * torch.outer(b / b.norm(), a / a.norm())
    for j in range(matrix.shape[1]):
        delta[:, j] *= matrix[:, j].square().sum().sqrt()
    return delta


@geometries
def test_delta_is_the_sum_of_its_terms_without_the_start(geometry):
    conv, layer = moved(geometry)
    matrix = conv.weight.flatten(1)
    delta = by_terms(layer.up, layer.down, 6 * (1 + layer.growth), matrix)
    delta = delta - by_terms(layer.start_up, layer.start_down, 6.0, matrix)
    x = torch.randn(2, 8, 9, 11, dtype=torch.float64)
    wanted = conv(x) + conv._conv_forward(x, delta.view_as(conv.weight), None)
    torch.testing.assert_close(layer(x), wanted)
    torch.testing.assert_close(layer.merge()(x), wanted)


@pytest.mark.parametrize("tiny", [False, True])
def test_delta_is_pefts(tiny):
    """On a linear layer; where a vector is nearly zero, too."""
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    linear = nn.Linear(20, 14)
    matrix = linear.weight.detach().clone()
    config = peft.DeloraConfig(r=3, delora_lambda=7, target_modules=["0"])
    model = peft.get_peft_model(nn.Sequential(linear), config).base_model.model[0]
    up, down = torch.randn(14, 3) * (1e-6 if tiny else 1), torch.randn(3, 20)
    with torch.no_grad():
        model.delora_A["default"].copy_(down)
        model.delora_B["default"].copy_(up)
        got = delora_delta(up, down, torch.tensor([7.0]), matrix.norm(dim=0))
        torch.testing.assert_close(got, model.get_delta_weight("default"), rtol=1e-5, atol=1e-5)
        x = torch.randn(3, 20)
        torch.testing.assert_close(x @ (matrix + got).T + linear.bias, model(x), rtol=1e-5, atol=1e-5)


def test_it_is_bounded_whatever_the_factors():
    matrix = torch.randn(12, 30)
    for size in (1e-2, 1, 1e3):
        delta = delora_delta(
            size * torch.randn(12, 5), size * torch.randn(5, 30), torch.tensor([2.0]), matrix.norm(dim=0)
        )
        assert float(delta.norm()) <= 2 * float(matrix.norm(dim=0).max())
    same = torch.randn(12, 1).expand(12, 5), torch.eye(30)[:1].expand(5, 30)
    delta = delora_delta(*same, torch.tensor([2.0]), matrix.norm(dim=0))
    assert float(delta.norm()) == pytest.approx(2 * float(matrix[:, 0].norm())), "terms that agree reach the bound"


@geometries
def test_the_start_is_the_identity_and_the_same_for_every_run(geometry):
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 12, **geometry).requires_grad_(False)
    layer, other = DeLoRA().layer(conv), DeLoRA().layer(conv)
    assert torch.equal(layer.adapted_weight(), conv.weight)
    assert torch.equal(layer.up, other.up) and torch.equal(layer.down, other.down)
    assert 0.5 < float(layer.up.detach().square().mean()) * 3 * layer.up.shape[1] < 2, "variance 1 / (3 rank)"


def test_gradients_are_finite_differences():
    for geometry in GEOMETRIES:
        _, layer = moved(geometry)
        own = {name: p for name, p in layer.named_parameters() if p.requires_grad}
        x = torch.randn(2, 8, 6, 7, dtype=torch.float64)
        run = lambda *values, layer=layer, x=x, own=own: functional_call(layer, dict(zip(own, values)), (x,))
        assert torch.autograd.gradcheck(run, tuple(own.values()), fast_mode=True)


def test_no_decay_on_what_is_not_zero_at_the_start():
    source = resnet26(3, 0.125).requires_grad_(False)
    network = DeLoRA().place(source, 3)
    rest, own = DeLoRA().groups(network, 5e-4, 100)
    assert (rest["weight_decay"], own["weight_decay"]) == (5e-4, 0)
    layers = [site for _, site in network.conv_sites()]
    assert set(map(id, own["params"])) == {id(p) for m in layers for p in (m.up, m.down, m.growth)}


def test_the_file_has_the_trained_tensors_alone():
    source = resnet26(3, 0.125).requires_grad_(False).eval()
    network = DeLoRA().place(source, 3)
    layers = [site for _, site in network.conv_sites()]
    with torch.no_grad():
        for layer in layers:
            layer.up.normal_()
    own, stored = own_tensors(network, source), stored_tensors(network, source)
    left_out = {name.rpartition(".")[2] for name in own.keys() - stored.keys()}
    assert left_out == {"start_up", "start_down", "lengths"}
    fresh, x = DeLoRA().place(source, 3).eval(), torch.randn(2, 3, 16, 16)
    assert restore(fresh, source, stored) == ""
    assert torch.equal(fresh(x), network.eval()(x))


def test_counts():
    """LoRA's and one strength a convolution."""
    shapes = resnet26_shapes()
    assert f"{DeLoRA().multiplier(shapes):.2f}" == "1.43"
    assert DeLoRA().floats(shapes) == shapes.affine + sum(8 * (c.cout + c.fan_in) + 1 for c in shapes.convs)
    assert DeLoRA(8).new_floats(ConvShape(2, 3, (1, 1))) == 2 * (3 + 2) + 1


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: DeLoRA(rank=0), r"delora\(rank=0\): rank must be 1 or more"),
        (lambda: DeLoRA(rank=300), r"delora\(rank=300\): the rank is larger than every matrix"),
        (lambda: DeLoRA(strength=0.0), r"delora\(strength=0.0\): strength must be above 0"),
    ],
)
def test_what_fits_nowhere_is_refused(make, words):
    with pytest.raises(InputError, match=words):
        make().check(resnet26_shapes())
