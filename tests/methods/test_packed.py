"""Adapters kept in their stored form: they compute the same bits and keep no other tensor."""

import pytest
import torch

from visual_decathlon.benchmark.backbones.library import library_network
from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.methods.layers.network import (
    Network,
    merge_for_inference,
    own_tensors,
    packers,
    restore,
    stored_tensors,
)
from visual_decathlon.methods.layers.packed import Packed, hold_stored
from visual_decathlon.methods.registry import select

SPECS = ["piggyback", "ba2", "par_adapter_svd(rank=2)", "side"]
NCHW, NHWC = torch.contiguous_format, torch.channels_last
CASES = [(spec, "resnet26", layout) for spec in SPECS for layout in (NCHW, NHWC)]
CASES += [(spec, "timm/resnet18", NCHW) for spec in SPECS[1:]]


def source_of(name: str, layout: torch.memory_format) -> Network:
    torch.manual_seed(0)
    made = resnet26(3, 0.25) if name == "resnet26" else library_network(name, 3)
    return made.requires_grad_(False).eval().to(memory_format=layout)


def trained(spec: str, source: Network) -> tuple[Network, dict[str, torch.Tensor]]:
    """The network that a run evaluates, and the tensors of its file."""
    (method,) = select(spec)
    network = method.place(source, 4)
    with torch.no_grad():
        for p in network.parameters():
            if p.requires_grad:
                p.add_(0.01 * torch.randn_like(p))
    stored = {name: t.clone().contiguous() for name, t in stored_tensors(network, source).items()}
    assert restore(network, source, stored) == ""
    return network.eval(), stored


@pytest.mark.parametrize(("spec", "name", "layout"), CASES)
@torch.no_grad()
def test_the_same_bits_of_what_is_stored(spec, name, layout):
    source = source_of(name, layout)
    network, stored = trained(spec, source)
    before = {n: t.clone() for n, t in source.state_dict().items()}
    x = torch.randn(3, 3, 32, 32).to(memory_format=layout)
    wanted = network(x)
    with torch.autocast("cpu", torch.bfloat16):
        half = network(x)
    whole = merge_for_inference(network)(x) if spec != "side" else None
    paths = packers(network).keys()
    hold_stored(network, stored)
    assert paths and all(isinstance(network.get_submodule(path), Packed) for path in paths)
    assert torch.equal(network(x), wanted) and torch.equal(network(x), wanted)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(network(x), half)
    if whole is not None:
        assert torch.equal(merge_for_inference(network)(x), whole)
    own = own_tensors(network, source)
    assert own.keys() == stored.keys() and all(torch.equal(own[n], t) for n, t in stored.items())
    inside = {id(t) for path in paths for t in network.get_submodule(path).whole().parameters()}
    assert inside & {id(t) for t in source.parameters()} or spec == "side", "the convolutions are the source's"
    assert all(torch.equal(t, before[n]) for n, t in source.state_dict().items())
