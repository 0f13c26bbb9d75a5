"""FacT against the slices of one tensor, the sharing of its factors, and its counts."""

import copy

import pytest
import torch
from torch import nn

from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.fact import FacT
from visual_decathlon.methods.layers.fact import FactConv
from visual_decathlon.methods.layers.network import merge_for_inference, stored_tensors
from visual_decathlon.methods.registry import select
from visual_decathlon.methods.shapes import ConvShape

GEOMETRIES = [
    {"kernel_size": 3, "padding": 1, "bias": False},
    {"kernel_size": (3, 2), "padding": (1, 0), "stride": (1, 2)},
    {"kernel_size": 3, "padding": 2, "dilation": 2, "padding_mode": "reflect"},
    {"kernel_size": 1, "stride": 2},
]


@pytest.mark.parametrize("form", ["tt", "tk"])
@pytest.mark.parametrize("how", GEOMETRIES)
def test_a_tap_is_a_slice(how, form):
    """V S Uᵀ tap by tap; as convolutions too."""
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 8, **how).double().requires_grad_(False)
    layer, x = FacT(3, form, 0.5).layer(conv), torch.randn(2, 6, 11, 9, dtype=torch.float64)
    assert torch.equal(layer.adapted_weight(), conv.weight)
    nn.init.normal_(layer.up)
    weight = conv.weight.clone()
    for s in range(weight[0, 0].numel()):
        if form == "tt":
            core = layer.core[:, :, s]
        else:
            core = sum(layer.mix[s, c] * layer.core[:, :, c] for c in range(3))
        weight.flatten(2)[:, :, s] += 0.5 * layer.up.detach() @ core.detach() @ layer.channels.detach().t()
    wanted = conv._conv_forward(x, weight, conv.bias)
    for layer.factored_path in (False, True):
        assert torch.allclose(layer(x), wanted, rtol=1e-10, atol=1e-10)
    assert torch.allclose(layer.merge()(x), wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("form", ["tt", "tk"])
def test_the_start_keeps_the_size_of_what_is_read(form):
    """The rows of R have length one on average."""
    torch.manual_seed(0)
    layer = FacT(32, form).layer(nn.Conv2d(64, 8, 3))
    assert layer.rows().square().sum(1).mean().item() == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize("form", ["tt", "tk"])
def test_which_layers_share(form):
    source = resnet26(3, 0.25).requires_grad_(False).eval()
    method = FacT(4, form)
    network, other = method.place(source, 5), method.place(source, 5)
    stored = stored_tensors(network, source)
    shared = [{n: tuple(t.shape) for n, t in stored.items() if n.endswith(f".{name}")} for name in ("up", "channels")]
    assert list(shared[0].values()) == [(8, 4), (16, 4), (32, 4), (64, 4)]
    assert list(shared[1].values()) == [(3, 4), (8, 4), (16, 4), (32, 4), (64, 4)]
    cores = [t.shape for n, t in stored.items() if n.endswith(".core")]
    assert cores == ([(4, 4, 9)] * 25 if form == "tt" else [(4, 4, 4)])
    assert not {id(p) for p in network.parameters() if p.requires_grad} & {id(p) for p in other.parameters()}
    for name, p in network.named_parameters():
        if p.requires_grad and name.endswith(".up"):
            nn.init.normal_(p, std=0.3)
    x = torch.randn(2, 3, 32, 32)
    for each in (network, copy.deepcopy(network)):  # a copy's layers share the copy's factors
        with torch.no_grad():
            wanted = each.eval()(x)
            assert torch.allclose(merge_for_inference(each)(x), wanted, rtol=1e-4, atol=1e-4)
            each.get_parameter("body.stages.0.0.unit1.conv.up").zero_()
        unit = each.get_submodule("body.stages.0.3.unit2.conv")
        assert torch.equal(unit.adapted_weight(), unit.conv.weight)
        unit.adapted_weight().sum().backward()
        assert each.get_parameter("body.stages.0.0.unit1.conv.up").grad is not None
    assert not any(isinstance(m, FactConv) for m in merge_for_inference(network).modules())


def test_counts():
    shapes = resnet26_shapes()
    ends = 16 * (3 + 32 + 64 + 128 + 256 + 32 + 64 + 128 + 256)
    train, tucker = select("fact,fact(form='tk')")
    assert train.floats(shapes) == 7_744 + ends + 25 * 9 * 256
    assert tucker.floats(shapes) == 7_744 + ends + 25 * 9 * 16 + 4_096
    assert (f"{train.multiplier(shapes):.2f}", f"{tucker.multiplier(shapes):.2f}") == ("1.12", "1.05")


def test_wrong_options():
    for spec, message in (
        ("fact(rank=0)", "rank must be 1 or more"),
        ("fact(scale=0.0)", "scale must be above 0"),
        ("fact(form='cp')", "'tt' or 'tk'"),
    ):
        with pytest.raises(InputError, match=message):
            select(spec)
    with pytest.raises(InputError, match="larger than every matrix"):
        select("fact(rank=300)")[0].check(resnet26_shapes())
    assert FacT().skip_reason(ConvShape(8, 8, (3, 3), groups=2))
