"""The decathlon ResNet-26: parameters and multiply-adds to the unit, its random start."""

import pytest
import torch
from torch import nn

from tests.benchmark.backbones.stirred import image
from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes
from visual_decathlon.benchmark.backbones.structure import shapes_of
from visual_decathlon.benchmark.training.macs import conv_macs
from visual_decathlon.datasets.catalogue import DOMAINS
from visual_decathlon.methods.layers.network import merge_for_inference, new_head, share
from visual_decathlon.methods.layers.parallel import ParallelConv
from visual_decathlon.methods.layers.series import put_series
from visual_decathlon.methods.registry import select


def test_parameters_to_the_unit():
    shapes = shapes_of(resnet26(10))
    assert len(shapes.convs) == 25 and len(shapes.norms) == 26
    assert sum(c.floats for c in shapes.convs) == 5_806_944
    assert shapes.affine == 7_744
    assert shapes.base == 5_814_688
    assert select("par_adapter")[0].floats(shapes) == 652_960
    assert select("res_adapter")[0].floats(shapes) == 704_128
    assert shapes.head(1) == 257
    classes = [domain.classes for domain in DOMAINS.values()]
    assert sum(classes) == 3128 and sum(map(shapes.head, classes)) == 803_896


def test_the_module_has_these_parameters():
    """The closed forms against the tensors of built networks."""
    network = resnet26(10)
    assert sum(p.numel() for p in network.parameters()) == 5_814_688 + 2_570
    put_series(network)
    assert sum(p.numel() for p in network.parameters()) == 5_806_944 + 704_128 + 2_570


@pytest.mark.parametrize("width", [0.05, 0.25, 0.3, 1.0, 1.5])
def test_shapes_known_without_a_network(width):
    network = resnet26(3, width)
    assert shapes_of(network) == resnet26_shapes(width)
    assert network.eval()(image(16, torch.float32)).shape == (1, 3)  # the shortcut fits at any rounding


def test_multiply_adds_of_the_reference():
    plain = resnet26(10)
    parallel = select("par_adapter")[0].place(plain, 10)
    series = put_series_on(plain)
    at_64, at_72 = conv_macs(plain, 64), conv_macs(plain, 72)
    assert at_64 / 1e6 == pytest.approx(852.9, abs=0.05)
    assert (conv_macs(parallel, 64) - at_64) / 1e6 == pytest.approx(94.8, abs=0.05)
    assert (conv_macs(series, 64) - at_64) / 1e6 == pytest.approx(104.9, abs=0.05)  # 957.8 in all, of the rounded
    assert at_72 / 1e6 == pytest.approx(1079, abs=0.5)
    assert (conv_macs(parallel, 72) - at_72) / 1e6 == pytest.approx(120, abs=0.5)
    # To the unit: 64² stem outputs, then a quarter of the outputs and twice the channels a stage.
    assert at_64 == 4096 * 9 * 3 * 32 + 3 * 1024 * 9 * (32 * 64 + 7 * 64**2)
    assert conv_macs(series, 64) - at_64 == 4096 * 32**2 + 3 * 1024 * 8 * 64**2
    assert conv_macs(merge_for_inference(parallel), 64) == at_64  # a merged network costs as much as the plain backbone


def test_random_start():
    """As the reference code starts: convolutions normal with variance 2 / (k² cout), norms 1 and 0."""
    torch.manual_seed(0)
    source = resnet26(10)
    networks = (
        source,
        put_series_on(source),
        select("scratch")[0].place(resnet26(10).requires_grad_(False), 10),
        select("par_adapter(init='he')")[0].place(source, 10),
    )
    for network in networks:
        for conv in (m for m in network.modules() if isinstance(m, nn.Conv2d)):
            variance = 2 / (conv.kernel_size[0] ** 2 * conv.out_channels)
            # the sample's own deviation is sqrt(2 / n) of it
            assert abs(conv.weight.var().item() / variance - 1) < 6 * (2 / conv.weight.numel()) ** 0.5, conv
        for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
            assert (norm.weight == 1).all() and (norm.bias == 0).all()
            assert (norm.running_mean == 0).all() and (norm.running_var == 1).all()


def put_series_on(network):
    out = share(network)
    put_series(out)
    return out


def test_counting_leaves_the_network_unchanged():
    network = select("par_adapter")[0].place(resnet26(3, 0.05), 3).train()
    conv_macs(network, 16)
    assert network.training and all(m.fused for m in network.modules() if isinstance(m, ParallelConv))


def test_a_new_head_of_the_right_size():
    network = share(resnet26(3, 0.05))
    new_head(network, 7)
    assert network.eval()(image(16, torch.float32)).shape == (1, 7)
    assert all(p.requires_grad for p in network.head.parameters())
