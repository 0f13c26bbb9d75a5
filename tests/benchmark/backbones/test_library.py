"""Library backbones: each convolution's own norm, strides, logits of the libraries, merging."""

import copy

import pytest
import torch
from torch import nn

from tests.benchmark.backbones.stirred import image, off, stirred
from visual_decathlon.benchmark.backbones.library import library_network
from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.layers.adapter import Adapter
from visual_decathlon.methods.layers.network import merge_for_inference
from visual_decathlon.methods.layers.series import put_series
from visual_decathlon.methods.registry import select

NAMES = tuple(f"{lib}/{net}" for lib in ("torchvision", "timm") for net in ("resnet18", "resnet50", "resnet50_v1"))


def source_network(name: str, structure: str, classes: int = 3):
    torch.manual_seed(0)
    network = resnet26(classes, 0.25) if name == "resnet26" else library_network(name, classes)
    if structure == "series":
        put_series(network)
    return stirred(network).double()


def check_merged(method, source, size: int, single: bool = True) -> None:
    network = stirred(method.place(source, 3), seed=1).eval()
    state = {n: t.clone() for n, t in network.state_dict().items()}
    trained = [n for n, p in network.named_parameters() if p.requires_grad]
    out = merge_for_inference(network)
    with torch.no_grad():
        x = image(size)
        wanted = network(x)
        assert off(out(x), wanted) < 1e-10, method.spec
        assert not any(isinstance(m, Adapter) for m in out.modules())
        for site in out.sites:
            assert isinstance(out.get_submodule(site.norm), nn.Identity)
        if single:
            assert off(merge_for_inference(copy.deepcopy(network).float())(x.float()).double(), wanted) < 1e-5, (
                method.spec
            )
    # the network that was merged stays as it was: values, modules, and what it trains
    assert trained == [n for n, p in network.named_parameters() if p.requires_grad]
    assert state.keys() == network.state_dict().keys()
    assert all(torch.equal(t, network.state_dict()[n]) for n, t in state.items())


@pytest.mark.parametrize("name", NAMES)
def test_merged_is_unmerged_on_library_networks(name):
    """Every network once with parallel adapters; the first with series ones put on it. All methods: test_merging."""
    first = name == NAMES[0]
    plain = source_network(name, "plain")
    check_merged(select("par_adapter")[0], plain, 64, single=first)
    if first:
        check_merged(select("res_adapter(init='zero', off_the_shelf=True)")[0], plain, 64)


@pytest.mark.parametrize("name", NAMES)
def test_sites_pair_each_convolution_with_its_norm(name):
    network = library_network(name, 3).eval()
    outputs, seen = {}, []
    for site, conv in network.conv_sites():
        conv.register_forward_hook(lambda m, i, out, key=site.conv: outputs.update({key: out}))

        def into(module, inputs, site=site):
            assert inputs[0] is outputs[site.conv]
            seen.append(site)

        network.get_submodule(site.norm).register_forward_pre_hook(into)
    with torch.no_grad():
        network(image(32, torch.float32))
    assert sorted(map(str, seen)) == sorted(map(str, network.sites))
    kinds = [type(m) for m in network.modules()]
    assert len(network.sites) == kinds.count(nn.Conv2d)
    assert len(network.sites) == sum(issubclass(kind, nn.BatchNorm2d) for kind in kinds)


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_where_the_stride_is(library):
    for version, striding in (("resnet50", "conv2"), ("resnet50_v1", "conv1")):
        body = library_network(f"{library}/{version}", 3).body
        for stage in (2, 3, 4):
            block = getattr(body, f"layer{stage}")[0]
            strides = {n: getattr(block, n).stride for n in ("conv1", "conv2", "conv3")}
            assert strides == {n: (2, 2) if n == striding else (1, 1) for n in strides}
            assert block.downsample[0].stride == (2, 2)
            assert getattr(body, f"layer{stage}")[1].conv1.stride == (1, 1)


@pytest.mark.parametrize("model", ["resnet18", "resnet50"])
def test_both_libraries_are_torchvisions_own_network(model):
    """v1.5 of either library gives the logits of torchvision's model from the same weights."""
    from torchvision import models

    torch.manual_seed(0)
    own = stirred(models.get_model(model, weights=None, num_classes=3)).eval()
    weights = {f"body.{n}": t for n, t in own.state_dict().items() if not n.startswith("fc.")}
    weights |= {f"head.{n}": t for n, t in own.fc.state_dict().items()}
    x = image(64, torch.float32)
    with torch.no_grad():
        wanted = own(x)
        for library in ("torchvision", "timm"):
            network = library_network(f"{library}/{model}", 3)
            network.load_state_dict(weights)
            assert off(network.eval()(x), wanted) < 1e-6
            if model == "resnet50":
                v1 = library_network(f"{library}/{model}_v1", 3)
                v1.load_state_dict(weights)
                assert off(v1.eval()(x), wanted) > 1e-3  # the same weights, another network


def test_unknown_backbone():
    with pytest.raises(InputError, match="no classifier of that name; did you mean torchvision/resnet1"):
        library_network("torchvision/resnet19", 3)
