"""Signs and joint signs: the coded form against loops, its bits, what a file keeps of it, and what domains share."""

import itertools

import pytest
import torch
from torch import nn

from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.layers.network import own_tensors, restore, stored_tensors
from visual_decathlon.methods.layers.signs import SignsConv, pack, signed_steps, straight_through, unpack
from visual_decathlon.methods.registry import select
from visual_decathlon.methods.shapes import ConvShape
from visual_decathlon.methods.signs import packing

GROUPS = (1, 2, 3, 4, 6, 8)
WIDTH, CLASSES = 0.125, {"a": 3, "b": 4}
each_group = pytest.mark.parametrize("group", GROUPS)


def by_loops(d: torch.Tensor, group: int) -> torch.Tensor:
    """The coded form, one entry after another."""
    coded = torch.zeros_like(d)
    _, cin, height, width = d.shape
    # Neighbours are input channels.
    order = [(i, y, x) for y in range(height) for x in range(width) for i in range(cin)]
    for filter, out in zip(d, coded, strict=True):
        some = [order[start : start + group] for start in range(0, len(order), group)]
        places = [max(group, key=lambda at: abs(filter[at])) for group in some]
        step = (sum(abs(filter[at].double()) for at in places) / len(places)).half().float()
        for at in places:
            out[at] = -step if filter[at] < 0 else step
    return coded


def convs() -> list[nn.Conv2d]:
    return [
        nn.Conv2d(5, 6, (3, 2), stride=2, padding=(1, 0), bias=False),
        nn.Conv2d(4, 8, 3, padding=2, dilation=2, groups=2, bias=True),
        nn.Conv2d(3, 3, 3, groups=3, padding=1, padding_mode="reflect", bias=False),
        nn.Conv2d(7, 1, 3, padding=1, bias=False),  # of one filter a tensor may have any stride
    ]


@each_group
def test_coded_form_is_that_of_the_loops(group: int):
    d = torch.randn(4, 5, 3, 2)
    d[1, :, :2] = 0  # groups of zeros get a plus
    d[2] = 0  # a filter that has not learned anything stays as it is
    assert torch.equal(signed_steps(d, group), by_loops(d, group))
    assert signed_steps(d, group)[2].count_nonzero() == 0
    assert torch.equal(signed_steps(signed_steps(d, group), group), signed_steps(d, group))


@pytest.mark.parametrize("group", [2, 3])
def test_no_other_code_of_this_form_is_nearer(group: int):
    """Each choice of places and signs, each with its best step."""
    d = torch.randn(1, 2 * group, 1, 1)
    ours = (d - signed_steps(d, group)).square().sum()
    for one, other in itertools.product(range(group), repeat=2):
        for signs in itertools.product((-1.0, 1.0), repeat=2):
            pattern = torch.zeros_like(d)
            pattern[0, one, 0, 0], pattern[0, group + other, 0, 0] = signs
            step = ((d * pattern).sum() / 2).relu()
            assert (d - step * pattern).square().sum() > ours - 1e-3 * d.square().sum()


@each_group
def test_the_gradient_passes_straight_through(group: int):
    d, g = torch.randn(3, 7, 2, 2, requires_grad=True), torch.randn(3, 7, 2, 2)
    (straight_through(d, group) * g).sum().backward()
    torch.testing.assert_close(d.grad, g)


@each_group
def test_convolves_with_the_coded_weight_and_a_file_keeps_it(group: int):
    """Packed and unpacked it is the same weight to the bit; sizes do not divide by the group."""
    for conv in convs():
        conv.requires_grad_(False)
        layer = SignsConv(conv, group, packing(group))
        x = torch.randn(2, conv.in_channels, 11, 8)
        torch.testing.assert_close(layer(x), conv(x), rtol=0, atol=0)
        with torch.no_grad():
            layer.delta.normal_()
            layer.delta.view(-1)[:5] = 0
        weight = conv.weight + by_loops(layer.delta.detach(), group)
        torch.testing.assert_close(layer(x), conv._conv_forward(x, weight, conv.bias))
        torch.testing.assert_close(layer.merge()(x), layer(x))
        stored = layer.stored()
        assert {t.dtype for t in stored.values()} == {torch.uint8}
        bits = select(f"signs(group={group})")[0].new_bits(ConvShape.of(conv))
        assert 8 * sum(t.numel() for t in stored.values()) == bits
        other = SignsConv(conv, group, packing(group))
        with torch.no_grad():
            other.delta.copy_(layer.unpacked(stored)["delta"])
        assert torch.equal(other.adapted_weight(), layer.adapted_weight())
        assert all(torch.equal(a, b) for a, b in zip(other.stored().values(), stored.values(), strict=True))


