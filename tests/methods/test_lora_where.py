"""LoRA's option `where`: which layers of a transformer it adapts, and queries, keys and values apart."""

import pytest
import torch

from visual_decathlon.benchmark.backbones.library import library_network, library_shapes
from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.layers.adapter import Adapter
from visual_decathlon.methods.layers.linear import LinearConv
from visual_decathlon.methods.low_rank import Lora

VIT = "timm/vit_tiny_patch16_224(img_size=32,patch_size=8,depth=2,embed_dim=48,num_heads=3)"
WINDOWS = (
    "timm/swin_tiny_patch4_window7_224"
    "(img_size=32,window_size=2,patch_size=2,embed_dim=24,depths=(1,1),num_heads=(2,2))"
)
PLACES = {
    "q": ("attn.qkv",), "qv": ("attn.qkv",), "qkv": ("attn.qkv",),
    "attention": ("attn.qkv", "attn.proj"), "mlp": ("mlp.fc1", "mlp.fc2"),
}  # fmt: skip


@pytest.mark.parametrize("where", ["q", "qv", "qkv"])
def test_each_third_has_a_matrix_of_its_own(where):
    """The rows of a letter that is not in `where` are W's own to the bit; the others are W + λ B A."""
    torch.manual_seed(0)
    linear = torch.nn.Linear(20, 36, dtype=torch.float64).requires_grad_(False)
    method = Lora(rank=4, alpha=6.0, where=where)
    layer = method.layer(LinearConv(linear))
    assert torch.equal(layer.adapted_weight()[:, :, 0, 0], linear.weight)
    torch.nn.init.normal_(layer.up)
    ups, downs = iter(layer.up.view(len(where), 12, 4)), iter(layer.down.view(len(where), 4, 20))
    for letter, weight, got in zip(
        "qkv", linear.weight.view(3, 12, 20), layer.adapted_weight().view(3, 12, 20), strict=True
    ):
        if letter in where:
            torch.testing.assert_close(got, weight + 1.5 * next(ups) @ next(downs))
        else:
            assert torch.equal(got, weight)
    bound = 1 / 20**0.5  # Kaiming's of 20 inputs, for every A
    assert 0.9 * bound < layer.down.abs().max() < bound


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("name", [VIT, WINDOWS], ids=["vit", "swin"])
def test_the_layers_that_are_adapted(name, where):
    source = library_network(name, 3).requires_grad_(False).eval()
    method = Lora(where=where)
    method.check(source.shapes)
    network = method.place(source, 4)
    adapted = [site.conv for site, m in network.conv_sites() if isinstance(m, Adapter)]
    assert adapted == [conv.name for conv in method.adapted(source.shapes)]
    assert adapted == [conv.name for conv in source.shapes.convs if conv.name.endswith(PLACES[where])]
    assert len(adapted) == 2 * len(PLACES[where])
    assert sum(p.numel() for p in network.body.parameters() if p.requires_grad) == method.floats(source.shapes)


def test_counts_on_a_vit_b16():
    """The paper's form adapts W_q and W_v (768 x 768) of twelve blocks."""
    shapes = library_shapes("timm/vit_base_patch16_224", 224)
    counts = {where: Lora(where=where).floats(shapes) for where in PLACES}
    matrix = 12 * 8 * (768 + 768)
    assert counts == {
        "q": matrix,
        "qv": 2 * matrix,
        "qkv": 3 * matrix,
        "attention": 12 * 8 * (768 + 3 * 768) + matrix,
        "mlp": 2 * 12 * 8 * (768 + 4 * 768),
    }
    assert counts["qv"] == 294_912


def test_the_rate_of_b_is_that_of_lora_plus():
    source = library_network(VIT, 3).requires_grad_(False)
    method = Lora(where="qv", lr_ratio=4.0)
    network = method.place(source, 4)
    scales = {id(p): group.get("scale", 1.0) for group in method.groups(network, 1e-4, 100) for p in group["params"]}
    for name, p in network.named_parameters():
        if p.requires_grad:
            assert scales[id(p)] == (4.0 if name.endswith(".up") else 1.0), name


def test_an_older_record_is_of_the_default():
    assert "where" not in Lora().full_spec and Lora(where="qv").full_spec.endswith(", where='qv')")


@pytest.mark.parametrize(
    ("make", "shapes", "words"),
    [
        (
            lambda: Lora(where="qv"),
            resnet26_shapes,
            r"lora\(where='qv'\) adapts attention .* has none; use where='all'",
        ),
        (lambda: Lora(where="mlp"), resnet26_shapes, r"lora\(where='mlp'\) adapts attention .* use where='all'"),
        (lambda: Lora(rank=49, where="q"), lambda: library_shapes(VIT, 32), r"rank=49\).* allows 48\); lower it"),
        (lambda: Lora(init="pissa", where="qv"), None, r"lora\(init='pissa', where='qv'\): .* where='attention'"),
    ],
)
def test_what_fits_nowhere_is_refused(make, shapes, words):
    with pytest.raises(InputError, match=words):
        make().check(shapes())
