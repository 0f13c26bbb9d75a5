"""Tests of everything an entry promises, over the whole registry: a new entry is tested because it is listed."""

from functools import cache

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load, save
from torch import nn

from tests.entries import assert_count, assert_start, running_statistics
from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes
from visual_decathlon.benchmark.training.checkpoint import Checkpoint
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.layers.adapter import Adapter
from visual_decathlon.methods.layers.dora import DoraConv
from visual_decathlon.methods.layers.network import own_tensors, restore, stored_tensors
from visual_decathlon.methods.layers.packed import hold_stored
from visual_decathlon.methods.layers.series import SeriesConv, put_series
from visual_decathlon.methods.registry import entries, select

WIDTH, CLASSES, SIZE = 0.25, 5, 16
SHAPES = resnet26_shapes(WIDTH, SIZE)


def each(methods):
    return pytest.mark.parametrize("method", methods, ids=lambda method: method.name)


listed = [entry() for entry in entries()]
every = each([method for method in listed if not method.unsupported_reason("resnet26")])
refused = each([method for method in listed if method.unsupported_reason("resnet26")])


@cache
def _trained(structure: str):
    """A backbone whose statistics and affine values differ from those of a fresh one."""
    torch.manual_seed(0)
    network = resnet26(3, WIDTH)
    network = network.for_size(SIZE)
    if structure == "series":
        put_series(network)
    with torch.no_grad():
        for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.uniform_(-0.5, 0.5)
        for _ in range(5):
            network.train()(torch.randn(8, 3, SIZE, SIZE))
    return network.requires_grad_(False).eval()


@pytest.fixture
def source(method):
    """The shared network; no test may change a bit of it."""
    network = _trained(method.backbone_structure)
    before = {name: (id(t), t.clone()) for name, t in network.state_dict(keep_vars=True).items()}
    yield network
    after = network.state_dict(keep_vars=True)
    assert before.keys() == after.keys()
    for name, (identity, value) in before.items():
        assert id(after[name]) == identity and torch.equal(after[name], value), name
        assert not after[name].requires_grad, name
    assert not any(m.training for m in network.modules())


def placed(method, source, seed: int = 1):
    torch.manual_seed(seed)
    return method.place(source, CLASSES)


def batch(count: int = 8):
    generator = torch.Generator().manual_seed(3)
    x = 0.3 + 1.2 * torch.randn(count, 3, SIZE, SIZE, generator=generator)  # not the source's own statistics
    return x, torch.arange(count) % CLASSES


def steps(method, network, count: int = 3, lr: float = 0.02) -> dict[str, float]:
    """Takes SGD steps without decay; the largest gradient of every trained tensor, relative to the largest of all."""
    x, y = batch()
    trained = {n: p for n, p in network.named_parameters() if p.requires_grad}
    optimiser = torch.optim.SGD(trained.values(), lr, momentum=0.9)
    largest = dict.fromkeys(trained, 0.0)
    network.train()
    for _ in range(count):
        optimiser.zero_grad()
        loss, logits = method.loss(network, x, y, F.cross_entropy)
        assert logits.shape == (len(x), CLASSES) and loss.shape == ()
        loss.backward()
        for name, p in trained.items():
            assert p.grad is not None, f"{name} is declared trained and is not in the loss"
            largest[name] = max(largest[name], float(p.grad.abs().max()))
        optimiser.step()
    return {name: value / max(largest.values()) for name, value in largest.items()}


@every
def test_start(method, source):
    x, _ = batch(4)
    with torch.no_grad():
        wanted = source.body(x)
        assert_start(method, placed(method, source).eval().body(x), wanted)


@every
def test_storage_is_the_sources_where_it_is_not_own(method, source):
    network = placed(method, source)
    shared = {t.data_ptr() for t in source.state_dict().values()}
    tensors = network.state_dict(keep_vars=True)
    own = own_tensors(network, source)
    for name, t in tensors.items():
        assert (t.data_ptr() in shared) == (name not in own), name
    pointers = [t.data_ptr() for t in own.values()]
    assert len(set(pointers)) == len(pointers)
    trained = {name for name, p in network.named_parameters() if p.requires_grad}
    assert trained <= own.keys()
    assert {name for name in own if name not in trained} <= dict(network.named_buffers()).keys()


@every
def test_count_is_the_closed_form(method, source):
    network = placed(method, source)
    steps(method, network, 1)
    assert_count(method, network, source, SHAPES, CLASSES)


