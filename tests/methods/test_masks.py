"""Piggyback and BA²: masks against a second path, straight through, and as bits."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from visual_decathlon.benchmark.backbones.library import library_network
from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes
from visual_decathlon.benchmark.backbones.structure import shapes_of
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.layers.masks import (
    THRESHOLD,
    InputSwitch,
    WeightMask,
    masks_of,
    mean_on,
    pack,
    switched,
    unpack,
)
from visual_decathlon.methods.layers.network import restore, stored_tensors
from visual_decathlon.methods.registry import select
from visual_decathlon.methods.shapes import ConvShape, Shapes

GEOMETRIES = {
    "plain": {"kernel_size": 3, "padding": 1},
    "stride": {"kernel_size": 3, "padding": 1, "stride": 2},
    "dilation": {"kernel_size": 3, "padding": 2, "dilation": 2},
    "groups": {"kernel_size": 3, "padding": 1, "groups": 2},
    "non-square": {"kernel_size": (3, 5), "padding": (0, 2), "stride": (2, 1)},
    "bias, reflect": {"kernel_size": 3, "padding": 1, "padding_mode": "reflect", "bias": True},
    "same": {"kernel_size": (5, 3), "padding": "same"},
}
geometry = pytest.mark.parametrize("how", GEOMETRIES.values(), ids=GEOMETRIES)


def conv_of(how) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(4, 6, **{"bias": False, **how}).requires_grad_(False)


def scattered(adapter):
    """Sets its mask to values around the threshold, the threshold itself included."""
    with torch.no_grad():
        adapter.mask.uniform_(0, 2 * THRESHOLD)
        adapter.mask.view(-1)[0] = THRESHOLD
    return adapter


@geometry
def test_a_masked_weight_is_the_weight_times_the_mask(how):
    conv = conv_of(how)
    adapter, x = scattered(WeightMask(conv)), torch.randn(2, 4, 11, 9)
    kept = adapter.mask.detach().numpy() > THRESHOLD
    assert 0 < kept.mean() < 1 and not kept.flat[0]
    plain = conv_of(how)
    plain.weight.mul_(torch.from_numpy(kept))
    wanted = plain(x)
    assert torch.equal(adapter(x), wanted) and torch.equal(adapter.merge()(x), wanted)


@geometry
def test_a_switch_is_on_the_input(how):
    conv = conv_of(how)
    adapter, x = InputSwitch(conv), torch.randn(2, 4, 11, 9)
    with torch.no_grad():
        adapter.mask.copy_(torch.tensor([1e-2, 0.0, 4.9e-3, 5.1e-3]))
    wanted = conv(x * torch.tensor([1.0, 0, 0, 1]).view(1, 4, 1, 1))
    for got in (adapter(x), adapter.merge()(x)):
        assert torch.allclose(got, wanted, rtol=1e-5, atol=1e-6)


def test_straight_through():
    """Exactly 0 and 1, the threshold itself 0; the gradient is that of a real mask."""
    m = torch.tensor([1e-2, THRESHOLD, 5.1e-3, -3.0, 1e6], requires_grad=True)
    s = switched(m)
    assert s.tolist() == [1, 0, 1, 0, 1]
    weight = torch.randn(5)
    (weight * s).sum().backward()
    assert torch.equal(m.grad, weight)


@geometry
@pytest.mark.parametrize("kind", [WeightMask, InputSwitch])
def test_gradient_is_that_of_the_soft_network(kind, how):
    """Against float64 differences of a network whose mask is a real number around its binary value."""
    conv = conv_of(how).double()
    adapter = kind(conv)
    on = torch.rand(adapter.mask.shape) > 0.4
    with torch.no_grad():
        adapter.mask.copy_(on * 1e-2)
    x = torch.randn(2, 4, 7, 6, dtype=torch.float64)
    probe = torch.randn_like(conv(x))

    def soft(s):
        if kind is WeightMask:
            return (conv._conv_forward(x, conv.weight * s, conv.bias) * probe).sum()
        return (conv(x * s.view(1, -1, 1, 1)) * probe).sum()

    s = on.double()
    wanted = torch.zeros_like(s)
    for i in range(s.numel()):
        step = torch.zeros_like(s)
        step.view(-1)[i] = 1e-4
        wanted.view(-1)[i] = (soft(s + step) - soft(s - step)) / 2e-4
    (adapter(x) * probe).sum().backward()
    assert torch.allclose(adapter.mask.grad, wanted, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("shape", [(1,), (8,), (3, 3), (5, 2, 3, 3), (0,)])
def test_bits_are_packed_as_numpy_does(shape):
    on = torch.rand(shape) > 0.5
    assert np.array_equal(pack(on).numpy(), np.packbits(on.numpy().ravel(), bitorder="little"))
    assert torch.equal(unpack(pack(on), on.shape), on)
    last = on.to(memory_format=torch.channels_last) if on.ndim == 4 else on
    assert torch.equal(pack(last), pack(on))


@pytest.mark.parametrize("spec", ["piggyback", "piggyback(own_norm=False)", "ba2"])
@pytest.mark.parametrize("network", ["resnet26", "torchvision/resnet18", "timm/resnet50"])
def test_the_file_holds_the_mask_in_bits(spec, network):
    (method,) = select(spec)
    source = resnet26(3, 0.125) if network == "resnet26" else library_network(network, 3)
    shapes = shapes_of(source)
    placed = method.place(source.requires_grad_(False).eval(), 3)
    masks = masks_of(placed)
    with torch.no_grad():
        for mask in masks:
            mask.uniform_(0, 2 * THRESHOLD)
    before = [mask > THRESHOLD for mask in masks]
    stored = stored_tensors(placed, source)
    packed = [t for t in stored.values() if t.dtype == torch.uint8]
    assert sum(mask.numel() for mask in masks) == method.bits(shapes)
    assert sum(t.numel() for t in packed) == sum(-(-mask.numel() // 8) for mask in masks)
    assert sum(t.numel() for t in stored.values() if t.is_floating_point()) == (
        shapes.head(3)
        + (0 if "own_norm=False" in spec else 2 * shapes.affine)  # as many running statistics as affine values
    )
    fresh = method.place(source, 3)
    assert restore(fresh, source, stored) == ""
    for mask, on in zip(masks_of(fresh), before, strict=True):
        assert torch.equal(mask > THRESHOLD, on)


def test_no_decay_on_a_mask():
    """Decay would pull every mask below the threshold; batch norm and head keep the recipe's."""
    for spec in ("piggyback", "ba2"):
        (method,) = select(spec)
        network = method.place(resnet26(3, 0.125).requires_grad_(False).eval(), 3)
        rest, masks = method.groups(network, 5e-4, 100)
        assert (rest["weight_decay"], masks["weight_decay"]) == (5e-4, 0)
        assert set(map(id, masks["params"])) == set(map(id, masks_of(network)))


