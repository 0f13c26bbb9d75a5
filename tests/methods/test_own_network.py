"""Own networks: Scratch+ is the reference's network with series adapters, all of it trained."""

import pytest
import torch

from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes
from visual_decathlon.methods.layers.network import merge_for_inference
from visual_decathlon.methods.layers.series import SeriesConv
from visual_decathlon.methods.registry import select


@pytest.fixture
def source():
    torch.manual_seed(0)
    return resnet26(3, 0.125).requires_grad_(False).eval()


def test_scratch_plus_has_adapters_everywhere_and_trains_all(source):
    (method,) = select("scratch_plus")
    network = method.place(source, 4)
    adapters = [m for _, m in network.conv_sites()]
    assert len(adapters) == 25 and all(isinstance(m, SeriesConv) for m in adapters)
    assert all(p.requires_grad for p in network.parameters())
    assert not {id(p) for p in network.parameters()} & {id(p) for p in source.parameters()}
    assert sum(p.numel() for p in network.body.parameters()) == method.floats(resnet26_shapes(0.125))


@pytest.mark.parametrize("spec", ["scratch", "scratch_plus"])
def test_the_start_owes_the_source_nothing(spec, source):
    """The same generator gives the same start for any weights of the source; convolutions are normal by fan-out."""
    (method,) = select(spec)
    torch.manual_seed(5)
    first = method.place(source, 4).state_dict()
    for p in source.parameters():
        p.mul_(3)
    torch.manual_seed(5)
    for name, t in method.place(source, 4).state_dict().items():
        assert torch.equal(t, first[name]), name
    for name, t in first.items():
        if t.ndim == 4 and t.numel() > 2000:
            assert t.std().item() == pytest.approx((2 / (t.shape[0] * t.shape[2] * t.shape[3])) ** 0.5, rel=0.1), name


def test_scratch_plus_merges(source):
    (method,) = select("scratch_plus")
    network = method.place(source, 4)
    x = torch.randn(8, 3, 16, 16)
    for _ in range(3):
        network.train()(x)
    network.eval()
    with torch.no_grad():
        wanted = network(x)
        assert torch.allclose(merge_for_inference(network)(x), wanted, rtol=1e-4, atol=1e-4 * wanted.abs().max().item())
