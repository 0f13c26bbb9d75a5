"""Merging over the whole registry: on backbones, on every geometry of a convolution, and exported to the libraries."""

import copy

import pytest
import torch
from torch import nn

from visual_decathlon.benchmark.backbones.library import library_body, library_network, library_shapes
from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.report.skipped import misfit
from visual_decathlon.methods.layers.network import Network, exported, merge_for_inference
from visual_decathlon.methods.layers.series import put_series
from visual_decathlon.methods.per_conv import PerConv
from visual_decathlon.methods.registry import entries
from visual_decathlon.methods.shapes import ConvShape

CLASSES = 5
ALL = [entry() for entry in entries() if not entry().unsupported_reason("resnet26")]
merging = pytest.mark.parametrize("method", [m for m in ALL if m.mergeable], ids=lambda m: m.name)
layered = pytest.mark.parametrize(
    "method", [m for m in ALL if m.mergeable and isinstance(m, PerConv)], ids=lambda m: m.name
)

GEOMETRIES = {
    "plain": {},
    "stride": {"stride": 2},
    "dilation": {"dilation": 2, "padding": 2},
    "groups": {"groups": 4},
    "depthwise": {"groups": 32},
    "bias": {"bias": True},
    "tall": {"kernel_size": (5, 3), "padding": (2, 1)},
    "even": {"kernel_size": 2, "padding": 0},
    "no padding": {"padding": 0},
    "pointwise": {"kernel_size": 1, "padding": 0, "stride": 2},
    "reflect": {"padding_mode": "reflect"},
    "circular": {"padding_mode": "circular", "bias": True},
    "uneven": {"stride": (2, 1), "dilation": (1, 2), "padding": (1, 2)},
}


def stirred(module: nn.Module) -> nn.Module:
    """Changes trained tensors from their start, and statistics from those of a fresh network."""
    torch.manual_seed(5)
    with torch.no_grad():
        for p in module.parameters():
            if p.requires_grad:
                p += 0.05 * torch.randn_like(p) * (p.abs().mean() + 0.1)
        for m in module.modules():
            if isinstance(m, nn.BatchNorm2d) and not getattr(m, "shared", False):
                m.running_mean += 0.1 * torch.randn_like(m.running_mean)
                m.running_var *= 1 + 0.2 * torch.rand_like(m.running_var)
    return module.eval()


