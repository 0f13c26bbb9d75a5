"""GLoRA against its terms as convolutions of their own, the cancelled terms, and its counts."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.glora import GLora
from visual_decathlon.methods.layers.glora import GLoraConv
from visual_decathlon.methods.registry import select

GEOMETRIES = {
    "stride": {"kernel_size": 3, "padding": 1, "stride": 2},
    "dilation": {"kernel_size": 3, "padding": 2, "dilation": 2},
    "groups": {"kernel_size": 3, "padding": 1, "groups": 2},
    "non-square": {"kernel_size": (3, 5), "padding": (0, 2), "stride": (2, 1)},
    "bias, reflect": {"kernel_size": 3, "padding": 1, "padding_mode": "reflect", "bias": True},
}


def moved(conv: nn.Conv2d, vector: bool) -> GLoraConv:
    layer = GLora(2, "vector" if vector else "low-rank").layer(conv.requires_grad_(False))
    assert torch.equal(layer.adapted_weight(), conv.weight)
    for p in (layer.scale_up, layer.shift_up):
        nn.init.normal_(p)
    return layer


@pytest.mark.parametrize("vector", [False, True])
@pytest.mark.parametrize("how", GEOMETRIES.values(), ids=GEOMETRIES)
@torch.no_grad()
def test_three_convolutions(how, vector):
    """W, W ⊙ A filter by filter, and B, each of them a convolution with the same geometry."""
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 6, **{"bias": False, **how}).double()
    layer, x = moved(conv, vector), torch.randn(2, 4, 11, 9, dtype=torch.float64)
    scaled, added = torch.empty_like(conv.weight), torch.empty_like(conv.weight)
    for o in range(6):
        a = sum(layer.scale_up[o, r] * layer.scale_down[r] for r in range(2)).view_as(conv.weight[o])
        scaled[o] = conv.weight[o] * a
        if vector:
            added[o] = layer.shift_up[o, 0]
        else:
            added[o] = sum(layer.shift_up[o, r] * layer.shift_down[r] for r in range(2)).view_as(conv.weight[o])
    wanted = conv(x) + sum(conv._conv_forward(x, w, None) for w in (scaled, added))
    for got in (layer(x), layer.merge()(x)):
        assert torch.allclose(got, wanted, rtol=1e-10, atol=1e-10)


@torch.no_grad()
def test_alone_its_terms_are_lora_and_hira():
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 6, 3).requires_grad_(False)
    layer = moved(conv, False)
    lora, hira = (method.layer(conv) for method in select("lora(rank=2,alpha=2.0),hira(rank=2)"))
    lora.up.copy_(layer.shift_up), lora.down.copy_(layer.shift_down)
    hira.up.copy_(layer.scale_up), hira.down.copy_(layer.scale_down)
    both = lora.adapted_weight() + hira.adapted_weight() - conv.weight
    assert torch.allclose(layer.adapted_weight(), both, rtol=1e-5, atol=1e-6)


def test_the_other_terms_are_cancelled():
    """Biases D b + E + W C, and a scale for each filter, change nothing behind a batch norm in training."""
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(3, 5, 3, padding=1).double(), nn.BatchNorm2d(5, eps=1e-12).double().train()
    x = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    size, c, d, e = torch.rand(5).double() + 0.5, torch.randn(27).double(), torch.randn(5), torch.randn(5)
    bias = conv.bias + d * conv.bias + e + conv.weight.flatten(1) @ c
    changed = F.conv2d(x, conv.weight * size.view(-1, 1, 1, 1), bias, padding=1)
    assert torch.allclose(norm(changed), norm(conv(x)), rtol=1e-9, atol=1e-9)


def test_counts():
    shapes = resnet26_shapes()
    both, vector = select("glora,glora(shift='vector')")
    size = sum(4 * (c.fan_in + c.cout) for c in shapes.convs)
    assert both.floats(shapes) == 7_744 + 2 * size
    assert vector.floats(shapes) == 7_744 + size + sum(c.cout for c in shapes.convs)
    assert [f"{method.multiplier(shapes):.2f}" for method in (both, vector)] == ["1.43", "1.23"]


def test_wrong_options():
    with pytest.raises(InputError, match="rank must be 1 or more"):
        select("glora(rank=0)")
    with pytest.raises(InputError, match="'low-rank' or 'vector'"):
        select("glora(shift='none')")
    with pytest.raises(InputError, match="larger than every matrix"):
        select("glora(rank=300)")[0].check(resnet26_shapes())


@pytest.mark.filterwarnings("ignore")
def test_it_is_pefts_on_patches():
    """HF PEFT has GLoRA for linear layers: one that reads every patch of a padded, strided convolution."""
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    conv, x = nn.Conv2d(4, 6, (3, 2), stride=2, padding=1, bias=False), torch.randn(2, 4, 9, 8)
    layer = moved(conv, False)
    linear = nn.Linear(24, 6, bias=False)
    linear.weight.data = conv.weight.flatten(1).clone()
    config = peft.GloraConfig(r=2, target_modules=["0"])
    reference = peft.get_peft_model(nn.Sequential(linear), config)
    (adapted,) = (m for m in reference.modules() if hasattr(m, "glora_A"))
    with torch.no_grad():
        for path, up, down in (
            (adapted.glora_A["default"], layer.scale_up, layer.scale_down),
            (adapted.glora_B["default"], layer.shift_up, layer.shift_down),
        ):
            path.Xd.copy_(up), path.Xu.copy_(down)
        patches = F.unfold(x, (3, 2), stride=2, padding=1).transpose(1, 2)
        wanted = reference(patches).transpose(1, 2)
        assert torch.allclose(layer(x).flatten(2), wanted, rtol=1e-5, atol=1e-5)
