"""The training loop: against a plain loop, after an interruption, with the rates of the recipes."""

import shutil
from dataclasses import replace
from math import cos, pi

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

import visual_decathlon.benchmark.training.features
from visual_decathlon.benchmark.backbones.library import library_network
from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.config.profiles import PROFILES, Recipe
from visual_decathlon.benchmark.training.compile import compiled
from visual_decathlon.benchmark.training.evaluate import evaluate
from visual_decathlon.benchmark.training.features import FeatureBatches
from visual_decathlon.benchmark.training.schedule import learning_rate
from visual_decathlon.benchmark.training.train import train
from visual_decathlon.datasets.annotations import read_split
from visual_decathlon.datasets.batches import Batches, whole_pack
from visual_decathlon.datasets.catalogue import DOMAINS
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.datasets.pack import pack
from visual_decathlon.methods.layers.network import own_tensors
from visual_decathlon.methods.layers.series import put_series
from visual_decathlon.methods.registry import select

RECIPE = Recipe(epochs=3, batch=8, weight_decay=5e-4, schedule="one-cycle", nesterov=True, follows="ours")
WIDTH, CROP = 0.05, 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("packs")


@pytest.fixture
def batches(folder):
    """Twenty-four noisy images of three colours, crops of 16 from 18 pixels."""
    from PIL import Image

    from visual_decathlon.datasets.annotations import write_annotations

    root = folder / "release"
    if not root.is_dir():
        rng = np.random.default_rng(0)
        rows = []
        for i in range(24):
            pixels = rng.integers(0, 160, (18, 20, 3))
            pixels[..., i % 3] += 60
            file = f"data/dtd/train/{i:06}.png"
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(root / file)
            rows.append((file, 20, 18, i % 3))
        write_annotations(root, DOMAINS["dtd"], "train", rows, ["r", "g", "b"], "tiny", 1)
    split = read_split(root, DOMAINS["dtd"], "train")
    return Batches([whole_pack(pack(split, folder / "cache", 18))], DOMAINS["dtd"], CROP, 8)


def placed(spec: str, seed: int = 1):
    (method,) = select(spec)
    torch.manual_seed(0)
    source = resnet26(3, WIDTH)
    if method.backbone_structure == "series":
        put_series(source)
    with torch.no_grad():
        for _ in range(5):
            source.train()(torch.randn(8, 3, CROP, CROP))
    source.requires_grad_(False).eval()
    torch.manual_seed(seed)
    network = method.place(source, 3).to(memory_format=torch.channels_last)
    return method, network, own_tensors(network, source)


def run(spec, batches, checkpoint, recipe=RECIPE, lr=0.05, **how):
    method, network, own = placed(spec)
    history, clock = train(network, method, batches, recipe, lr=lr, seed=5, state=own, checkpoint=checkpoint, **how)
    return network, own, history, clock


# --- rates ------------------------------------------------------------------------------------------------------


def test_one_cycle():
    recipe = replace(RECIPE, warmup_fraction=0.25)
    rate = [learning_rate(recipe, 0.4, step, 1000) for step in range(1000)]
    assert rate[0] == 0.4 / 25
    assert rate[250] == 0.4 == max(rate)
    assert rate[125] == pytest.approx((0.4 / 25 + 0.4) / 2, rel=1e-12)  # half-way up the cosine
    assert rate[625] == pytest.approx(0.2, rel=1e-12)
    assert rate[-1] == pytest.approx(0.4 * (1 + cos(pi * 749 / 750)) / 2, rel=1e-12) and 0 < rate[-1] < 1e-5
    assert rate[:251] == sorted(rate[:251]) and rate[250:] == sorted(rate[250:], reverse=True)
    assert learning_rate(replace(recipe, warmup_fraction=0.0), 0.4, 0, 1000) == 0.4


@pytest.mark.parametrize("steps", [1, 3, 7, 15, 26, 37, 313, 9626])
def test_the_papers_steps(steps):
    """The rate falls at the first step of epochs 80 and 100 (from 0) of 120, however many steps an epoch has."""
    recipe = PROFILES["decathlon"].adapt
    assert recipe.epochs == 120 and recipe.paper_lr == 0.1
    total = recipe.epochs * steps

    def rate(step):
        return learning_rate(recipe, 0.1, step, total)

    assert rate(0) == rate(80 * steps - 1) == 0.1
    assert rate(80 * steps) == rate(100 * steps - 1) == 0.01
    assert rate(100 * steps) == rate(total - 1) == 0.001