@every
def test_every_trained_tensor_learns_and_nothing_else_moves(method, source):
    network = placed(method, source)
    before = {name: t.detach().clone() for name, t in network.state_dict().items()}
    gradients = steps(method, network)
    # A series adapter adds A (BN(y)) and the domain's norm follows: the inner shift becomes one constant
    # a channel there, which a norm in training mode cancels. Its gradient is only rounding.
    cancelled = {f"{n}.norm.bias" for n, m in network.named_modules() if isinstance(m, SeriesConv)}
    # DoRA's magnitude is a filter's length, which that norm cancels except for its eps: a step is below its last bit.
    suppressed = {f"{n}.magnitude" for n, m in network.named_modules() if isinstance(m, DoraConv)}
    for name, gradient in gradients.items():
        if name in cancelled:
            assert gradient < 1e-5, f"{name} should cancel"
        elif name in suppressed:
            assert 1e-9 < gradient < 1e-3, f"{name} should be suppressed"
        else:
            assert gradient > 1e-9, f"{name} has no gradient above rounding"
            assert not torch.equal(network.get_parameter(name), before[name]), name
    running, trained = running_statistics(network), {id(network.get_parameter(name)) for name in gradients}
    assert running <= own_tensors(network, source).keys()
    for name, t in network.state_dict(keep_vars=True).items():
        if name in running:
            assert not torch.equal(t, before[name]), f"{name} did not move"
        elif id(t) not in trained:
            assert torch.equal(t, before[name]), f"{name} moved"


@every
def test_what_compiles_calls_the_body_as_a_whole(method, source):
    network, called = placed(method, source).train(), []
    network.body.register_forward_hook(lambda *_: called.append(1))
    method.loss(network, *batch(4), F.cross_entropy)
    assert called or not method.compiles


@every
def test_training_lowers_the_loss(method, source):
    network = placed(method, source)
    x, y = batch()
    passing = own_tensors(network, source).keys() - network.state_dict().keys()  # the counter of the noise
    start = {name: network.get_buffer(name).clone() for name in passing}

    def loss() -> float:
        with torch.no_grad():
            for name, t in start.items():
                network.get_buffer(name).copy_(t)
            return float(method.loss(network.train(), x, y, F.cross_entropy)[0])

    first = loss()
    steps(method, network, 4, lr=1e-3)
    assert loss() < first


@every
def test_saved_and_loaded_to_the_bit(method, source):
    """A fresh network with the file's tensors equals the trained one, which then uses its stored tensors."""
    network, fresh = placed(method, source), placed(method, source, seed=2)
    steps(method, network, 2)
    x, _ = batch(4)
    with torch.no_grad():
        exact = network.eval()(x)
        file = save({name: t.contiguous() for name, t in stored_tensors(network, source).items()})
        assert restore(network, source, load(file)) == ""
        wanted = network(x)
        assert not torch.equal(fresh.eval()(x), wanted)
        assert restore(fresh, source, load(file)) == ""
        assert torch.equal(fresh(x), wanted)
    packed = {n: m.stored() for n, m in network.named_modules() if isinstance(m, Adapter) and m.stored() is not None}
    if all(t.dtype == torch.uint8 for tensors in packed.values() for t in tensors.values()):  # no factors cut off
        assert torch.equal(wanted, exact)
    held = stored_tensors(fresh, source)
    for name, t in load(file).items():
        if not name.startswith(tuple(f"{path}." for path in packed)):
            assert torch.equal(held[name], t), name
    hold_stored(fresh, load(file))
    with torch.no_grad():
        assert torch.equal(fresh(x), wanted)


@every
def test_a_network_of_single_filters(method):
    """Of one channel a tensor may have any stride and be its own view; entries that are too wide for it say so."""
    torch.manual_seed(0)
    narrow = resnet26(3, 1 / 32).for_size(SIZE)
    if method.backbone_structure == "series":
        put_series(narrow)
    narrow.requires_grad_(False).eval().to(memory_format=torch.channels_last)  # as a run on this processor may have it
    try:
        network, fresh = placed(method, narrow), placed(method, narrow, seed=2)
    except InputError:
        with pytest.raises(InputError, match=f"^{method.name}"):
            method.check(resnet26_shapes(1 / 32, SIZE))
        return
    steps(method, network, 1)
    stored = {name: t.clone() for name, t in stored_tensors(network, narrow).items()}
    assert restore(network, narrow, stored_tensors(network, narrow)) == restore(fresh, narrow, stored) == ""
    with torch.no_grad():
        assert torch.equal(network.eval()(batch(4)[0]), fresh.eval()(batch(4)[0]))


@every
def test_a_file_that_does_not_fit_changes_nothing(method, source):
    network = placed(method, source)
    tensors = stored_tensors(network, source)
    before = {name: t.clone() for name, t in tensors.items()}
    name = next(iter(tensors))
    lacking = {n: t + 1 for n, t in tensors.items() if n != name}
    assert name in restore(network, source, lacking)
    assert "unknown" in restore(network, source, {n: t + 1 for n, t in tensors.items()} | {"unknown": torch.ones(1)})
    assert name in restore(network, source, lacking | {name: torch.ones(7, 7, 7)})
    for name, t in stored_tensors(network, source).items():
        assert torch.equal(t, before[name]), name


