"""The static step, which a GPU replays as a CUDA graph, gives the eager step's bits and reads nothing on the host."""

from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

import visual_decathlon.datasets.batches as batching
from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.backbones.safetensors_file import read_safetensors
from visual_decathlon.benchmark.config.profiles import Recipe
from visual_decathlon.benchmark.runs.joint import DomainLabelledBatches, InterleavedBatches
from visual_decathlon.benchmark.training.features import FeatureBatches
from visual_decathlon.benchmark.training.graph import WARM_UP, Replays
from visual_decathlon.benchmark.training.scaling import Scaling
from visual_decathlon.benchmark.training.schedule import learning_rate
from visual_decathlon.benchmark.training.step import Static, Step, prepare_momentum, takes_tensors
from visual_decathlon.benchmark.training.train import train
from visual_decathlon.datasets.batches import Batches, whole_pack
from visual_decathlon.datasets.catalogue import DOMAINS
from visual_decathlon.datasets.static_batches import BatchShape
from visual_decathlon.methods.layers.covnorm import covnorm_convs
from visual_decathlon.methods.layers.network import own_tensors
from visual_decathlon.methods.layers.series import put_series
from visual_decathlon.methods.layers.sgd import SGD
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import entries, select

RECIPE = Recipe(epochs=3, batch=8, weight_decay=5e-4, schedule="one-cycle", nesterov=True, follows="ours")
CROP, WIDTH, CLASSES = 16, 0.125, 3


class Drawn:
    """Replaces a Pack: random images of 18 to 22 pixels."""

    def __init__(self, images: int = 27, seed: int = 0):
        rng = np.random.default_rng(seed)
        self.ids, self.labels = np.arange(images), rng.integers(CLASSES, size=images)
        self.sizes = rng.integers(18, 23, size=(images, 2))
        self._pixels = [rng.integers(256, size=(*size, 3), dtype=np.uint8) for size in self.sizes]

    def __len__(self) -> int:
        return len(self.ids)

    def images(self, index: np.ndarray):
        return (self._pixels[i] for i in index.tolist())


@pytest.fixture(params=["on the device", "on the host"])
def make(request, monkeypatch) -> Callable[..., Batches]:
    """`make(domain)`: 27 images in batches of 7 and 6, or of 9; their pixels are on the device, or do not fit there."""
    monkeypatch.setattr(batching, "_room", lambda device: 2**30 if request.param == "on the device" else -1)

    def made(domain: str = "dtd", batch: int = 7, seed: int = 0) -> Batches:
        return Batches([whole_pack(Drawn(seed=seed))], DOMAINS[domain], CROP, batch)

    return made


def source(method) -> torch.nn.Module:
    torch.manual_seed(0)
    network = resnet26(CLASSES, WIDTH * method.width_multiplier)
    if method.backbone_structure == "series":
        put_series(network)
    network = network.for_size(CROP)
    network.to(memory_format=torch.channels_last)
    with torch.no_grad():
        network.train()(torch.randn(8, 3, CROP, CROP))
    return network.requires_grad_(False).eval()


def trained(spec: str, batches, folder, recipe: Recipe = RECIPE, **how):
    """(history without times, what was trained, the optimiser's state) of a training with the method."""
    (method,) = select(spec)
    base = source(method)
    torch.manual_seed(1)
    network = method.place(base, CLASSES)
    own = own_tensors(network, base)
    if method.cached_views:
        frozen, network_part = method.split(network)
        batches = FeatureBatches(frozen, batches, method.cached_views, 1)
        batches.x = method.fit(network, batches.x, batches.y)
        network = network_part
    checkpoint = folder / f"{len(list(folder.iterdir()))}.safetensors"
    history, clock = train(network, method, batches, recipe, lr=0.05, seed=5, state=own, checkpoint=checkpoint, **how)
    kept, _ = read_safetensors(checkpoint)
    return [(row["loss"], row["train_top1"]) for row in history], kept, history, clock


SPECS = ["par_adapter", "res_adapter", "finetune", "feature", "partial(views=2)", "par_adapter_svd(rank=2, every=2)"]
SPECS += ["adalora(rank=2, target=1, interval=2)", "lwf", "piggyback", "piggyback(adam=True)", "side"]