# --- the loop ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("spec", "factor"), [("par_adapter", 1.0), ("finetune", 1.0), ("par_adapter", 100.0)])
def test_against_a_plain_loop(spec, factor, batches, tmp_path):
    """Momentum, decay, rates, order and trained parameters equal those of SGD written out."""
    recipe = replace(RECIPE, label_smoothing=0.1, norm_head_decay=factor)
    network, _, history, _ = run(spec, batches, tmp_path / "c", recipe)
    _, plain, _ = placed(spec)
    trained = [p for p in plain.parameters() if p.requires_grad]
    decays = [5e-4 if p.dim() == 4 else 5e-4 * factor for p in trained]
    buffers = [torch.zeros_like(p) for p in trained]
    plain.train()
    for epoch in range(3):
        total = right = 0
        for i, (x, y) in enumerate(batches.train(5, epoch)):
            logits = plain(x)
            loss = F.cross_entropy(logits, y, label_smoothing=0.1)
            gradients = torch.autograd.grad(loss, trained)
            with torch.no_grad():
                for p, gradient, buffer, decay in zip(trained, gradients, buffers, decays, strict=True):
                    gradient = gradient + decay * p
                    buffer.mul_(0.9).add_(gradient)
                    p -= learning_rate(recipe, 0.05, 3 * epoch + i, 9) * (gradient + 0.9 * buffer)
            total, right = total + loss.item() * len(y), right + int((logits.argmax(1) == y).sum())
        assert history[epoch]["loss"] == pytest.approx(total / 24, rel=1e-4)
        assert history[epoch]["train_top1"] == pytest.approx(100 * right / 24)
        assert history[epoch]["epoch"] == epoch + 1 and history[epoch]["seconds"] > 0
    assert len(history) == 3
    wanted = plain.state_dict()
    for name, t in network.state_dict().items():
        assert torch.allclose(t, wanted[name], rtol=1e-3, atol=1e-5), name


class Stop(Exception):
    """Ends the training."""


@pytest.mark.parametrize("spec", ["par_adapter", "res_adapter", "finetune", "feature"])
@pytest.mark.parametrize("after", [1, 2])
def test_resumed_is_unbroken(spec, after, batches, tmp_path):
    """Stopped after an epoch and resumed from the file in a fresh network, it gives the same bits."""
    _, unbroken, wanted, _ = run(spec, batches, tmp_path / "unbroken")

    def stop(row):
        if row["epoch"] == after:
            raise Stop

    with pytest.raises(Stop):
        run(spec, batches, tmp_path / "c", report=stop)
    method, network, own = placed(spec, seed=99)  # another start, which the file replaces
    seen = []
    history, _ = train(
        network, method, batches, RECIPE, lr=0.05, seed=5, state=own, checkpoint=tmp_path / "c", report=seen.append
    )
    assert [row["epoch"] for row in seen] == list(range(after + 1, 4))
    assert [(r["loss"], r["train_top1"]) for r in history] == [(r["loss"], r["train_top1"]) for r in wanted]
    assert own.keys() == unbroken.keys()
    for name, t in own.items():
        assert torch.equal(t, unbroken[name]), name
    done, _ = train(network, method, batches, RECIPE, lr=0.05, seed=5, state=own, checkpoint=tmp_path / "c")
    assert len(done) == 3  # nothing remains to be done


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_other_momenta(momentum, batches, tmp_path):
    recipe = replace(RECIPE, momentum=momentum, epochs=2)
    _, wanted, _, _ = run("bn_adapt", batches, tmp_path / "unbroken", recipe)

    def stop(row):
        raise Stop

    with pytest.raises(Stop):
        run("bn_adapt", batches, tmp_path / "c", recipe, report=stop)
    _, own, _, _ = run("bn_adapt", batches, tmp_path / "c", recipe)
    assert all(torch.equal(t, wanted[name]) for name, t in own.items())


def test_nan_is_one_sentence_and_not_saved(batches, tmp_path, monkeypatch):
    method, network, own = placed("bn_adapt")
    real = type(method).loss

    def loss(self, network, x, y, criterion):
        value, logits = real(self, network, x, y, criterion)
        calls.append(1)
        return value * (float("nan") if len(calls) == 5 else 1), logits

    calls = []
    monkeypatch.setattr(type(method), "loss", loss)
    with pytest.raises(InputError, match=r"loss became nan in epoch 2.*settings=lr=0\.0125"):
        train(network, method, batches, RECIPE, lr=0.05, seed=5, state=own, checkpoint=tmp_path / "c")
    saved = load_file(tmp_path / "c")  # the first epoch
    assert all(t.isfinite().all() for t in saved.values())
    with pytest.raises(InputError, match="loss became"):
        run("finetune", batches, tmp_path / "d", lr=1e20)


