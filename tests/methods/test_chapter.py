"""CHAPTER against two convolutions, the stages it adapts, and how fast its copy changes."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import gradcheck

from visual_decathlon.benchmark.backbones.library import library_network
from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes
from visual_decathlon.benchmark.backbones.structure import shapes_of
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.layers.chapter import ScaledCopyConv
from visual_decathlon.methods.registry import select


def frozen(network):
    return network.requires_grad_(False).eval()


@pytest.mark.parametrize(
    "how",
    [
        {"kernel_size": 3, "padding": 1, "stride": 2},
        {"kernel_size": (3, 5), "padding": 2, "dilation": 2, "groups": 2},
        {"kernel_size": 3, "padding": 1, "padding_mode": "reflect", "bias": True},
    ],
)
def test_two_convolutions(how):
    torch.manual_seed(0)
    conv, other = (nn.Conv2d(4, 6, **{"bias": False, **how}).double().requires_grad_(False) for _ in range(2))
    adapter, x = ScaledCopyConv(conv), torch.randn(2, 4, 11, 12, dtype=torch.float64)
    assert torch.equal(adapter(x), conv(x))
    with torch.no_grad():
        adapter.copy.copy_(other.weight)
        wanted = conv(x) + 0.01 * other._conv_forward(x, other.weight, None)
    for got in (adapter(x), adapter.merge()(x)):
        assert torch.allclose(got, wanted, rtol=1e-12, atol=1e-12)

    def weight(copy):
        return torch.func.functional_call(adapter, {"copy": copy}, (x,))

    assert gradcheck(weight, torch.randn_like(conv.weight).requires_grad_())


@pytest.mark.parametrize(
    ("stages", "printed"), [("(0,)", "1.44"), ("(1,)", "2.72"), ("(-1,)", "7.86"), ("(0, 1, 2)", "10.00")]
)
def test_counts_at_width_one(stages, printed):
    (method,) = select(f"chapter(stages={stages})")
    assert f"{method.multiplier(resnet26_shapes()):.2f}" == printed


@pytest.mark.parametrize(
    ("network", "spec", "path"),
    [
        ("resnet26", "chapter", "body.stages.0."),
        ("resnet26", "chapter(stages=(-1,))", "body.stages.2."),
        ("torchvision/resnet18", "chapter(stages=(1,))", "body.layer2."),
        ("timm/resnet50", "chapter(stages=(3,))", "body.layer4."),
    ],
)
def test_it_stands_in_its_stages(network, spec, path):
    source = frozen(resnet26(3, 0.125) if network == "resnet26" else library_network(network, 3))
    placed = select(spec)[0].place(source, 3)
    for site, conv in placed.conv_sites():
        assert isinstance(conv, ScaledCopyConv) == site.conv.startswith(path), site.conv
    trained = sum(p.numel() for p in placed.parameters() if p.requires_grad)
    assert trained == select(spec)[0].floats(shapes_of(source)) + shapes_of(source).head(3)


@pytest.mark.parametrize("stages", ["(3,)", "(0, -4)", "()"])
def test_stages_that_are_not_there(stages):
    (method,) = select(f"chapter(stages={stages})")
    with pytest.raises(InputError, match="this backbone has stages 0 to 2"):
        method.check(resnet26_shapes())
    with pytest.raises(InputError, match="stages"):
        method.place(frozen(resnet26(3, 0.125)), 3)


def test_its_copy_moves_as_a_trained_weight_does():
    """The step is -rate (gradient + decay of the change) for any scale: the optimiser divides by its square."""
    torch.manual_seed(0)
    (method,) = select("chapter")
    network = method.place(frozen(resnet26(3, 0.125)), 3).train()
    groups = method.groups(network, 5e-2, 100)
    assert {id(p) for g in groups for p in g["params"]} == {id(p) for p in network.parameters() if p.requires_grad}
    (adapter, *_) = [m for m in network.modules() if isinstance(m, ScaledCopyConv)]
    with torch.no_grad():
        adapter.copy.normal_()
    optimiser = method.optimiser(groups, 0.1, 0, False)
    for group in optimiser.param_groups:
        group["lr"] = 0.1 * group.get("scale", 1.0)
    before, change = adapter.adapted_weight().detach(), 0.01 * adapter.copy.detach()
    x, y = torch.randn(8, 3, 16, 16), torch.arange(8) % 3
    F.cross_entropy(network(x), y).backward()
    wanted = -0.1 * (adapter.copy.grad / 0.01 + 5e-2 * change)
    optimiser.step()
    moved = adapter.adapted_weight().detach() - before
    assert (moved - wanted).abs().max() <= 1e-4 * wanted.abs().max()
