"""ARC against the mix of channels that it computes; one projection for each width; the role of the bias."""

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call

from visual_decathlon.benchmark.backbones.library import library_network
from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes, shapes_of
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.arc import ARC
from visual_decathlon.methods.layers.arc import ARCConv
from visual_decathlon.methods.layers.network import merge_for_inference, own_tensors, stored_tensors
from visual_decathlon.methods.shapes import ConvShape

GEOMETRIES = [
    {"kernel_size": 3, "padding": 1, "bias": False},
    {"kernel_size": (3, 2), "padding": (1, 0), "stride": (1, 2)},
    {"kernel_size": 3, "padding": 2, "dilation": 2, "padding_mode": "reflect"},
    {"kernel_size": 1, "stride": 2},
]


def moved(network_or_layer):
    for name, p in network_or_layer.named_parameters():
        if p.requires_grad and name.rpartition(".")[2] in ("p", "c"):
            nn.init.normal_(p, std=0.4)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_it_is_a_mix_behind_the_convolution(geometry):
    """(I + P diag(c) Pᵀ) of the output, the convolution's own bias included; gradients by finite differences."""
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 8, **geometry, dtype=torch.float64).requires_grad_(False)
    layer = ARC(3).layer(conv)
    assert torch.equal(layer.weight(), conv.weight) and not layer.c.any()
    moved(layer)
    x = torch.randn(2, 6, 7, 8, dtype=torch.float64)
    mix = torch.eye(8, dtype=torch.float64) + layer.p @ torch.diag(layer.c) @ layer.p.T
    for layer.mixed_path in (True, False):
        torch.testing.assert_close(layer(x), torch.einsum("ij,njhw->nihw", mix, conv(x)), rtol=0, atol=1e-12)
        run = lambda p, c: functional_call(layer, {"p": p, "c": c}, (x,))
        assert torch.autograd.gradcheck(run, (layer.p, layer.c))
    assert torch.equal(layer.merge()(x), layer(x))


def test_the_faster_path_is_taken():
    behind = lambda cout, rank=32, **geometry: ARC(rank).layer(nn.Conv2d(64, cout, **geometry)).mixed_path
    assert behind(128, kernel_size=3) and not behind(64, kernel_size=3)
    assert not behind(128, 64, kernel_size=3) and not behind(256, kernel_size=1)


def test_one_projection_a_width():
    source = resnet26(3, 0.25).requires_grad_(False).eval()
    network, other = ARC(8).place(source, 5), ARC(8).place(source, 5)
    adapters = [m for _, m in network.conv_sites()]
    held = {name: t.shape for name, t in stored_tensors(network, source).items() if name.endswith(".p")}
    assert held == {
        "body.stem.conv.p": (8, 8),
        "body.stages.0.0.unit1.conv.p": (16, 8),
        "body.stages.1.0.unit1.conv.p": (32, 8),
        "body.stages.2.0.unit1.conv.p": (64, 8),
    }
    assert sum(name.endswith(".c") for name in own_tensors(network, source)) == len(adapters) == 25
    assert not {id(p) for p in network.parameters() if p.requires_grad} & {id(p) for p in other.parameters()}
    moved(network)
    x = torch.randn(2, 3, 32, 32)
    for each in (network, copy.deepcopy(network)):  # a copy's layers share the copy's projection
        with torch.no_grad():
            wanted = each.eval()(x)
            torch.testing.assert_close(merge_for_inference(each)(x), wanted, rtol=1e-4, atol=1e-5)
            each.get_parameter("body.stages.0.0.unit1.conv.p").zero_()
        unit = each.get_submodule("body.stages.0.3.unit2.conv")
        assert torch.equal(unit.weight(), unit.conv.weight)
        unit.weight().sum().backward()  # and they all train it
        assert each.get_parameter("body.stages.0.0.unit1.conv.p").grad is not None
    assert not any(isinstance(m, ARCConv) for m in merge_for_inference(network).modules())


def test_count_has_its_bias_once():
    """Σ_widths C r + Σ_layers (r + C), where C are the norms' shifts, and the rest of batch norm."""
    shapes = resnet26_shapes()
    own = (32 + 64 + 128 + 256) * 16 + sum(16 + c.cout for c in shapes.convs)
    rest = sum(n.channels for n in shapes.norms) + shapes.norms[-1].channels  # scales, and the last norm's shift
    assert ARC(16).floats(shapes) == own + rest
    assert f"{ARC().multiplier(shapes):.2f}" == "1.04"
    assert ARC(50).rank_at(shapes.convs[0]) == 32 and ARC(50).rank_at(shapes.convs[1]) == 50


def test_a_bias_of_its_own_would_be_the_norms_shift():
    """After the norm it has the gradient of β to the bit; before it, no gradient above rounding."""
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(6, 8, 3, bias=False), nn.BatchNorm2d(8)
    front, behind = (torch.zeros(8, 1, 1, requires_grad=True) for _ in range(2))
    y = norm(conv(torch.randn(4, 6, 9, 9)) + front) + behind
    (y * torch.randn_like(y)).sum().backward()
    torch.testing.assert_close(behind.grad[:, 0, 0], norm.bias.grad, rtol=1e-5, atol=1e-6)
    assert front.grad.abs().max() < 1e-4 * norm.bias.grad.abs().max()


def test_groups_are_named_and_ranks_checked():
    assert ARC().skip_reason(ConvShape(32, 32, (3, 3), 4)) == "its 4 groups read different channels"
    with pytest.raises(InputError, match="1 or more"):
        ARC(0)
    with pytest.raises(InputError, match="lower it"):
        ARC(257).check(resnet26_shapes())


@pytest.mark.parametrize("name", ["torchvision/resnet18", "timm/resnet50"])
def test_library_networks(name):
    network = library_network(name, 4).eval()
    placed, shapes = ARC().place(network, 4), shapes_of(network)
    trained = sum(p.numel() for p in placed.parameters() if p.requires_grad)
    assert trained == ARC().floats(shapes) + shapes.head(4)
    assert ARC().adapted(shapes) == list(shapes.convs)
