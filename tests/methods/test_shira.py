"""SHiRA at random places against HF PEFT; GPS's places: their choice, their bits, and what a run stores and resumes."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.adapters import geometries
from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes
from visual_decathlon.benchmark.backbones.structure import shapes_of
from visual_decathlon.benchmark.training.checkpoint import Checkpoint
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.layers.network import merge_for_inference, own_tensors, restore, stored_tensors
from visual_decathlon.methods.layers.packed import hold_stored
from visual_decathlon.methods.layers.shira import (
    GradientSum,
    gradient_convs,
    pack_places,
    unpack_places,
)
from visual_decathlon.methods.registry import select
from visual_decathlon.methods.shapes import ConvShape
from visual_decathlon.methods.shira import CHOOSING, Shira, index_bits

STEPS = 60  # of which three choose
GPS = Shira(0.1, "gradient")


@geometries
@pytest.mark.parametrize("share", [0.001, 0.1, 0.9])
def test_the_weight_plus_values_at_random_places(geometry, share):
    torch.manual_seed(0)
    method = Shira(share, position_seed=3)
    conv = nn.Conv2d(8, 12, **geometry, dtype=torch.float64).requires_grad_(False)
    layer = method.layer(conv)
    assert torch.equal(layer.adapted_weight(), conv.weight)
    assert len(layer.values) == method.new_floats(ConvShape.of(conv)) == max(1, round(share * conv.weight.numel()))
    nn.init.normal_(layer.values)
    delta = torch.zeros_like(conv.weight)
    for value, place in zip(layer.values.detach(), layer.at.tolist(), strict=True):
        delta.view(-1)[place] += value
    assert int(delta.count_nonzero()) == len(layer.values)
    x = torch.randn(2, 8, 9, 11, dtype=torch.float64)
    wanted = conv(x) + conv._conv_forward(x, delta, None)
    torch.testing.assert_close(layer(x), wanted)
    torch.testing.assert_close(layer.merge()(x), wanted)
    (layer(x) * 2).sum().backward()
    dense = conv.weight.clone().requires_grad_()
    (conv._conv_forward(x, dense, None) * 2).sum().backward()
    torch.testing.assert_close(layer.values.grad, dense.grad.flatten()[layer.at])


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_it_is_pefts():
    """On a linear layer: the same places for the same seed, and the same weight."""
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    conv = nn.Conv2d(40, 30, 1).requires_grad_(False)
    layer = Shira(2 * (40 + 30) / (40 * 30), position_seed=9).layer(conv)
    linear = nn.Linear(40, 30)
    linear.load_state_dict({"weight": conv.weight.flatten(1), "bias": conv.bias})
    config = peft.ShiraConfig(r=2, random_seed=9, target_modules=["0"])
    model = peft.get_peft_model(nn.Sequential(linear), config).base_model.model[0]
    rows, columns = model.shira_indices["default"].long()
    assert torch.equal(40 * rows + columns, layer.at)
    with torch.no_grad():
        model.shira_weight["default"].copy_(nn.init.normal_(layer.values))
        x = torch.randn(3, 40)
        torch.testing.assert_close(layer(x[:, :, None, None])[:, :, 0, 0], model(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("n", "kept"), [(1, 1), (2, 1), (27, 1), (27, 5), (27, 6), (64, 10), (64, 11), (9, 9), (2304, 46)]
)
def test_places_as_bits(n, kept):
    """An index for each or a bit for each weight, whichever is less; they come back."""
    places = torch.stack([torch.randperm(n)[:kept].sort().values for _ in range(5)])
    packed = pack_places(places, n)
    width = next(w for w in range(13) if 2**w >= n)
    assert index_bits(kept, n) == min(kept * width, n)
    assert packed.dtype == torch.uint8 and len(packed) == -(-5 * index_bits(kept, n) // 8)
    assert torch.equal(unpack_places(packed, 5, kept, n), places)
    assert GPS.new_bits(ConvShape(3, 5, (3, 3))) == 5 * min(3 * 5, 27)


def test_what_chooses_is_the_sum_of_the_gradients():
    """The largest entries of each filter; until then the weight is the frozen one."""
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 6, 3).requires_grad_(False)
    layer = GPS.layer(conv)
    gradients, wanted = GradientSum(layer), torch.zeros_like(conv.weight)
    for step in range(4):
        layer.delta.grad = torch.randn_like(conv.weight)
        if step == 2:  # as in a step that fp16 skips
            layer.delta.grad.view(-1)[5] = float("nan")
        else:
            wanted += layer.delta.grad
        with torch.no_grad():
            layer.delta.add_(1)
        gradients.observe(layer)
        assert torch.equal(layer.adapted_weight(), conv.weight)
    torch.testing.assert_close(gradients.total, wanted)
    layer.choose(gradients.total.abs())
    for chosen, size in zip(layer.chosen.flatten(1), wanted.abs().flatten(1), strict=True):
        assert int(chosen.sum()) == GPS.kept(ConvShape.of(conv)) == 4
        assert float(size[chosen].min()) > float(size[~chosen].max())


def go(network, optimiser, first, last):
    x, y = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(1)), torch.arange(8) % 4
    for step in range(first, last + 1):
        loss, _ = GPS.loss(network.train(), x, y, F.cross_entropy)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        GPS.after_step(network, step, STEPS)


def ready(seed, source, path):
    torch.manual_seed(seed)
    network = GPS.place(source, 4)
    optimiser = GPS.optimiser(GPS.groups(network, 5e-4, 100), 0.02, 0.9, True)
    trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
    return network, optimiser, Checkpoint(path, own_tensors(network, source), trained, optimiser)


@pytest.fixture
def source():
    torch.manual_seed(0)
    return resnet26(3, 0.125).requires_grad_(False).eval()


def test_a_run_with_chosen_places(source, tmp_path):
    """Only chosen entries change; the file has them and their places, in the counted size, and gives the same bits."""
    network, optimiser, _ = ready(1, source, tmp_path / "c")
    go(network, optimiser, 1, int(CHOOSING * STEPS))
    convs = gradient_convs(network)
    assert len(convs) == 25 and all(int(c.delta.count_nonzero()) == 0 for c in convs)
    chosen = [c.chosen.clone() for c in convs]
    go(network, optimiser, 4, 6)
    for conv, places in zip(convs, chosen, strict=True):
        assert torch.equal(conv.chosen, places)
        assert torch.equal(conv.adapted_weight() != conv.conv.weight, places)
    stored, shapes = stored_tensors(network, source), shapes_of(source)
    packed = [t for t in stored.values() if t.dtype == torch.uint8]
    assert sum(t.numel() for t in stored.values() if t.is_floating_point()) == (
        GPS.floats(shapes) + shapes.head(4) + shapes.affine  # as many running statistics as affine values
    )
    assert 0 <= 8 * sum(t.numel() for t in packed) - GPS.bits(shapes) < 8 * len(packed)
    fresh, _, _ = ready(2, source, tmp_path / "d")
    x = torch.randn(3, 3, 16, 16)
    with torch.no_grad():
        wanted = network.eval()(x)
        assert restore(fresh, source, stored) == "" and torch.equal(fresh.eval()(x), wanted)
        torch.testing.assert_close(merge_for_inference(fresh)(x), wanted, rtol=1e-4, atol=1e-5)
        again = stored_tensors(fresh, source)
        assert all(torch.equal(again[name], t) for name, t in stored.items())
        hold_stored(fresh, stored)
        assert torch.equal(fresh(x), wanted)


@pytest.mark.parametrize("stop", [2, 5], ids=["while it chooses", "after it"])
def test_a_run_that_was_stopped(source, tmp_path, stop):
    whole, optimiser, checkpoint = ready(1, source, tmp_path / "c")
    go(whole, optimiser, 1, stop)
    checkpoint.save([])
    go(whole, optimiser, stop + 1, 6)
    broken, optimiser, checkpoint = ready(2, source, tmp_path / "c")
    checkpoint.load()
    go(broken, optimiser, stop + 1, 6)
    resumed = own_tensors(broken, source)
    for name, t in own_tensors(whole, source).items():
        assert torch.equal(resumed[name], t), name


def test_random_places_depend_on_the_seed_alone_and_are_not_stored(source):
    places = []
    for seed, spec in ((1, "shira"), (2, "shira"), (2, "shira(position_seed=1)")):
        torch.manual_seed(seed)
        network = select(spec)[0].place(source, 4)
        own = {name: t for name, t in own_tensors(network, source).items() if name.endswith(".at")}
        assert len(own) == 25 and not own.keys() & stored_tensors(network, source).keys()
        places.append(own)
    first, second, other = places
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_counts():
    shapes = resnet26_shapes()
    assert f"{Shira().multiplier(shapes):.2f}" == "1.19" and Shira().bits(shapes) == 0
    gps = Shira(mask="gradient")
    assert f"{gps.multiplier(shapes):.2f}" == "1.26"
    conv = ConvShape(256, 256, (3, 3))
    assert gps.new_floats(conv) == 256 * 46 and gps.new_bits(conv) == 256 * 46 * 12
    assert Shira(0.5, "gradient").new_bits(conv) == 256 * 2304


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("shira(share=0)", r"shira\(share=0\): share is a part of the weights, above 0 and below 1"),
        ("shira(share=1)", r"shira\(share=1\): share is a part"),
        ("shira(position_seed=-2)", r"shira\(position_seed=-2\): a seed is 0 or more"),
        ("shira(mask='gradient', position_seed=1)", "draws no places; leave out position_seed"),
        ("shira(mask='magnitude')", "mask must be 'random' or 'gradient'"),
    ],
)
def test_options_refused(spec, words):
    with pytest.raises(InputError, match=words):
        select(spec)


def test_a_chosen_value_of_zero_keeps_its_place():
    """Before a choice, which a run of no step has not made, the largest values are stored."""
    torch.manual_seed(0)
    layer, fresh = (GPS.layer(nn.Conv2d(4, 6, 3).requires_grad_(False)) for _ in range(2))
    nn.init.normal_(layer.delta)
    largest = layer.delta.detach().abs().flatten(1).topk(layer.kept).indices.sort(1).values
    stored = layer.stored()
    assert torch.equal(unpack_places(stored["places"], 6, layer.kept, 36), largest)
    assert torch.equal(stored["values"], layer.delta.flatten(1).gather(1, largest))
    layer.choose(torch.rand_like(layer.delta))
    nn.init.zeros_(layer.delta)
    assert torch.equal(fresh.unpacked(layer.stored())["chosen"], layer.chosen)
