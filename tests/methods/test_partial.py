"""Partial fine-tuning: the modules that are the domain's own, and the number of their floats."""

import pytest
import torch
from torch import nn

from visual_decathlon.benchmark.backbones.library import library_network, library_shapes
from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes
from visual_decathlon.benchmark.backbones.structure import shapes_of
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.layers.network import own_tensors
from visual_decathlon.methods.registry import select


def trained(network) -> dict[str, int]:
    return {n: p.numel() for n, p in network.named_parameters() if p.requires_grad and not n.startswith("head.")}


def test_the_last_block_of_the_resnet26_and_the_norm_behind_it():
    (method,) = select("partial")
    network = method.place(resnet26(3, 0.125).requires_grad_(False).eval(), 3)
    units = [f"body.stages.2.3.{unit}.{part}" for unit in ("unit1", "unit2") for part in ("conv", "bn")]
    assert {name.rpartition(".")[0] for name in trained(network)} == {*units, "body.norm"}
    norms = {n for n, m in network.named_modules() if isinstance(m, nn.BatchNorm2d) and m.train().training}
    own = {n for n, m in network.named_modules() if isinstance(m, nn.BatchNorm2d) and not m.shared}
    assert own == {units[1], units[3], "body.norm"} < norms
    network.train()
    assert {n for n, m in network.named_modules() if isinstance(m, nn.BatchNorm2d) and m.training} == own


@pytest.mark.parametrize("last", range(1, 13))
def test_count_of_the_resnet26(last):
    (method,) = select(f"partial(last={last})")
    source = resnet26(3, 0.125).requires_grad_(False).eval()
    got = trained(method.place(source, 3))
    assert sum(got.values()) == method.floats(resnet26_shapes(0.125)) == method.floats(shapes_of(source))
    if last == 12:  # all but the stem
        assert not any(name.startswith("body.stem") for name in got)
        stem = sum(p.numel() for p in source.body.stem.parameters())
        assert sum(got.values()) == resnet26_shapes(0.125).base - stem


@pytest.mark.parametrize("name", ["torchvision/resnet18", "torchvision/resnet50", "timm/resnet18", "timm/resnet50_v1"])
def test_the_libraries_networks(name):
    """No layers come after their blocks; a shortcut's convolution is inside its block."""
    source = library_network(name, 3).requires_grad_(False).eval()
    shapes = shapes_of(source)
    for last in (1, 3, len(shapes.blocks)):
        (method,) = select(f"partial(last={last})")
        network = method.place(source, 5)
        blocks = tuple(f"{block}." for block in shapes.blocks[-last:])
        got = trained(network)
        assert got.keys() == {n for n, _ in source.named_parameters() if n.startswith(blocks)}
        assert sum(got.values()) == method.floats(shapes) == sum(shapes.below(b[:-1]) for b in blocks)
        assert all(n.startswith((*blocks, "head.")) for n in own_tensors(network, source))


@pytest.mark.parametrize("name", ["resnet26", "torchvision/resnet18", "torchvision/resnet50_v1", "timm/resnet50"])
def test_cut_in_two_it_is_the_same_network(name):
    torch.manual_seed(0)
    build = (lambda: resnet26(3, 0.125)) if name == "resnet26" else (lambda: library_network(name, 3))
    source = build().requires_grad_(False).eval()
    x = torch.randn(2, 3, 32, 32)
    for last in (1, 2, len(source.blocks) - 1, len(source.blocks)):
        (method,) = select(f"partial(last={last}, views=1)")
        network = method.place(source, 5).eval()
        before, rest = method.split(network)
        assert torch.equal(rest.eval()(before.eval()(x)), network(x)), last
        convs = [sum(isinstance(m, nn.Conv2d) for m in part.modules()) for part in (before, rest, network)]
        assert convs[0] + convs[1] == convs[2] and min(convs) > 0  # none is computed by both
        trained = {id(p) for p in network.parameters() if p.requires_grad}
        assert trained == {id(p) for p in rest.parameters() if p.requires_grad}
        assert not any(p.requires_grad for p in before.parameters())
        rest.train()
        assert {id(m.running_mean) for m in rest.modules() if isinstance(m, nn.BatchNorm2d) and m.training} == {
            id(m.running_mean) for m in network.train().modules() if isinstance(m, nn.BatchNorm2d) and m.training
        }


def test_more_blocks_than_there_are():
    (method,) = select("partial(last=13)")
    with pytest.raises(InputError, match=r"partial\(last=13\): this backbone has 12 residual blocks; lower last"):
        method.check(resnet26_shapes())
    with pytest.raises(InputError, match="12 residual blocks"):
        method.place(resnet26(3, 0.125), 3)
    (method,) = select("partial(last=9)")
    method.check(resnet26_shapes())
    with pytest.raises(InputError, match="8 residual blocks"):
        method.check(shapes_of(library_network("torchvision/resnet18", 3)))
    for last in (0, -1):
        with pytest.raises(InputError, match=rf"partial\(last={last}\): last must be 1 or more"):
            select(f"partial(last={last})")


def test_gradients_stop_where_the_shared_part_begins():
    (method,) = select("partial(last=2)")
    network = method.place(resnet26(3, 0.125).requires_grad_(False).eval(), 3).train()
    seen = {}
    network.body.stages[2][1].register_forward_hook(lambda m, a, y: seen.update(before=y.requires_grad))
    network.body.stages[2][2].register_forward_hook(lambda m, a, y: seen.update(after=y.requires_grad))
    network(torch.randn(2, 3, 16, 16)).sum().backward()
    assert seen == {"before": False, "after": True}


def test_the_last_block_of_a_vit_and_the_norm_behind_it():
    """By hand: two layer norms, the fused projection, the output projection and the MLP, each with its biases."""
    d = 768
    block = 2 * 2 * d + (3 * d * d + 3 * d) + (d * d + d) + (4 * d * d + 4 * d) + (4 * d * d + d)
    assert block == 7_087_872
    shapes = library_shapes("timm/vit_base_patch16_224", 224)
    for last in (1, 3):
        (method,) = select(f"partial(last={last})")
        assert method.floats(shapes) == last * block + 2 * d
    assert len(shapes.blocks) == 12
    (method,) = select("partial")
    name = "timm/vit_tiny_patch16_224(img_size=32,patch_size=8,depth=3,embed_dim=12,num_heads=2)"
    got = trained(method.place(library_network(name, 3).requires_grad_(False), 3))
    assert {n.rpartition(".")[0].removeprefix("body.") for n in got} == {
        *(f"blocks.2.{layer}" for layer in ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")),
        "norm",
    }