def test_an_unfinished_file_is_whole_or_not_there(batches, tmp_path):
    run("bn_adapt", batches, tmp_path / "deep" / "c")
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["c"]
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        run("bn_adapt", batches, tmp_path / "file" / "c")


def test_bf16(batches, tmp_path):
    network, own, history, _ = run("par_adapter", batches, tmp_path / "c", precision="bf16")
    _, single, other, _ = run("par_adapter", batches, tmp_path / "d")
    assert all(t.dtype == single[name].dtype for name, t in own.items())  # master weights stay fp32
    assert any(not torch.equal(t, single[name]) for name, t in own.items())
    for row, like in zip(history, other, strict=True):
        assert row["loss"] == pytest.approx(like["loss"], rel=0.05)
    result = evaluate(network, batches, "bf16")
    assert result.logits.dtype == torch.float32 and result.logits.shape == (24, 3)
    exact = evaluate(network, batches)
    assert 0 < float((result.logits - exact.logits).abs().max()) < 0.1 * float(exact.logits.abs().max())


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs g++")
@pytest.mark.parametrize("spec", ["res_adapter"])  # a compilation takes a minute or two
def test_a_compiled_training_is_the_same(spec, batches, tmp_path):
    """Up to rounding; and resumed after an epoch, compiled again, it ends in the same bits."""
    _, plain, wanted, _ = run(spec, batches, tmp_path / "plain")
    _, own, history, _ = run(spec, batches, tmp_path / "whole", compile=True)
    for row, like in zip(history, wanted, strict=True):
        assert row["loss"] == pytest.approx(like["loss"], rel=1e-3)
    assert all((own[name] - t).abs().max() <= 1e-2 * t.abs().max() + 1e-4 for name, t in plain.items())
    assert any(not torch.equal(own[name], t) for name, t in plain.items()), "nothing was compiled"

    def stop(row):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        run(spec, batches, tmp_path / "broken", compile=True, report=stop)
    _, again, _, _ = run(spec, batches, tmp_path / "broken", compile=True)
    assert all(torch.equal(again[name], t) for name, t in own.items())


@pytest.mark.slow
def test_domains_share_the_compiled_body(monkeypatch):
    """Only the body is compiled, so that networks with other classes reuse it; afterwards it is unchanged."""
    traced, compile = [], torch.compile

    def counting(graph, inputs):
        traced.append(len(inputs))
        return graph.forward

    monkeypatch.setattr(torch, "compile", lambda call, dynamic, options: compile(call, dynamic=False, backend=counting))
    monkeypatch.setattr(torch._dynamo.config, "recompile_limit", 8)
    torch._dynamo.reset()
    for classes in (3, 5, 7):
        torch.manual_seed(0)
        network = resnet26(classes, WIDTH).train()
        wanted = network.state_dict().keys()
        with compiled(network, torch.device("cpu")):
            for images in (4, 3):
                assert network(torch.zeros(images, 3, CROP, CROP)).shape == (images, classes)
            assert network.state_dict().keys() == wanted
        assert network.body._compiled_call_impl is None
    assert len(traced) == 3, "one for the trial, one for each size of a batch"
    with compiled(network, torch.device("cpu")):
        for images in range(2, 14):  # more sizes than torch takes by itself
            network(torch.zeros(images, 3, CROP, CROP))
    assert len(traced) == 3 + 10
    torch._dynamo.reset()