def test_piggyback_by_adam_is_the_releases():
    """Adam at 1e-4 where the recipe's rate is 0.1, without decay, on masks and head alone; batch norm stays frozen."""
    (method,) = select("piggyback(adam=True, own_norm=False)")
    source = resnet26(3, 0.125).requires_grad_(False).eval()
    network = method.place(source, 3).train()
    before = {name: t.clone() for name, t in source.state_dict().items()}
    optimiser = method.optimiser(method.groups(network, 5e-4, 100), 0.1, 0.9, True)
    for group in optimiser.param_groups:
        assert group["weight_decay"] == 0 and group["betas"] == (0.9, 0.999)
        group["lr"] = 0.1 * group["scale"]
        assert group["lr"] == pytest.approx(1e-4)
    trained = {name: p.detach().clone() for name, p in network.named_parameters() if p.requires_grad}
    assert {name.rpartition(".")[2] for name in trained if not name.startswith("head.")} == {"mask"}
    F.cross_entropy(network(torch.randn(6, 3, 16, 16)), torch.arange(6) % 3).backward()
    optimiser.step()
    for name, start in trained.items():  # the first step of Adam has the size of its rate
        p = network.get_parameter(name)
        moved = (p - start).abs()[p.grad.abs() > 1e-4]
        torch.testing.assert_close(moved, torch.full_like(moved, 1e-4), rtol=1e-2, atol=1e-6)
    assert all(torch.equal(t, before[name]) for name, t in source.state_dict().items())