def off(got: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((got - wanted).abs().max() / wanted.abs().max())


def source_for(method, base: Network) -> Network:
    base = copy.deepcopy(base)
    if method.backbone_structure == "series":
        torch.manual_seed(1)
        put_series(base)
        for _, adapter in base.conv_sites():
            adapter.mix.weight.data *= 0.2
    return base.double().requires_grad_(False).eval()


def placed(method, base: Network) -> tuple[Network, Network]:
    source = source_for(method, base)
    torch.manual_seed(2)
    return source, stirred(method.place(source, CLASSES))


@pytest.fixture(scope="module")
def slim() -> Network:
    torch.manual_seed(0)
    return stirred(resnet26(3, 0.25))


@merging
def test_merged_is_unmerged_and_leaves_every_bit(method, slim):
    source, network = placed(method, slim)
    before = [(t, t.clone()) for t in (*source.state_dict().values(), *network.state_dict().values())]
    x = torch.randn(3, 3, 40, 40, dtype=torch.float64)
    with torch.no_grad():
        wanted = network(x)
        for fuse in (True, False):
            out = merge_for_inference(network, fuse)
            assert off(out(x), wanted) < 1e-5, fuse
            kinds = {type(m) for m in out.modules()}
            assert kinds <= {type(m) for m in slim.modules()} | {nn.Identity}, kinds  # no module of the method remains
        assert torch.equal(network(x), wanted)
    assert all(
        torch.equal(t, as_it_was) for t, as_it_was in before
    )  # so the network can be used again without unmerging


@layered
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_a_layer_folds_on_every_geometry(method, geometry):
    torch.manual_seed(0)
    conv = nn.Conv2d(32, 64, **({"kernel_size": 3, "padding": 1, "bias": False} | GEOMETRIES[geometry])).double()
    conv.requires_grad_(False)
    if reason := method.skip_reason(ConvShape.of(conv)):
        assert len(reason) > 10
        pytest.skip(reason)
    layer = stirred(method.layer(conv))
    weight = conv.weight.clone()
    x = torch.randn(2, 32, 11, 13, dtype=torch.float64)
    with torch.no_grad():
        wanted, plain = layer(x), conv(x)
        assert off(plain, wanted) > 1e-6  # the stirred layer does something
        assert off(layer.merge()(x), wanted) < 1e-10
    assert torch.equal(conv.weight, weight)


@pytest.mark.parametrize("name", ["torchvision/resnet18", pytest.param("timm/resnet26", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "method", [m for m in ALL if m.mergeable and m.backbone_structure == "plain"], ids=lambda m: m.name
)
def test_merged_weights_load_into_the_library(method, name, library):
    base, plain = library[name]
    _, network = placed(method, base)
    weights = exported(network)
    plain = copy.deepcopy(plain).double()
    plain.fc = nn.Linear(plain.fc.in_features, CLASSES).double()
    plain.load_state_dict(weights)  # strict: every name and no other
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        assert off(plain.eval()(x), network(x)) < 1e-8


@pytest.fixture(scope="module")
def library() -> dict[str, tuple[Network, nn.Module]]:
    """Our network and the library's own model of each name."""
    import timm
    from torchvision import models

    torch.manual_seed(0)
    own = {"torchvision/resnet18": models.resnet18(), "timm/resnet26": timm.create_model("resnet26")}
    return {name: (stirred(library_network(name, 3)), model) for name, model in own.items()}


VIT = "timm/vit_tiny_patch16_224(img_size=32,patch_size=8,depth=2,embed_dim=48,num_heads=3)"
FIT = [m for m in ALL if m.mergeable and m.backbone_structure == "plain" and not misfit(m, VIT, library_shapes(VIT))]


@pytest.mark.parametrize("method", FIT, ids=lambda m: m.name)
def test_merged_linear_layers_load_into_the_library(method, transformer):
    """Every name and no other, so that no part of an adapter stays behind."""
    _, network = placed(method, transformer)
    weights = {name: t for name, t in exported(network).items() if not name.startswith("fc.")}
    body = library_body(VIT).double().eval()
    body.load_state_dict(weights)
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        assert off(network.head(body(x)), network(x)) < 1e-8


@pytest.fixture(scope="module")
def transformer() -> Network:
    torch.manual_seed(0)
    return stirred(library_network(VIT, 3))


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("method", [m for m in ALL if isinstance(m, PerConv)], ids=lambda m: m.name)
def test_counts_are_the_closed_forms_on_every_geometry(method, geometry):
    """For the tensors that one layer stores; projections that layers share (arc, fact) are counted elsewhere."""
    torch.manual_seed(0)
    conv = nn.Conv2d(32, 64, **{"kernel_size": 3, "padding": 1, **GEOMETRIES[geometry]}).requires_grad_(False)
    shape = ConvShape.of(conv)
    if method.skip_reason(shape):
        pytest.skip(method.skip_reason(shape))
    layer = method.layer(conv)
    stored = layer.stored()
    kept = stored.values() if stored is not None else [p for p in layer.parameters() if p.requires_grad]
    floats = sum(t.numel() for t in kept if t.is_floating_point())
    if method.name == "arc":
        floats -= 32 * method.rank_at(shape)  # the projection, which layers of one width share
    if method.name == "fact":
        floats -= (32 + 64) * method.rank  # the factors over inputs and outputs, one each for all layers of that width
    assert floats == method.new_floats(shape)


@pytest.mark.parametrize("method", [m for m in ALL if isinstance(m, PerConv)], ids=lambda m: m.name)
def test_float32_gradients_are_those_of_float64_differences(method):
    """Along a random direction of a layer's trained tensors, on a tiny convolution."""
    if method.name in ("piggyback", "ba2", "snell", "taps", "quantised", "signs", "joint_signs"):
        pytest.skip("what is masked or rounded has a straight-through gradient, which its own test holds")
    torch.manual_seed(3)
    conv = nn.Conv2d(8, 8, 3, padding=1, bias=False).requires_grad_(False)
    method_layer = method.layer(conv).train()
    trained = [p for p in method_layer.parameters() if p.requires_grad]
    with torch.no_grad():
        for p in trained:
            p += 0.1 * torch.randn_like(p)
    x, way = torch.randn(2, 8, 6, 6), [torch.randn_like(p) for p in trained]
    twin = copy.deepcopy(method_layer).double()

    def value(step: float) -> torch.Tensor:
        shifted = copy.deepcopy(twin)
        with torch.no_grad():
            for p, d in zip([p for p in shifted.parameters() if p.requires_grad], way, strict=True):
                p += step * d.double()
            return shifted(x.double()).sin().sum()

    gradients = torch.autograd.grad(method_layer(x).sin().sum(), trained)
    slope = float(sum((g.double() * d.double()).sum() for g, d in zip(gradients, way, strict=True)))
    wanted = float(value(1e-5) - value(-1e-5)) / 2e-5
    size = float(sum(g.double().norm() * d.double().norm() for g, d in zip(gradients, way, strict=True)))
    assert abs(slope - wanted) < 1e-4 * size, (slope, wanted)
