"""BitFit, SSF and (IA)³ at linear layers and at convolutions that no batch norm reads: formulas, places and counts."""

import pytest
import torch
from torch import nn

from tests.adapters import geometries
from tests.entries import assert_count
from visual_decathlon.benchmark.backbones.library import library_network, library_shapes
from visual_decathlon.methods.layers.after_norm import ScaledConv, ScaledInputs
from visual_decathlon.methods.layers.linear import LinearConv
from visual_decathlon.methods.layers.network import merge_for_inference
from visual_decathlon.methods.registry import select

VIT = "timm/vit_tiny_patch16_224(img_size=32,patch_size=8,depth=2,embed_dim=12,num_heads=2)"
BLOCK = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
LAYERS = {f"body.blocks.{i}.{layer}" for i in range(2) for layer in BLOCK} | {"body.patch_embed.proj", "body.norm"}


@pytest.mark.parametrize(("scales", "shifts"), [(True, True), (True, False), (False, True)])
@geometries
def test_the_outputs_are_scaled_and_shifted(geometry, scales, shifts):
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 6, **geometry, dtype=torch.float64).requires_grad_(False)
    adapter, x = ScaledConv(conv, scales, shifts), torch.randn(2, 4, 7, 8, dtype=torch.float64)
    assert torch.equal(adapter(x), conv(x))
    trained = {name: p for name, p in adapter.named_parameters() if p.requires_grad}
    assert trained.keys() == {name for name, has in (("change", scales), ("shift", shifts)) if has}
    for p in trained.values():
        nn.init.normal_(p)
    zero = torch.zeros(6, dtype=torch.float64)
    scale, shift = (1 + trained.get("change", zero)), trained.get("shift", zero)
    wanted = scale.view(-1, 1, 1) * conv(x) + shift.view(-1, 1, 1)
    torch.testing.assert_close(adapter(x), wanted)
    torch.testing.assert_close(adapter.merge()(x), wanted)


def test_the_last_rows_and_the_inputs_of_a_linear_layer():
    torch.manual_seed(0)
    linear, x = nn.Linear(4, 9, dtype=torch.float64).requires_grad_(False), torch.randn(2, 5, 4, dtype=torch.float64)
    rows, columns = ScaledConv(LinearConv(linear), True, False, first=3), ScaledInputs(LinearConv(linear))
    for adapter in (rows, columns):
        assert torch.equal(adapter(x), linear(x))
        nn.init.normal_(adapter.change)
    scale = torch.cat([torch.ones(3), 1 + rows.change])
    for adapter, wanted in ((rows, scale * linear(x)), (columns, linear((1 + columns.change) * x))):
        torch.testing.assert_close(adapter(x), wanted)
        torch.testing.assert_close(adapter.merge()(x), wanted)


def own(spec: str, name: str) -> dict[str, set[str]]:
    """The ends of the trained tensors' names, by the module of the backbone that they belong to."""
    (method,) = select(spec)
    source = library_network(name, 3).requires_grad_(False).eval()
    network = method.place(source, 4)
    assert_count(method, network, source, source.shapes, 4)
    out: dict[str, set[str]] = {}
    for path, p in network.named_parameters():
        if p.requires_grad and not path.startswith("head."):
            out.setdefault(path.rpartition(".")[0], set()).add(path.rpartition(".")[2])
    return out


def test_the_places_on_a_vit():
    assert own("bitfit", VIT) == {layer: {"shift"} for layer in LAYERS}
    assert own("ssf", VIT) == {layer: {"change", "shift"} for layer in LAYERS}
    ends = ("attn.qkv", "mlp.fc2")
    assert own("ia3", VIT) == {f"body.blocks.{i}.{layer}": {"change"} for i in range(2) for layer in ends}
    norms = {layer for layer in LAYERS if "norm" in layer}
    assert own("bn_adapt", VIT) == {norm: {"weight", "bias"} for norm in norms}  # layer norm tuning
    bare = VIT.replace("num_heads=2", "num_heads=2,qkv_bias=False")
    lacks = {f"body.blocks.{i}.attn.qkv" for i in range(2)}
    assert own("bitfit", bare).keys() == LAYERS - lacks and own("ssf", bare).keys() == LAYERS


def test_the_places_on_convolutional_networks():
    """Nothing in front of a batch norm; a convolution without one, as a squeeze-and-excitation's, has its own."""
    plain = library_shapes("timm/resnet18", 32)
    assert all(conv.normed for conv in plain.convs)
    for spec in ("bitfit", "ssf", "ia3"):
        (method,) = select(spec)
        assert method.adapted(plain) == [] and own(spec, "timm/resnet18").keys() == {n.name for n in plain.norms}
    name = "timm/seresnet18"
    excite = {c.name for c in library_shapes(name, 32).convs if ".se." in c.name}
    norms = {n.name for n in library_shapes(name, 32).norms}
    assert len(excite) == 16 and own("bitfit", name).keys() == own("ssf", name).keys() == norms | excite
    assert own("ia3", name).keys() == norms
    convnext = library_shapes("torchvision/convnext_tiny", 32)
    for spec, numbers in (("bitfit", 1), ("ssf", 2)):
        (method,) = select(spec)
        channels = sum(n.channels for n in convnext.norms) + sum(c.cout for c in convnext.convs)
        assert method.floats(convnext) == numbers * channels


def test_counts_on_a_vit_b16():
    """In closed form: the outputs of a block's norms and linear layers, of the patches' layer and of the last norm."""
    d, shapes = 768, library_shapes("timm/vit_base_patch16_224", 224)
    outputs = 12 * (2 * d + 3 * d + d + 4 * d + d) + d + d
    counts = {m.name: m.floats(shapes) for m in select("bitfit,ssf,ia3,bn_adapt")}
    assert counts == {"bitfit": outputs, "ssf": 2 * outputs, "ia3": 12 * (2 * d + 4 * d), "bn_adapt": 25 * 2 * d}
    assert counts == {"bitfit": 102_912, "ssf": 205_824, "ia3": 55_296, "bn_adapt": 38_400}
    assert 205_824 + shapes.head(100) == 282_724, "the paper's 0.28 M on CIFAR-100"


@pytest.mark.parametrize("spec", ["bitfit", "ssf", "ia3"])
def test_the_merged_vit_is_the_unmerged(spec):
    (method,) = select(spec)
    torch.manual_seed(0)
    source = library_network(VIT.replace("num_heads=2", "num_heads=2,qkv_bias=False"), 3).requires_grad_(False).eval()
    network, x = method.place(source, 4).eval(), torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(network.body(x), source.body(x), rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        for p in (p for p in network.body.parameters() if p.requires_grad):
            p.normal_(std=0.5)
        wanted = network(x)
        assert (network.body(x) - source.body(x)).abs().max() > 0.01
        torch.testing.assert_close(merge_for_inference(network)(x), wanted, rtol=1e-4, atol=1e-5)