@pytest.mark.parametrize("spec", SPECS)
def test_a_static_step_is_the_eager_one(spec, make, tmp_path):
    """Rates, order, crops, hooks, momentum: a checkpoint is the same to the bit, with batches of two sizes."""
    losses, eager, *_ = trained(spec, make(), tmp_path, graphs=False)
    again, static, _, clock = trained(spec, make(), tmp_path, graphs=True)
    assert losses == again
    assert eager.keys() == static.keys()
    for name, tensor in eager.items():
        assert torch.equal(tensor, static[name]), name
    assert clock.facts["step"] == "eager" and clock.facts["first_step_seconds"] > 0


def test_steps_over_all_domains_are_static_too(make):
    """With interleaved and labelled batches, `static` takes the batches that `train` yields."""
    domains = {"dtd": make("dtd", 7, 1), "svhn": make("svhn", 9, 2)}
    for batches in (InterleavedBatches(domains), DomainLabelledBatches(domains)):
        static = batches.static()
        for epoch in (0, 1):
            shown = []
            for shape in static.epoch(3, epoch):
                x, y = static.take(shape)
                shown.append((x[0], x[1].clone(), y.clone()) if isinstance(x, tuple) else (None, x.clone(), y.clone()))
                assert shape.images == len(y)
            wanted = list(batches.train(3, epoch))
            assert len(shown) == len(wanted) == batches.steps
            for (name, x, y), (given, labels) in zip(shown, wanted, strict=True):
                assert (name, given[1]) if isinstance(given, tuple) else True
                x_wanted = given[1] if isinstance(given, tuple) else given
                assert name == (given[0] if isinstance(given, tuple) else None)
                assert torch.equal(x, x_wanted) and torch.equal(y, labels)
                assert x.stride() == x_wanted.stride()


# --- what a capture needs ---------------------------------------------------------------------------------------


def unread(spec: str) -> None:
    """Runs one static step on tensors without values; raises where the host reads one."""
    (method,) = select(spec)
    base = source(method)
    network = method.build_joint(base, {"dtd": 3, "svhn": 2}) if method.has_joint_stage else method.place(base, CLASSES)
    x, y = torch.zeros(8, 3, CROP, CROP), torch.zeros(8, dtype=torch.int64)
    if method.cached_views:
        frozen, network = method.split(network)
        x = frozen.eval()(x)
        x = torch.zeros(8, base.head.in_features) if x.dim() == 2 else x
    if method.has_joint_stage and not method.trains_per_domain:
        x = "svhn", x

    class Given:
        """Batches that are always the same."""

        def take(self, shape):
            return x, y

    optimiser = Method.optimiser(method, method.groups(network.train(), 1e-4, 1000), 0.1, 0.9, True)  # a GPU's
    prepare_momentum(optimiser)
    device = torch.device("cpu")
    step = Step(network, method, optimiser, F.cross_entropy, device, nullcontext, None)
    static = Static(step, Given(), device, capture=False)
    static._rates, static._at = torch.zeros(1, len(optimiser.param_groups)), torch.zeros(1, dtype=torch.int64)
    with FakeTensorMode(allow_non_fake_inputs=True):
        static._once(BatchShape(8))


ABLE = [m.name for m in entries() if not m().unsupported_reason("resnet26")]
QUICK = {"res_adapter", "finetune", "lora", "adalora", "randlora", "spottune", "taps", "signs"}


@pytest.mark.parametrize("spec", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in ABLE])
def test_a_method_marked_as_captured_can_be_captured(spec):
    """The other methods draw on the host within the step, which tensors without values do not allow."""
    (method,) = select(spec)
    if method.captured:
        unread(spec)
    else:
        with pytest.raises((DataDependentOutputException, AssertionError)):
            unread(spec)


