"""The spatial adapter: the formula tap by tap, its place, its count, and where it is refused."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from visual_decathlon.benchmark.backbones.library import library_network, library_shapes
from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.layers.network import merge_for_inference, restore, stored_tensors
from visual_decathlon.methods.layers.spatial_adapter import SpatialNorm
from visual_decathlon.methods.registry import select
from visual_decathlon.methods.shapes import Shapes


def frozen(network):
    return network.requires_grad_(False).eval()


@pytest.mark.parametrize("layer", [nn.BatchNorm2d(6), nn.Conv2d(4, 6, 3, padding=1)], ids=["norm", "convolution"])
@pytest.mark.parametrize("size", [(7, 5), (1, 2)])
def test_the_formula(layer, size):
    """Behind a batch norm, and behind a convolution where there is none; zeros are outside of the map."""
    torch.manual_seed(0)
    norm = layer.double().eval()
    for t in norm.parameters():
        nn.init.normal_(t)
    adapter, x = SpatialNorm(norm, 3), torch.randn(2, 4 if isinstance(norm, nn.Conv2d) else 6, *size).double()
    with torch.no_grad():
        h = norm(x)
        assert torch.equal(adapter(x), h)
        for t in (adapter.shift, adapter.up.weight, adapter.filter.weight, adapter.filter.bias):
            t.normal_()
        down, up = adapter.down.weight[:, :, 0, 0], adapter.up.weight[:, :, 0, 0]
        z = (torch.einsum("mc,nchw->nmhw", down, h) + adapter.shift).clamp(min=0)
        around, (rows, columns) = F.pad(z, (1, 1, 1, 1)), size
        taps = [(i, j) for i in range(3) for j in range(3)]
        y = sum(adapter.filter.weight[:, :, i, j, None] * around[..., i : i + rows, j : j + columns] for i, j in taps)
        y = (y + adapter.filter.bias.view(-1, 1, 1)).clamp(min=0)
        wanted = h + torch.einsum("cm,nmhw->nchw", up, y)
        assert (wanted - h).abs().max() > 0.01
        assert torch.allclose(adapter(x), wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("resnet26", "unit2.bn"),
        ("timm/resnet18", "bn2"),
        ("torchvision/mobilenet_v2(width_mult=0.25)", None),
        ("timm/resnetv2_18", "conv2"),  # norms are in front of its convolutions
    ],
)
def test_one_in_each_block(name, last):
    source = frozen(resnet26(3, 0.125) if name == "resnet26" else library_network(name, 3))
    (method,) = select("spatial_adapter(bottleneck=4)")
    network = method.place(source, 3)
    paths = [n for n, m in network.named_modules() if isinstance(m, SpatialNorm)]
    assert paths == [block.last for block in source.shapes.block_shapes] and len(paths) >= 8
    assert last is None or paths == [f"{block}.{last}" for block in source.blocks]
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    assert trained == method.floats(source.shapes) + source.shapes.head(3)


def test_stored_and_loaded():
    source, (method,) = frozen(resnet26(3, 0.125)), select("spatial_adapter(bottleneck=2)")
    network, fresh = (method.place(source, 3).eval() for _ in range(2))
    with torch.no_grad():
        for p in (p for p in network.parameters() if p.requires_grad):
            p += 0.1 * torch.randn_like(p)
        x = torch.randn(2, 3, 32, 32)
        assert restore(fresh, source, stored_tensors(network, source)) == ""
        assert torch.equal(fresh(x), network(x))
        assert not torch.allclose(network.body(x), source.body(x))


def test_count_and_merging():
    (method,) = select("spatial_adapter")
    blocks = sum(4 * (16 * c + 16 + 16 * 9 + 16 + c * 16) for c in (64, 128, 256))
    assert method.floats(resnet26_shapes()) == 7_744 + blocks
    assert f"{method.multiplier(resnet26_shapes()):.2f}" == "1.10"
    with pytest.raises(AttributeError, match="SpatialNorm does not merge"):
        merge_for_inference(select("spatial_adapter(bottleneck=2)")[0].place(frozen(resnet26(3, 0.125)), 3))


@pytest.mark.parametrize(
    "name",
    [
        "timm/vit_tiny_patch16_224(img_size=32,patch_size=8,depth=2,embed_dim=48)",
        "timm/convnext_tiny(depths=(1,1,1,1),dims=(8,16,32,64))",  # blocks of maps, which end in a linear layer
    ],
)
def test_tokens_are_refused(name):
    with pytest.raises(InputError, match="spatial_adapter filters maps, and blocks of this backbone end in linear"):
        select("spatial_adapter")[0].check(library_shapes(name, 32))


def test_bad_input():
    with pytest.raises(InputError, match="bottleneck must be 1 or more"):
        select("spatial_adapter(bottleneck=0)")
    with pytest.raises(InputError, match=r"has none; use conv_adapter\(where='all'\)"):
        select("spatial_adapter")[0].check(Shapes((), (), 8))
    with pytest.raises(InputError, match="no bottleneck"):
        select("spatial_adapter(bottleneck=500)")[0].check(resnet26_shapes())
