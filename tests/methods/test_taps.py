"""TAPS: shared and own layers, the straight-through score, the late penalty, and a file of the own layers alone."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes
from visual_decathlon.benchmark.records import build
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.layers.network import merge_for_inference, restore, stored_tensors
from visual_decathlon.methods.layers.packed import hold_stored
from visual_decathlon.methods.layers.taps import START, THRESHOLD, OwnOrSharedConv, scored_convs
from visual_decathlon.methods.registry import select

GEOMETRIES = {
    "stride": {"kernel_size": 3, "padding": 1, "stride": 2},
    "dilation": {"kernel_size": 3, "padding": 2, "dilation": 2},
    "groups": {"kernel_size": 3, "padding": 1, "groups": 2},
    "non-square": {"kernel_size": (3, 5), "padding": (0, 2), "stride": (2, 1)},
    "bias, reflect": {"kernel_size": 3, "padding": 1, "padding_mode": "reflect", "bias": True},
}


@pytest.fixture
def source():
    torch.manual_seed(0)
    return resnet26(3, 0.125).requires_grad_(False).eval()


def placed(source, spec="taps"):
    (method,) = select(spec)
    torch.manual_seed(1)
    network = method.place(source, 4)
    with torch.no_grad():
        for conv in scored_convs(network):
            conv.change.normal_(std=0.02)
    return method, network


@pytest.mark.parametrize("how", GEOMETRIES.values(), ids=GEOMETRIES)
def test_an_own_layer_is_a_second_convolution_beside_the_first(how):
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 6, **{"bias": False, **how}).double().requires_grad_(False)
    adapter, x = OwnOrSharedConv(conv), torch.randn(2, 4, 11, 9, dtype=torch.float64)
    other = nn.Conv2d(4, 6, **{**how, "bias": False}).double()
    with torch.no_grad():
        adapter.change.copy_(other.weight)
    for score, own in ((START, True), (THRESHOLD + 1e-6, True), (THRESHOLD - 1e-6, False), (-1.0, False)):
        nn.init.constant_(adapter.score, score)
        wanted = conv(x) + other(x) if own else conv(x)
        assert adapter.is_own() == own
        for got in (adapter(x), adapter.merge()(x)):
            assert torch.allclose(got, wanted, rtol=1e-12, atol=1e-12)


def test_gradients():
    """ΔW has none where the layer is shared; the score has the inner product of ΔW with the weight's on both sides."""
    torch.manual_seed(0)
    adapter, x = OwnOrSharedConv(nn.Conv2d(3, 5, 3).double().requires_grad_(False)), torch.randn(2, 3, 7, 6).double()
    nn.init.normal_(adapter.change)
    probe = torch.randn_like(adapter(x))
    for score in (START, 0.0):
        nn.init.constant_(adapter.score, score)
        for p in adapter.parameters():
            p.grad = None
        (adapter(x) * probe).sum().backward()
        weight = (adapter.conv.weight + (score > THRESHOLD) * adapter.change).detach().requires_grad_()
        (F.conv2d(x, weight, adapter.conv.bias) * probe).sum().backward()
        assert torch.allclose(adapter.score.grad, (weight.grad * adapter.change).sum(), rtol=1e-10)
        assert torch.allclose(adapter.change.grad, (score > THRESHOLD) * weight.grad, rtol=1e-12, atol=1e-12)


def test_the_penalty_begins_after_a_tenth(source):
    method, network = placed(source, "taps(weight=3.0)")
    x, y = torch.randn(4, 3, 16, 16), torch.tensor([0, 2, 1, 3])
    nn.init.constant_(scored_convs(network)[0].score, -0.05)
    network.eval()
    plain = F.cross_entropy(network(x), y).item()
    method.after_step(network, 3, 40)
    assert method.loss(network, x, y, F.cross_entropy)[0].item() == pytest.approx(plain, rel=1e-6)
    method.after_step(network, 4, 40)
    wanted = plain + 3 * (24 * 0.15 + 0.05) / 25
    assert method.loss(network, x, y, F.cross_entropy)[0].item() == pytest.approx(wanted, rel=1e-6)
    rest, scores = method.groups(network, 5e-4, 100)
    assert (rest["weight_decay"], scores["weight_decay"], len(scores["params"])) == (5e-4, 0, 25)


def test_the_file_holds_the_own_layers_alone(source):
    """Its size is what the record says; it restores another network, and one whose layers had all been their own."""
    method, network = placed(source)
    shapes, convs = resnet26_shapes(0.125), scored_convs(network)
    kept = {1, 8, 24}
    for i, conv in enumerate(convs):
        nn.init.constant_(conv.score, 0.3 if i in kept else 0.02)
    own = sum(convs[i].change.numel() for i in kept)
    stored = stored_tensors(network, source)
    assert sum(t.numel() for name, t in stored.items() if name.endswith(".change")) == own
    assert not any(name.endswith(".score") for name in stored)
    assert method.stored_floats(network, shapes) == shapes.affine + own
    assert method.least_floats(shapes) == shapes.affine < method.floats(shapes) == shapes.base
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        wanted = network.eval()(x)
        fresh = select("taps")[0].place(source, 4).eval()
        assert restore(fresh, source, stored) == ""
        assert torch.equal(fresh(x), wanted)
        assert {i for i, conv in enumerate(scored_convs(fresh)) if conv.is_own()} == kept
        assert torch.allclose(merge_for_inference(fresh)(x), wanted, rtol=1e-4, atol=1e-5)
        hold_stored(fresh, stored)
        assert torch.equal(fresh(x), wanted)
    (name,) = [n for n in stored if n.endswith("unit2.conv.change") and "0.0." in n]
    assert "of shape (5,)" in restore(network, source, stored | {name: torch.zeros(5)})


def test_the_count_of_a_record(source):
    """#par. is computed from the domain's own floats; without them from the most there can be."""
    (method,) = select("taps")
    shapes = resnet26_shapes()
    assert method.multiplier(shapes) == 10
    assert f"{method.multiplier(shapes, floats=shapes.affine):.2f}" == "1.01"

    class Cell:
        source_cell = False

        class train:
            classes = 4

    record = build.size(Cell, method, shapes, shapes.base, 1, 1_000_000)
    assert record["floats"] == 1_000_000
    assert record["multiplier"] == pytest.approx(1 + 9_000_000 / 5_814_688, rel=1e-12)


def test_wrong_options():
    with pytest.raises(InputError, match="weight of the penalty"):
        select("taps(weight=-1)")