@every
def test_resumed_to_the_bit(method, source, tmp_path):
    """Two steps, a checkpoint and two steps in another network equal four steps, with the method's own optimiser."""
    x, y = batch()

    def ready(seed):
        network = placed(method, source, seed).train()
        trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
        groups = method.groups(network, 5e-4, 1000)
        assert sorted(id(p) for group in groups for p in group["params"]) == sorted(map(id, trained.values()))
        optimiser = method.optimiser(groups, 0.01, 0.9, True)
        return network, optimiser, Checkpoint(tmp_path / "c", own_tensors(network, source), trained, optimiser)

    def go(network, optimiser, first, last):
        for step in range(first, last + 1):
            for group in optimiser.param_groups:
                group["lr"] = 0.01 * group.get("scale", 1.0)
            loss, _ = method.loss(network, x, y, F.cross_entropy)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            method.after_step(network, step, 4)

    whole, optimiser, checkpoint = ready(1)
    go(whole, optimiser, 1, 2)
    checkpoint.save([])
    go(whole, optimiser, 3, 4)
    broken, optimiser, checkpoint = ready(2)
    checkpoint.load()
    go(broken, optimiser, 3, 4)
    resumed = own_tensors(broken, source)
    for name, t in own_tensors(whole, source).items():
        assert t.isfinite().all() and torch.equal(resumed[name], t), name


@every
def test_two_domains_do_not_meet(method, source):
    """Training one domain's network does not change another's logits on the same backbone."""
    first, second = placed(method, source, 1), placed(method, source, 2)
    x, _ = batch(4)
    with torch.no_grad():
        before = first.eval()(x)
    steps(method, second, 2)
    with torch.no_grad():
        assert torch.equal(first.eval()(x), before)


@refused
def test_a_refused_entry_says_why(method):
    """The message is one sentence that names the backbone; nothing is placed."""
    sentence = method.unsupported_reason("resnet26")
    assert method.name in sentence and "resnet26" in sentence and "\n" not in sentence
    with pytest.raises(InputError, match=method.name):
        method.place(_trained(method.backbone_structure), CLASSES)


@each(listed)
def test_an_entry_says_what_it_is(method):
    assert method.label and method.family and method.paper and type(method).__doc__
    assert method.fidelity in ("reproduction", "adaptation", "ours")
    assert method.backbone_structure in ("plain", "series") and isinstance(method.mergeable, bool)
    assert method.lr > 0 and method.cached_views >= 0


PRINTED = {
    "feature": "1.00",
    "bn_adapt": "1.01",
    "par_adapter": "2.01",
    "res_adapter": "2.09",
    "finetune": "10.00",
    "scratch": "10.00",
    "scratch_plus": "11.08",
    "lwf": "10.00",
    "piggyback": "1.29",
    "piggyback(own_norm=False)": "1.28",
    "ba2": "1.01",
    "dan": "2.08",
    "bitfit": "1.01",
    "ssf": "1.01",
    "ia3": "1.01",
    "lora(rank=4)": "1.22",
    "lora": "1.43",
    "lora(rank=16)": "1.85",
    "lora_tucker(rank=4)": "1.06",
    "lora_tucker": "1.12",
    "lora_tucker(rank=16)": "1.27",
    "dora": "1.44",
    "loha": "1.43",
    "hra": "1.39",
    "oft": "1.74",
    "oft(side='left')": "1.10",
    "rep_adapter(bias=True)": "1.08",
    "snell": "2.69",
    "par_adapter_svd(rank=48)": "1.50",
    "spottune": "11.82",
}


def test_multipliers_of_the_paper():
    """#par. at width 1 without heads: 1 + 9 · own / 5,814,688, to the digits that the paper prints."""
    shapes = resnet26_shapes()
    for spec, printed in PRINTED.items():
        (method,) = select(spec)
        assert f"{method.multiplier(shapes):.2f}" == printed, spec
    own = {"bn_adapt": 7_744, "par_adapter": 652_960, "res_adapter": 704_128, "finetune": 5_814_688}
    for spec, floats in own.items():
        assert select(spec)[0].multiplier(shapes) == pytest.approx(1 + 9 * floats / 5_814_688, rel=1e-12)


def test_the_other_starts():
    """`he`, and zero on a series backbone, are `other`; zero adapters put on a plain backbone are the identity."""
    x, _ = batch(4)
    for spec in (
        "par_adapter(init='he')",
        "res_adapter(init='he')",
        "res_adapter(init='zero')",
        "res_adapter(init='he', off_the_shelf=True)",
        "res_adapter(init='zero', off_the_shelf=True)",
    ):
        (method,) = select(spec)
        source = _trained(method.backbone_structure)
        with torch.no_grad():
            wanted = source.body(x)
            off = float((placed(method, source).eval().body(x) - wanted).abs().max() / wanted.abs().max())
        assert (off <= 1e-5) == (method.start == "identity"), spec
        assert sum(p.numel() for p in placed(method, source).parameters() if p.requires_grad) == (
            method.floats(SHAPES) + SHAPES.head(CLASSES)
        )
