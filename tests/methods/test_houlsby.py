"""Houlsby's adapter: the formula written out, and its place."""

import pytest
import torch
from torch import nn

from visual_decathlon.benchmark.backbones.library import library_network
from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes
from visual_decathlon.benchmark.backbones.structure import shapes_of
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.layers.houlsby import BottleneckNorm
from visual_decathlon.methods.layers.network import merge_for_inference
from visual_decathlon.methods.registry import select
from visual_decathlon.methods.shapes import Shapes


def frozen(network):
    return network.requires_grad_(False).eval()


def test_the_formula():
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(6).double().eval()
    with torch.no_grad():
        for t in (norm.weight, norm.bias, norm.running_mean):
            t.normal_()
    adapter, x = BottleneckNorm(norm, 3), torch.randn(2, 6, 5, 4, dtype=torch.float64)
    h = norm(x)
    assert torch.equal(adapter(x), h)
    with torch.no_grad():
        adapter.up.weight.normal_()
    down, up = adapter.down.weight[:, :, 0, 0], adapter.up.weight[:, :, 0, 0]
    wanted = h.permute(0, 2, 3, 1) + (h.permute(0, 2, 3, 1) @ down.T).clamp(min=0) @ up.T
    assert torch.allclose(adapter(x), wanted.permute(0, 3, 1, 2), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("resnet26", "unit2.bn"),
        ("torchvision/resnet18", "bn2"),
        ("torchvision/resnet50", "bn3"),
        ("timm/resnet18", "bn2"),
    ],
)
def test_it_stands_behind_the_last_norm_of_each_block(name, last):
    """Never after the norm of a shortcut, which both libraries register last."""
    source = frozen(resnet26(3, 0.125) if name == "resnet26" else library_network(name, 3))
    (method,) = select("houlsby(bottleneck=4)")
    network, shapes = method.place(source, 3), shapes_of(source)
    paths = [n for n, m in network.named_modules() if isinstance(m, BottleneckNorm)]
    assert paths == [f"{block}.{last}" for block in source.blocks]
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    assert trained == method.floats(shapes) + shapes.head(3)


def test_count_and_merging():
    (method,) = select("houlsby")
    channels = 4 * (64 + 128 + 256)
    assert method.floats(resnet26_shapes()) == 7_744 + 2 * 8 * channels
    assert f"{method.multiplier(resnet26_shapes()):.2f}" == "1.06"
    with pytest.raises(AttributeError, match="BottleneckNorm does not merge"):
        merge_for_inference(method.place(frozen(resnet26(3, 0.125)), 3))


def test_bad_input():
    with pytest.raises(InputError, match="bottleneck must be 1 or more"):
        select("houlsby(bottleneck=0)")
    with pytest.raises(InputError, match="has none"):
        select("houlsby")[0].check(Shapes((), (), 8))


@pytest.mark.parametrize(("spec", "trains"), [("houlsby(bottleneck=2)", True), ("pfeiffer(bottleneck=2)", False)])
def test_the_layer_norms_of_a_transformer_are_trained_as_in_the_paper(spec, trains):
    (method,) = select(spec)
    vit = "timm/vit_tiny_patch16_224(depth=2,embed_dim=24,img_size=16,num_heads=2,patch_size=8)"
    network = method.place(frozen(library_network(vit, 3)), 5)
    norms = [m for m in network.modules() if isinstance(m, nn.LayerNorm)]
    assert len(norms) == 5 and {p.requires_grad for m in norms for p in m.parameters()} == {trains}
