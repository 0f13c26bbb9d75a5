"""ARC against the mix of channels that it computes; its projections; why it has no bias."""

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call

from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes
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
def test_it_is_a_mix_of_what_the_convolution_reads(geometry):
    """(I + P diag(c) Pᵀ) of the input; gradients by finite differences."""
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 8, **geometry, dtype=torch.float64).requires_grad_(False)
    layer = ARC(3).layer(conv)
    assert torch.equal(layer.adapted_weight(), conv.weight) and not layer.c.any() and layer.p.shape == (6, 3)
    moved(layer)
    x = torch.randn(2, 6, 7, 8, dtype=torch.float64)
    mixed = x.clone()
    for column, coefficient in zip(layer.p.T, layer.c, strict=True):
        mixed += coefficient * column.view(-1, 1, 1) * torch.einsum("j,njhw->nhw", column, x)[:, None]
    for layer.mixed_path in (True, False):
        torch.testing.assert_close(layer(x), conv(mixed), rtol=0, atol=1e-12)
        run = lambda p, c: functional_call(layer, {"p": p, "c": c}, (x,))
        assert torch.autograd.gradcheck(run, (layer.p, layer.c))
    assert torch.equal(layer.merge()(x), layer(x))


def test_the_faster_path_is_taken():
    before = lambda cin, rank=32, **geometry: ARC(rank).layer(nn.Conv2d(cin, 64, **geometry)).mixed_path
    assert before(128, kernel_size=3) and not before(64, kernel_size=3)
    assert not before(128, 65, kernel_size=3) and not before(256, kernel_size=1)


def test_two_projections_a_width():
    """First convolutions of blocks share one, all others of the width the second."""
    source = resnet26(3, 0.25).requires_grad_(False).eval()
    network, other = ARC(8).place(source, 5), ARC(8).place(source, 5)
    adapters = [m for _, m in network.conv_sites()]
    held = {name: t.shape for name, t in stored_tensors(network, source).items() if name.endswith(".p")}
    assert held == {
        "body.stem.conv.p": (3, 3),
        "body.stages.0.0.unit1.conv.p": (8, 8),
        "body.stages.0.0.unit2.conv.p": (16, 8),
        "body.stages.0.1.unit1.conv.p": (16, 8),
        "body.stages.1.0.unit2.conv.p": (32, 8),
        "body.stages.1.1.unit1.conv.p": (32, 8),
        "body.stages.2.0.unit2.conv.p": (64, 8),
        "body.stages.2.1.unit1.conv.p": (64, 8),
    }
    assert sum(name.endswith(".c") for name in own_tensors(network, source)) == len(adapters) == 25
    assert not {id(p) for p in network.parameters() if p.requires_grad} & {id(p) for p in other.parameters()}
    moved(network)
    x = torch.randn(2, 3, 32, 32)
    for each in (network, copy.deepcopy(network)):  # a copy's layers share the copy's projection
        with torch.no_grad():
            wanted = each.eval()(x)
            off = (merge_for_inference(each)(x) - wanted).abs().max()
            assert off <= 1e-4 * wanted.abs().max()
            each.get_parameter("body.stages.0.0.unit2.conv.p").zero_()
        first, second = (each.get_submodule(f"body.stages.0.3.unit{n}.conv") for n in (1, 2))
        assert torch.equal(second.adapted_weight(), second.conv.weight) and not torch.equal(
            first.adapted_weight(), first.conv.weight
        )
        second.adapted_weight().sum().backward()  # and they all train it
        assert each.get_parameter("body.stages.0.0.unit2.conv.p").grad is not None
    assert not any(isinstance(m, ARCConv) for m in merge_for_inference(network).modules())


def test_counts_at_width_one():
    """Widths read by first convolutions: 32 to 256; by the others: the image's 3, and 64, 128, 256."""
    shapes = resnet26_shapes()
    for rank, printed in ((50, "1.08"), (32, "1.06"), (16, "1.04")):
        projections = sum(min(c, rank) * c for c in (32, 64, 128, 256, 3, 64, 128, 256))
        coefficients = sum(min(c.cin, rank) for c in shapes.convs)
        assert ARC(rank).floats(shapes) == 7_744 + projections + coefficients
        assert f"{ARC(rank).multiplier(shapes):.2f}" == printed
    assert [ARC(50).rank_at(c) for c in shapes.convs[:3]] == [3, 32, 50]


def test_a_bias_in_front_would_be_cancelled():
    """Without padding it has no gradient above rounding behind a batch norm in training."""
    torch.manual_seed(0)
    conv, norm, bias = nn.Conv2d(6, 8, 3, bias=False), nn.BatchNorm2d(8), torch.zeros(6, 1, 1, requires_grad=True)
    y = norm(conv(torch.randn(4, 6, 9, 9) + bias))
    (y * torch.randn_like(y)).sum().backward()
    assert bias.grad.abs().max() < 1e-4 * norm.bias.grad.abs().max()


def test_groups_are_named_and_ranks_checked():
    assert ARC().skip_reason(ConvShape(32, 32, (3, 3), 4)) == "its 4 groups read different channels"
    with pytest.raises(InputError, match="1 or more"):
        ARC(0)
    with pytest.raises(InputError, match="lower it"):
        ARC(257).check(resnet26_shapes())
