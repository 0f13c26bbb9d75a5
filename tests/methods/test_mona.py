"""Mona against its layers one by one, its place in a block, and its count."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from visual_decathlon.benchmark.backbones.library import library_network
from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes
from visual_decathlon.benchmark.backbones.structure import shapes_of
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.layers.mona import MonaNorm, rescaled
from visual_decathlon.methods.layers.network import merge_for_inference
from visual_decathlon.methods.registry import select
from visual_decathlon.methods.shapes import Shapes


def frozen(network):
    return network.requires_grad_(False).eval()


def norm_of(channels: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels).double().eval()
    with torch.no_grad():
        for t in (norm.weight, norm.bias, norm.running_mean):
            t.normal_()
    return norm


@pytest.mark.parametrize("size", [(11, 9), (5, 4), (2, 3)])
def test_the_formula(size):
    """Three convolutions, their mean, and each sum for itself; also on maps smaller than the largest filter."""
    torch.manual_seed(0)
    norm = norm_of(6)
    adapter, x = MonaNorm(norm, 3).double(), torch.randn(2, 6, *size, dtype=torch.float64)
    h = norm(x)
    assert torch.equal(adapter(x), h)
    with torch.no_grad():
        for name, p in adapter.named_parameters():
            if not name.startswith("norm."):
                p.normal_()
    mean, deviation = h.mean(1, keepdim=True), (h.var(1, keepdim=True, correction=0) + 1e-5).sqrt()
    scaled = adapter.normalised * (h - mean) / deviation + h + adapter.kept * h
    assert torch.allclose(rescaled(h, adapter.normalised, adapter.kept), scaled, rtol=1e-10, atol=1e-10)
    v = torch.einsum("mc,nchw->nmhw", adapter.down.weight[:, :, 0, 0], scaled) + adapter.down.bias.view(-1, 1, 1)
    z = sum(filter(v) for filter in adapter.filters) / 3 + v + adapter.bias.view(-1, 1, 1)
    z = z + adapter.mix(z)
    wanted = h + torch.einsum("cm,nmhw->nchw", adapter.up.weight[:, :, 0, 0], F.gelu(z))
    assert torch.allclose(adapter(x), wanted, rtol=1e-10, atol=1e-10)


def test_released_values_that_are_left_out_change_nothing():
    """LN's affine values, the filters' biases and U's bias are among the values that are kept."""
    torch.manual_seed(0)
    adapter, x = MonaNorm(norm_of(4), 2).double(), torch.randn(2, 4, 6, 7, dtype=torch.float64)
    with torch.no_grad():
        for name, p in adapter.named_parameters():
            if not name.startswith("norm."):
                p.normal_()
        affine, shift, biases, out = (torch.randn(*n, dtype=torch.float64) for n in ((4,), (4,), (3, 2), (4,)))
        h, s1 = adapter.norm(x), torch.randn(4, 1, 1, dtype=torch.float64)
        norm = F.layer_norm(h.movedim(1, -1), (4,), affine, shift).movedim(-1, 1)
        z = adapter.down(s1 * norm + (1 + adapter.kept) * h)
        z = z + sum(F.conv2d(z, f.weight, b, padding=f.padding, groups=2) for f, b in zip(adapter.filters, biases)) / 3
        wanted = h + F.conv2d(F.gelu(z + adapter.mix(z)), adapter.up.weight, out)
        adapter.normalised.copy_(s1 * affine.view(-1, 1, 1))
        adapter.down.bias.add_(adapter.down.weight[:, :, 0, 0] @ (s1[:, 0, 0] * shift))
        adapter.bias.copy_(biases.mean(0))
        got = adapter(x) + out.view(-1, 1, 1)
    assert torch.allclose(got, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["resnet26", "torchvision/resnet50", "timm/resnet18"])
def test_one_in_each_block(name):
    source = frozen(resnet26(3, 0.125) if name == "resnet26" else library_network(name, 3))
    (method,) = select("mona(bottleneck=4)")
    network, shapes = method.place(source, 3), shapes_of(source)
    paths = [n for n, m in network.named_modules() if isinstance(m, MonaNorm)]
    assert paths == [block.last for block in shapes.block_shapes] and len(paths) == len(source.blocks)
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    assert trained == method.floats(shapes) + shapes.head(3)


def test_count_and_merging():
    (method,) = select("mona")
    blocks = sum(4 * (2 * c + 2 * 16 * c + 9 * 16 + 25 * 16 + 49 * 16 + 256 + 3 * 16) for c in (64, 128, 256))
    assert method.floats(resnet26_shapes()) == 7_744 + blocks
    assert f"{method.multiplier(resnet26_shapes()):.2f}" == "1.14"
    with pytest.raises(AttributeError, match="MonaNorm does not merge"):
        merge_for_inference(select("mona(bottleneck=2)")[0].place(frozen(resnet26(3, 0.125)), 3))


def test_bad_input():
    with pytest.raises(InputError, match="bottleneck must be 1 or more"):
        select("mona(bottleneck=0)")
    with pytest.raises(InputError, match="has none"):
        select("mona")[0].check(Shapes((), (), 8))
    with pytest.raises(InputError, match="no bottleneck"):
        select("mona(bottleneck=500)")[0].check(resnet26_shapes())