@pytest.mark.parametrize("adam", [True, False])
def test_batch_norm_of_piggyback(adam):
    """Frozen whole as released, with the source's statistics in training; or the domain's own."""
    source = resnet26(3, 0.125).requires_grad_(False).eval()
    for own in (False, True):
        (method,) = select(f"piggyback(adam={adam}, own_norm={own})")
        norms = [m for m in method.place(source, 3).train().modules() if isinstance(m, nn.BatchNorm2d)]
        shared = {id(t) for t in source.state_dict(keep_vars=True).values()}
        assert len(norms) == 26
        for norm in norms:
            assert norm.training == norm.weight.requires_grad == own
            assert (id(norm.weight) in shared) == (id(norm.running_mean) in shared) == (not own)


def test_the_budget():
    """Cross-entropy + weight * max(0, mean - budget), which pushes every switch down equally."""
    (method,) = select("ba2(budget=0.5, weight=3.0)")
    network = method.place(resnet26(3, 0.125).requires_grad_(False).eval(), 3).eval()
    x, y = torch.randn(2, 3, 16, 16), torch.tensor([0, 2])
    plain = F.cross_entropy(network(x), y)
    loss, _ = method.loss(network, x, y, F.cross_entropy)
    assert loss.item() == pytest.approx(plain.item() + 3 * 0.5, rel=1e-6)
    masks = masks_of(network)
    count = sum(mask.numel() for mask in masks)
    assert count == method.bits(resnet26_shapes(0.125))
    with_budget, without = torch.autograd.grad(loss, masks), torch.autograd.grad(F.cross_entropy(network(x), y), masks)
    for a, b in zip(with_budget, without, strict=True):
        assert torch.allclose(a - b, torch.full_like(a, 3 / count), atol=1e-6)
    with torch.no_grad():
        for mask in masks:
            mask[: -(-len(mask) // 2) + 1] = 0
    assert mean_on(network) < 0.5
    plain = F.cross_entropy(network(x), y)
    assert torch.equal(method.loss(network, x, y, F.cross_entropy)[0], plain)


def test_the_budget_is_met():
    """Enough steps switch channels off until the mean reaches the budget, and no more."""
    (method,) = select("ba2(budget=0.6, weight=1.0)")
    torch.manual_seed(0)
    network = method.place(resnet26(3, 0.125).requires_grad_(False).eval(), 3).train()
    optimiser = torch.optim.SGD(masks_of(network), 0.5)
    x, y = torch.randn(6, 3, 16, 16), torch.arange(6) % 3
    for _ in range(40):
        optimiser.zero_grad()
        method.loss(network, x, y, F.cross_entropy)[0].backward()
        optimiser.step()
    assert 0.4 < mean_on(network) < 0.7


def test_a_switch_that_batch_norm_takes_out_is_not_placed():
    (method,) = select("ba2")
    convs = (ConvShape(4, 8, (3, 3), groups=4), ConvShape(1, 4, (3, 3)), ConvShape(4, 4, (3, 3), groups=2))
    assert [method.skip_reason(conv) != "" for conv in convs] == [True, False, False]
    assert method.bits(Shapes(convs, (), 4)) == 5
    with pytest.raises(InputError, match="each filter reads one channel alone"):
        method.check(Shapes(convs[:1], (), 4))


@pytest.mark.parametrize("spec", ["ba2(budget=0)", "ba2(budget=1.5)", "ba2(budget=-0.1)", "ba2(weight=-1)"])
def test_options_that_mean_nothing(spec):
    with pytest.raises(InputError, match=r"ba2\((budget|weight)="):
        select(spec)