@pytest.mark.parametrize("error", [RuntimeError("\nno C++ compiler\nhere"), NotADirectoryError("no C++ compiler")])
def test_compiling_without_a_compiler_is_refused_before_a_step(error, batches, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise error

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(
        InputError, match=r"settings=compile=true: torch.compile does not work here \(no C\+\+ compiler\)"
    ):
        run("feature", batches, tmp_path / "c", compile=True)
    assert not (tmp_path / "c").exists()


def test_smoothing_acts(batches, tmp_path):
    """The first loss of the frozen start, by the definition: (1 - ε) · nll + ε · mean over classes."""
    one = replace(RECIPE, epochs=1)
    _, _, plain, _ = run("feature", batches, tmp_path / "a", one, lr=0.0)
    _, _, smooth, _ = run("feature", batches, tmp_path / "b", replace(one, label_smoothing=0.3), lr=0.0)
    _, network, _ = placed("feature")
    with torch.no_grad():
        rows, labels = zip(*((network.train()(x), y) for x, y in batches.train(5, 0)), strict=True)
    logs, y = F.log_softmax(torch.cat(rows), 1), torch.cat(labels)
    nll = -logs[torch.arange(24), y].mean()
    assert plain[0]["loss"] == pytest.approx(float(nll), rel=1e-5)
    assert smooth[0]["loss"] == pytest.approx(float(0.7 * nll - 0.3 * logs.mean()), rel=1e-5)


# --- features computed once -------------------------------------------------------------------------------------


def test_cached_features_are_those_of_the_views(batches):
    _, network, _ = placed("feature")
    cached = FeatureBatches(network.body, batches, views=3, seed=5)
    plans = [batches.centre(), batches.plan(5, 2**32 - 1), batches.plan(5, 2**32 - 2)]
    assert cached.x.shape == (3, 24, network.head.in_features)
    assert torch.equal(cached.y, torch.from_numpy(batches.labels.copy()))
    for features, plan in zip(cached.x, plans, strict=True):
        with torch.no_grad():
            wanted = network.body.eval()(batches.normalise(batches.pixels(plan)))
        assert torch.allclose(features[torch.from_numpy(plan.index)], wanted, rtol=1e-4, atol=1e-5)
    shown = list(cached.train(0, 0))
    assert [len(y) for _, y in shown] == [8, 8, 8]
    x, y = (torch.cat(part) for part in zip(*shown, strict=True))
    hits_of_rows = [(row == cached.x).all(-1).nonzero().tolist() for row in x]  # the (view, image) that a row can be
    images = [hits[0][1] for hits in hits_of_rows]
    assert sorted(images) == list(range(24))  # each image once
    assert {hits[0][0] for hits in hits_of_rows if len(hits) == 1} == {0, 1, 2}
    assert torch.equal(y, cached.y[images])


@pytest.mark.parametrize("spec", ["feature", "partial(views=1)", "partial(last=9, views=1)"])
def test_training_on_cached_features_equals_training_on_recomputed_ones(spec, batches, tmp_path):
    """With centre views only: the loop on cached features against the whole network in the same order."""
    method, network, own = placed(spec)
    frozen, trained = method.split(network)
    cached = FeatureBatches(frozen, batches, views=1, seed=5)
    train(trained, method, cached, RECIPE, lr=0.05, seed=5, state=own, checkpoint=tmp_path / "c")

    class Recomputed:
        """Batches of images in the order of the cached features."""

        device, steps = batches.device, batches.steps

        def __len__(self):
            return len(batches)

        def train(self, seed, epoch):
            order = np.random.default_rng([seed, epoch]).permutation(len(batches))
            centre = batches.centre()
            yield from batches.show(type(centre)(*(field[order] for field in centre)), batches.steps)

    method, whole, wanted = placed(spec)
    train(whole, method, Recomputed(), RECIPE, lr=0.05, seed=5, state=wanted, checkpoint=tmp_path / "d")
    assert own.keys() == wanted.keys()
    start = placed(spec)[2]
    for name, tensor in wanted.items():
        assert (own[name] - tensor).abs().max() <= 1e-3 * tensor.abs().max(), name
        assert not torch.equal(tensor, start[name]), name


def test_features_beyond_memory_are_refused_before_they_are_made(batches, monkeypatch):
    monkeypatch.setattr(visual_decathlon.benchmark.training.features, "_memory", lambda device: 3 * 24 * 16 * 4 - 1)
    _, network, _ = placed("feature")
    assert network.head.in_features == 16
    assert len(FeatureBatches(network.body, batches, views=2, seed=5)) == 24
    with pytest.raises(InputError, match=r"dtd: 3 views of 24 images take 0\.0 GB .* lower views"):
        FeatureBatches(network.body, batches, views=3, seed=5)


def test_a_contiguous_network_computes_in_its_own_layout(folder, batches):
    """A convolution computes in its input's layout, not its weight's."""
    seen = []
    for layout in (torch.contiguous_format, torch.channels_last):
        shown = Batches([whole_pack(batches.packs[0])], DOMAINS["dtd"], CROP, 8, layout=layout)
        network = library_network("torchvision/resnet18", 3).eval()
        network.body.layer1.register_forward_hook(lambda *a, seen=seen: seen.append(a[2].is_contiguous()))
        x, _ = next(shown.train(0, 0))
        network(x)
        assert x.is_contiguous(memory_format=layout)
        static = shown.static()
        for shape in static.epoch(0, 0):
            assert static.take(shape)[0].is_contiguous(memory_format=layout)
    assert seen == [True, False]


def test_evaluation_counts(batches):
    _, network, _ = placed("finetune")
    result = evaluate(network, batches)
    with torch.no_grad():
        x, y = next(batches.evaluate())
        wanted = network.eval()(x)
    assert torch.equal(result.logits, wanted)
    assert result.correct == int((wanted.argmax(1) == y).sum())
    assert result.img_s is None  # one batch, and that one warms up
