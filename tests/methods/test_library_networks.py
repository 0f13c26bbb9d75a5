"""Every entry on the libraries' ResNets: what it stores is its closed form, and it starts as it says."""

from functools import cache

import pytest
import torch
from torch import nn

from tests.entries import assert_count, assert_start
from visual_decathlon.benchmark.backbones.library import library_network
from visual_decathlon.benchmark.backbones.structure import shapes_of
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.layers.adapter import Adapter
from visual_decathlon.methods.layers.linear import LinearConv, adapter_at
from visual_decathlon.methods.per_conv import PerConv
from visual_decathlon.methods.registry import entries, select

OPTIONS = (  # that place or store something else than the default
    "c3a(block=64),conv_adapter(where='all'),dtl(kernel=3),fact(form='tk'),filter_atoms(inner=0),glora(shift='vector'),"
    "lokr(rank=4),lora(form='loralib'),lst(reduction=16),oft(side='left'),piggyback(own_norm=False),randlora(rank=32),"
    "rep_adapter(bias=True),shira(mask='gradient'),signs(group=1),vera(rank=16)"
)
NETWORKS = ("timm/resnet18", pytest.param("torchvision/resnet50", marks=pytest.mark.slow))
CLASSES = 4
METHODS = [*(entry() for entry in entries()), *select(OPTIONS)]


@cache
def _source(name: str, structure: str):
    from visual_decathlon.methods.layers.series import put_series

    torch.manual_seed(0)
    network = library_network(name, 3).for_size(48)
    shapes = shapes_of(network, 48)  # of the plain network, as counts are
    if structure == "series":
        put_series(network)
    for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)  # timm starts a block's last one at 0, which hides what is before it
    network.requires_grad_(False).eval()
    return network, shapes


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.spec)
def test_on_a_librarys_network(method, name):
    """Counts from the network's own shapes: strided 1x1 shortcuts, bottlenecks, a 7x7 stem."""
    if reason := method.unsupported_reason(name) or method.unsupported_reason("resnet26"):  # all are ResNets
        pytest.skip(reason)
    if method.name == "covnorm" and name.endswith("50"):
        pytest.skip("eigenvectors of 2,048 channels take a minute; it has layers of the same kinds on a ResNet-18")
    source, shapes = _source(name, method.backbone_structure)
    if method.name == "depthwise":
        with pytest.raises(InputError, match="this backbone has none"):  # test_depthwise.py has networks with some
            method.check(shapes)
        return
    method.check(shapes)
    torch.manual_seed(1)
    network = method.place(source, CLASSES).eval()
    assert_count(method, network, source, shapes, CLASSES)
    modules = dict(source.named_modules())
    if isinstance(method, PerConv) and method.backbone_structure == "plain":
        adapted = [site.conv for site, m in network.conv_sites() if isinstance(m, Adapter)]
        assert adapted == [conv.name for conv in method.adapted(shapes)] and adapted
    for name, adapter in network.named_modules():
        if isinstance(adapter, Adapter) and isinstance(layer := modules.get(name), nn.Conv2d | nn.BatchNorm2d):
            reads = (
                ("kernel_size", "stride", "in_channels") if isinstance(layer, nn.Conv2d) else ("eps", "num_features")
            )
            assert [getattr(adapter, read) for read in reads] == [getattr(layer, read) for read in reads], name
            assert adapter.weight.shape == layer.weight.shape and adapter.weight.device == layer.weight.device, name
    images = torch.randn(2, 3, 48 if method.name == "pad_prompt" else 40, 48)  # its border is that of a square
    with torch.no_grad():
        assert_start(method, network.body(images), source.body(images))


def test_convolutions_that_are_left_alone():
    """By the defaults only the stem, whose 3 channels make no groups, halves or blocks."""
    _, shapes = _source("timm/resnet18", "plain")
    alone = {entry.name: [c.name for c in shapes.convs if entry().skip_reason(c)] for entry in entries()}
    assert {name: names for name, names in alone.items() if names} == {
        key: ["body.conv1"] for key in ("boft", "c3a", "conv_adapter", "rep_adapter")
    }


@pytest.mark.parametrize("spec", ["lora", "par_adapter", "ssf"])
@pytest.mark.parametrize(
    "name",
    [
        "timm/convit_tiny(depth=2,embed_dim=48,img_size=32,local_up_to_layer=1,patch_size=8)",
        "timm/davit_tiny(depths=(1,1),embed_dims=(16,32),num_heads=(2,2))",
        "timm/edgenext_xx_small(depths=(1,1,1,1),dims=(16,24,32,48))",
        "timm/xcit_nano_12_p8_224(depth=1,cls_attn_layers=1,embed_dim=32,img_size=32)",
    ],
)
def test_networks_that_read_their_layers(name, spec):
    """They ask a layer for `weight.device` or `kernel_size` while they compute, and get the replaced one's."""
    torch.manual_seed(0)
    source = library_network(name, 3).for_size(32).requires_grad_(False).eval()
    (method,) = select(spec)
    network = method.place(source, CLASSES).eval()
    assert any(isinstance(module, Adapter) for module in network.modules())
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert_start(method, network.body(images), source.body(images))


def test_attributes_of_an_adapter():
    """Those of the layer that it replaces, of its own tensors first; any other name is an error as ever."""
    conv = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2)
    (method,) = select("lora(rank=1)")
    layer = method.layer(conv)
    assert layer.weight is conv.weight and layer.bias is conv.bias and layer.stride == (2, 2) and layer.groups == 2
    linear = LinearConv(nn.Linear(4, 6, bias=False))
    (taken,) = (adapter_at(linear, one.layer) for one in select("par_adapter"))
    assert (taken.in_features, taken.out_features, taken.bias) == (4, 6, None) and taken.weight.numel() == 24
    assert not hasattr(Adapter.__new__(Adapter), "weight")  # not even made
    for name in ("eps", "no_such_name"):
        with pytest.raises(AttributeError):
            getattr(layer, name)
