"""CoLoRA: the two changes of a pair by loops and as in the paper's 1x1 case, which layers are pairs, and the count."""

import copy

import pytest
import torch
from torch import nn

from visual_decathlon.benchmark.backbones.library import library_network
from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes
from visual_decathlon.benchmark.backbones.structure import shapes_of
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.colora import pairs
from visual_decathlon.methods.layers.colora import FirstConv, SecondConv
from visual_decathlon.methods.layers.low_rank import LoraConv
from visual_decathlon.methods.layers.network import merge_for_inference, own_tensors
from visual_decathlon.methods.registry import select
from visual_decathlon.methods.shapes import BlockShape, ConvShape, Shapes

GEOMETRIES = {
    "3x3": ({"kernel_size": 3, "padding": 1, "stride": 2}, {"kernel_size": 3, "padding": 2, "dilation": 2}),
    "1x1": ({"kernel_size": 1}, {"kernel_size": 1, "stride": 2}),
    "mixed": ({"kernel_size": 1, "bias": True}, {"kernel_size": (3, 2), "padding": 1, "padding_mode": "reflect"}),
}


def pair_of(how) -> tuple[FirstConv, SecondConv]:
    """Both layers with all factors at random."""
    torch.manual_seed(0)
    one = nn.Conv2d(4, 6, **{"bias": False, **how[0]}).double().requires_grad_(False)
    two = nn.Conv2d(6, 5, **{"bias": False, **how[1]}).double().requires_grad_(False)
    first = FirstConv(one, two, 0.5, 2, 3)
    second = SecondConv(two, first, 0.5, 1)
    assert torch.equal(first.adapted_weight(), one.weight) and torch.equal(second.adapted_weight(), two.weight)
    for layer in (first, second):
        for p in layer.parameters():
            if p.requires_grad:
                nn.init.normal_(p)
    return first, second


@pytest.mark.parametrize("how", GEOMETRIES.values(), ids=GEOMETRIES)
@torch.no_grad()
def test_the_changes_by_loops(how):
    first, second = pair_of(how)
    one, two = first.conv.weight, second.conv.weight
    a = first.shared_down.view(3, *one.shape[1:])
    b = first.shared_up.view(two.shape[0], *two.shape[2:], 3)
    delta1 = (first.up @ first.down).view_as(one).clone()
    delta2 = (second.up @ second.down).view_as(two).clone()
    for h in range(6):
        for r in range(3):
            up = sum((two[o, h] * b[o, :, :, r]).sum() for o in range(5))
            delta1[h] += up * a[r]
            down = (a[r] * one[h]).sum()
            for o in range(5):
                delta2[o, h] += b[o, :, :, r] * down
    for layer, delta, cin in ((first, delta1, 4), (second, delta2, 6)):
        x = torch.randn(2, cin, 9, 11, dtype=torch.float64)
        wanted = layer.conv._conv_forward(x, layer.conv.weight + 0.5 * delta, layer.conv.bias)
        assert torch.allclose(layer(x), wanted, rtol=1e-10, atol=1e-10)
        assert torch.allclose(layer.merge()(x), wanted, rtol=1e-10, atol=1e-10)


@torch.no_grad()
def test_the_1x1_case_is_that_of_the_paper():
    """(W2ᵀ B) A and B (A W1ᵀ), both of matrices of pointwise layers."""
    first, second = pair_of(GEOMETRIES["1x1"])
    w1, w2 = first.conv.weight[:, :, 0, 0], second.conv.weight[:, :, 0, 0]
    a, b = first.shared_down, first.shared_up
    assert torch.allclose(first.adapted_weight()[:, :, 0, 0], w1 + 0.5 * (first.up @ first.down + (w2.t() @ b) @ a))
    assert torch.allclose(second.adapted_weight()[:, :, 0, 0], w2 + 0.5 * (second.up @ second.down + b @ (a @ w1.t())))


def test_the_faster_path_computes_the_same():
    first, _ = pair_of(GEOMETRIES["3x3"])
    x = torch.randn(2, 4, 9, 11, dtype=torch.float64)
    wanted = first(x)
    first.factored_path = True
    assert torch.allclose(first(x), wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["resnet26", "torchvision/resnet18", "torchvision/resnet50", "timm/resnet18"])
def test_pairs_and_count(name):
    source = (resnet26(3, 0.25) if name == "resnet26" else library_network(name, 3)).requires_grad_(False).eval()
    (method,) = select("colora")
    torch.manual_seed(0)
    network, shapes = method.place(source, 4), shapes_of(source)
    kinds = [type(m) for _, m in network.conv_sites()]
    assert kinds.count(FirstConv) == kinds.count(SecondConv) == len(source.blocks) == len(pairs(shapes))
    assert not any(site.shortcut for site, m in network.conv_sites() if type(m) is not LoraConv)
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == method.floats(shapes) + shapes.head(4)
    if name == "resnet26":
        x = torch.randn(2, 3, 32, 32)
        with torch.no_grad():
            for p in own_tensors(network, source).values():
                if p.is_floating_point():
                    p.add_(0.02)
            wanted = network.eval()(x)
            assert torch.allclose(merge_for_inference(copy.deepcopy(network))(x), wanted, rtol=1e-4, atol=1e-4)


def test_count_of_the_resnet26():
    shapes = resnet26_shapes()
    (method,) = select("colora")
    own = sum(4 * (c.fan_in + c.cout) for c in shapes.convs[1:]) + 8 * (27 + 32)
    shared = sum(
        4 * (one.fan_in + 9 * two.cout) for one, two in zip(shapes.convs[1::2], shapes.convs[2::2], strict=True)
    )
    assert method.floats(shapes) == 7_744 + own + shared
    assert f"{method.multiplier(shapes):.2f}" == "1.41"


def test_no_pair_across_groups_or_blocks():
    convs = [ConvShape(4, 4, (3, 3), name=f"a.{i}", groups=2 if i == 1 else 1) for i in range(4)]
    convs += [ConvShape(4, 8, (3, 3), name="b.0"), ConvShape(4, 4, (3, 3), name="b.1")]
    found = pairs(Shapes(tuple(convs), (), 4, (BlockShape("a", 4, 4), BlockShape("b", 4, 4))))
    assert [(one.name, two.name) for one, two in found] == [("a.2", "a.3")]


@pytest.mark.parametrize("shared", [0, 8, -1])
def test_wrong_options(shared):
    with pytest.raises(InputError, match="below rank"):
        select(f"colora(shared={shared})")