def test_a_capture_comes_after_a_warm_up_and_is_then_replayed(monkeypatch):
    """Each shape has its graph; the graphs share one pool and are captured on the current stream."""
    done, made = [], []

    class Graph:
        """Records its replays."""

        def __init__(self):
            made.append(self)

        def replay(self):
            done.append(("replay", made.index(self)))

    @contextmanager
    def capture(graph, pool, stream):
        assert (pool, stream) == ("pool", "mine")
        done.append(("capture", made.index(graph)))
        yield

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", capture)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "pool")
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: "mine")
    replays = Replays(pytest.fail)
    for _ in range(WARM_UP + 2):
        replays(done.append, "large", pytest.fail)
    assert done == ["large"] * WARM_UP + [("capture", 0), "large", ("replay", 0), ("replay", 0)]
    done.clear()
    for shape in ["small"] * (WARM_UP + 1) + ["large", "small"]:
        replays(done.append, shape, pytest.fail)
    assert done == ["small"] * WARM_UP + [("capture", 1), "small", ("replay", 1), ("replay", 0), ("replay", 1)]
    assert replays.able


def test_a_failed_capture_is_reported_once_and_the_step_runs_without(monkeypatch):
    done, reasons = [], []

    @contextmanager
    def capture(graph, pool, stream):
        yield
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    for name, fake in {"CUDAGraph": object, "graph": capture, "graph_pool_handle": int, "current_stream": int}.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    replays = Replays(reasons.append)
    for shape in ["a", "b"] * (WARM_UP + 2):
        replays(done.append, shape, lambda: done.append("recovered"))
    assert reasons == ["operation not permitted when stream is capturing"] and not replays.able
    assert done == ["a", "b"] * WARM_UP + ["a", "recovered", "a", "b"] + [
        "a",
        "b",
    ]  # the capture of "a" runs nothing


def test_an_optimiser_that_reads_its_rate_on_the_host_stays_eager(make, tmp_path, monkeypatch):
    """Its rates stay floats: a float32 tensor would be another rate where it is used in double precision."""
    rates = []

    class Plain(torch.optim.SGD):
        """Records its learning rates."""

        def step(self, closure=None):
            rates.append(self.param_groups[0]["lr"])
            return super().step(closure)

    monkeypatch.setattr(
        Method, "optimiser", lambda self, groups, lr, momentum, nesterov: Plain(groups, lr, momentum, foreach=True)
    )
    *_, clock = trained("bn_adapt", make(), tmp_path, graphs=True)
    assert clock.facts["step"] == "eager" and {type(rate) for rate in rates} == {float}
    assert takes_tensors(torch.optim.SGD([torch.zeros(1)], fused=True))
    assert not takes_tensors(torch.optim.SGD([torch.zeros(1)]))


# --- fp16 -------------------------------------------------------------------------------------------------------


def overflowing(optimiser, scaling: Scaling, p: torch.Tensor, slope: float) -> None:
    optimiser.zero_grad(set_to_none=True)
    scaling.step((p * slope).sum(), optimiser)


def test_a_step_that_overflows_is_skipped_and_counted():
    """Momentum and weights are unchanged, also at the first step; the scale is halved, and can be restored."""
    p = torch.nn.Parameter(torch.ones(1000))
    junk = [torch.full((1000,), float("nan")) for _ in range(20)]
    del junk  # values that unset memory may have
    optimiser = torch.optim.SGD([p], 0.5, 0.9, fused=True)
    prepare_momentum(optimiser)
    scaling = Scaling(torch.device("cpu"))
    before = scaling.state()["scale"]
    overflowing(optimiser, scaling, p, 1e38)
    assert scaling.skipped() == 1 and torch.equal(p, torch.ones(1000))
    assert scaling.state()["scale"] == before / 2
    overflowing(optimiser, scaling, p, 1.0)
    assert scaling.skipped() == 1 and torch.allclose(p, torch.full((1000,), 0.5))
    assert torch.allclose(p.grad, torch.ones(1000)), "after_step gets gradients without the scale"
    other = Scaling(torch.device("cpu"))
    other.load(scaling.state())
    assert other.state() == scaling.state() and other.skipped() == 0
    scaling.begin()
    assert scaling.skipped() == 0


def test_an_interrupted_step_leaves_the_scale_unchanged():
    """As after a capture that fails within the optimiser's step: the next step works."""
    p = torch.nn.Parameter(torch.ones(4))
    optimiser, scaling = torch.optim.SGD([p], 0.5, 0.9, fused=True), Scaling(torch.device("cpu"))
    prepare_momentum(optimiser)
    before, step = scaling.state(), optimiser.step
    optimiser.step = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        overflowing(optimiser, scaling, p, 1.0)
    optimiser.step = step
    scaling.recover(optimiser)
    assert scaling.state() == before and not {"grad_scale", "found_inf"} & vars(optimiser).keys()
    overflowing(optimiser, scaling, p, 1.0)
    assert torch.equal(p, torch.full((4,), 0.5)) and scaling.skipped() == 0