@each_group
def test_digits_come_back_from_the_fewest_bytes(group: int):
    count, size = packing(group)
    digits = torch.randint(2 * group, (37,))
    digits[:count] = 2 * group - 1  # the largest number of a pack
    packed = pack(digits, 2 * group, count, size)
    assert packed.dtype == torch.uint8
    assert torch.equal(unpack(packed, 2 * group, count, size)[:37], digits)
    assert 256**size >= (2 * group) ** count  # so many choices fit, and one more would not
    assert 256**size < (2 * group) ** (count + 1)


def test_bits_of_a_convolution():
    """8 x 3 x 3 weights for each of 16 filters, and 16 bits for a filter's step."""
    conv = ConvShape.of(nn.Conv2d(8, 16, 3))
    bits = {g: select(f"signs(group={g})")[0].new_bits(conv) - 16 * 16 for g in GROUPS}
    assert bits == {1: 1152, 2: 1152, 3: 8 * 128, 4: 3 * 288, 6: 8 * 5 * 18, 8: 4 * 144}


def joint():
    torch.manual_seed(0)
    source = resnet26(3, WIDTH).requires_grad_(False).eval()
    (method,) = select("joint_signs")
    module = method.build_joint(source, CLASSES)
    return source, method, module


def test_domains_share_the_signs_of_the_trunk():
    """A domain has W + t sign(C) + its own steps; both are trained, and C by the batches of every domain."""
    source, _, module = joint()
    trunk = dict(module.trunk.conv_sites())
    layers = {name: dict(network.conv_sites()) for name, network in module.networks.items()}
    for i, (site, frozen) in enumerate(source.conv_sites()):
        common = trunk[site].delta
        assert common.requires_grad
        with torch.no_grad():
            common.normal_()
        for name in CLASSES:
            layer = layers[name][site]
            assert layer.common is common and layer.conv.weight is frozen.weight
            with torch.no_grad():
                layer.delta.normal_()
            if i > 1:  # the stem and one more: loops over the numbers of all layers take a minute
                continue
            step = by_loops(layer.delta.detach(), layer.group)
            wanted = frozen.weight + by_loops(common.detach(), 1) + step
            # a step may round the other way
            torch.testing.assert_close(layer.adapted_weight(), wanted, rtol=0, atol=2e-3)
    module(("b", torch.randn(4, 3, 32, 32))).sum().backward()
    for site, _ in source.conv_sites():
        assert trunk[site].delta.grad.abs().sum() > 0
        assert layers["b"][site].delta.grad.abs().sum() > 0 and layers["a"][site].delta.grad is None


def test_the_files_hold_what_is_counted():
    """Codes of the trunk once and of each domain, in bytes: `shared_params`, `bits` and `floats`.

    The joint training's own file has the domains' tensors too, of which their files are made.
    """
    source, method, module = joint()
    shapes = resnet26_shapes(WIDTH)
    shared = {n: t for n, t in stored_tensors(module, source).items() if n.startswith("trunk.")}
    assert {t.dtype for t in shared.values()} == {torch.uint8}
    assert -(-sum(t.numel() for t in shared.values()) // 4) == method.shared_params(shapes)
    own = stored_tensors(module.networks["a"], module.trunk)
    codes = sum(t.numel() for t in own.values() if t.dtype == torch.uint8)
    floats = sum(t.numel() for n, t in own.items() if t.is_floating_point() and "head" not in n and "running" not in n)
    assert (8 * codes, floats) == (method.bits(shapes), method.floats(shapes))
    counted = shapes.base + method.shared_params(shapes) + 10 * (floats + codes / 4)
    assert method.multiplier(shapes) == counted / shapes.base


def test_a_joint_file_comes_back():
    source, method, module = joint()
    with torch.no_grad():
        for t in own_tensors(module, source).values():
            if t.is_floating_point():
                t.normal_().abs_()
    stored = stored_tensors(module, source)
    other = method.build_joint(source, CLASSES)
    assert restore(other, source, stored) == ""
    module.eval(), other.eval()
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert all(torch.equal(module((name, x)), other((name, x))) for name in CLASSES)
    alone = method.build_joint(source, {})  # as a domain is served
    assert restore(alone, source, {n: t for n, t in stored.items() if n.startswith("trunk.")}) == ""
    network = alone.place(CLASSES["a"])
    assert restore(network, alone.trunk, stored_tensors(module.networks["a"], module.trunk)) == ""
    with torch.no_grad():
        assert torch.equal(network.eval()(x), module(("a", x)))


@pytest.mark.parametrize("words", ["group=5", "group=0", "group='4'"])
def test_wrong_options(words: str):
    with pytest.raises(InputError, match=r"signs\(group="):
        select(f"joint_signs({words})")