def test_rates_are_those_of_float32_where_a_captured_step_has_them(make, tmp_path, monkeypatch):
    """CUDA's fused SGD computes in double precision where the rate is a plain number."""
    seen, step = [], SGD.step
    monkeypatch.setattr(SGD, "step", lambda self: seen.append(float(self.param_groups[0]["lr"])) or step(self))
    trained("bn_adapt", make(), tmp_path, graphs=False)
    rates = [learning_rate(RECIPE, 0.05, i, 3 * make().steps) for i in range(3 * make().steps)]
    assert seen == [float(np.float32(rate)) for rate in rates] != rates


@pytest.mark.parametrize("spec", ["par_adapter", "adalora(rank=2, target=1, interval=2)"])
def test_fp16_trains_and_a_resumed_run_ends_in_the_same_bits(spec, make, tmp_path, monkeypatch):
    """The scale is a part of a run's state: here it doubles after two good steps, and some steps are skipped."""
    scaler = torch.amp.GradScaler
    monkeypatch.setattr(torch.amp, "GradScaler", lambda device: scaler(device, 2.0**24, growth_interval=2))
    losses, whole, history, clock = trained(spec, make(), tmp_path, precision="fp16")
    skipped = [row["skipped"] for row in history]
    assert 0 < clock.facts["skipped_steps"] == sum(skipped) < 3 * make().steps
    assert all(tensor.dtype in (torch.float32, torch.int64) for tensor in whole.values())
    _, _, single, _ = trained(spec, make(), tmp_path)
    assert single[0]["loss"] == pytest.approx(history[0]["loss"], rel=0.1)

    class Stop(Exception):
        """Ends the training."""

    def stop(row):
        raise Stop

    folder = tmp_path / "broken"
    folder.mkdir()
    with pytest.raises(Stop):
        trained(spec, make(), folder, precision="fp16", report=stop)
    (folder / "0.safetensors").rename(folder / "1.safetensors")
    again, resumed, rows, clock = trained(spec, make(), folder, precision="fp16")
    assert again == losses and [row["skipped"] for row in rows] == skipped
    assert clock.facts["skipped_steps"] == sum(skipped)
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())


@pytest.mark.parametrize("graphs", [False, True], ids=["eager", "static"])
def test_momentum_starts_anew_where_coordinates_change(graphs, make, tmp_path, monkeypatch):
    """CovNorm's mini-adapters after their reduction, and nothing else: their momentum is the next step's gradient."""
    (method,) = select("covnorm")
    batches, base = make(), source(method)
    network = method.place(base, CLASSES)
    kept, made, reduced = {}, [], type(method).after_step

    def optimiser(self, *args):
        made.append(Method.optimiser(self, *args))
        return made[0]

    def after_step(self, network, step, steps):
        state = {p: made[0].state[p]["momentum_buffer"].clone() for p in network.parameters() if p.requires_grad}
        kept[step] = {id(p): torch.equal(momentum, p.grad) for p, momentum in state.items()}
        return reduced(self, network, step, steps)

    monkeypatch.setattr(type(method), "optimiser", optimiser)
    monkeypatch.setattr(type(method), "after_step", after_step)
    recipe, own = replace(RECIPE, weight_decay=0.0), own_tensors(network, base)
    how = {"lr": 0.05, "seed": 5, "state": own, "checkpoint": tmp_path / "c", "graphs": graphs}
    train(network, method, batches, recipe, **how)
    convs, steps = covnorm_convs(network), 3 * batches.steps
    minis = {id(conv.mini) for conv in convs}
    assert all(conv.is_reduced for conv in convs) and len(kept) == steps
    for step, fresh in kept.items():
        anew = set(fresh) if step == 1 else minis if step == steps // 2 + 1 else set()
        assert {key for key, equal in fresh.items() if equal} == anew, step
