"""The measurements of `make gpu`, on a CPU at tiny sizes: every line is made, and each variant matches its name."""

import collections
import math
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from visual_decathlon.benchmark.config.kernels import KernelChoice
from visual_decathlon.benchmark.config.profiles import profile
from visual_decathlon.benchmark.perf import decathlon
from visual_decathlon.benchmark.perf import network as net
from visual_decathlon.benchmark.perf.gpu import benches, processes, rows, runs, steps
from visual_decathlon.benchmark.perf.gpu import effort as effort_module
from visual_decathlon.benchmark.perf.gpu.effort import Effort, Size
from visual_decathlon.benchmark.perf.gpu.goals import GOALS
from visual_decathlon.benchmark.perf.gpu.plan import PLAN
from visual_decathlon.benchmark.perf.gpu.rows import Row
from visual_decathlon.benchmark.perf.gpu.ways import streamed
from visual_decathlon.benchmark.training.train import train
from visual_decathlon.datasets.catalogue import DOMAINS
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.registry import select

TINY = ("width=0.125", "resize=16", "crop=16", "batch=4", "pretrain.batch=8")
PAPER, STANDIN = Size("decathlon", (*TINY, "uncropped_size=16")), Size("standin", TINY)


@pytest.fixture
def effort(tmp_path: Path) -> Effort:
    """Sizes so small that every measurement takes a moment."""
    small = {"steps": 2, "rounds": 2, "share": 1e-9, "pretraining": 16, "processes": (1, 2), "epochs": (2, 2)}
    return Effort("cpu", tmp_path, PAPER, STANDIN, **small)


@pytest.fixture
def quick(monkeypatch) -> None:
    """Neither baseline nor loop runs: each returns fixed numbers."""
    monkeypatch.setattr(steps, "eager", lambda *of, reference=False: [10.0] if reference else [20.0])
    trained = decathlon.Trained(None, {}, [{"seconds": 9.0}, {"seconds": 1.0}, {"seconds": 2.0}], 100, [9.0, 1.0, 2.0])
    monkeypatch.setattr(steps, "ours", lambda *of, graphs=None: trained)
    monkeypatch.setattr(steps, "_peak", lambda effort, keep: keep(rows.row("step", "", "", [1], goal="peak")))
    monkeypatch.setattr(runs, "run_seconds", lambda *of: 60.0)
    monkeypatch.setattr(runs, "train_drawn", lambda *of, **more: trained)
    monkeypatch.setattr(benches, "_seconds", lambda words: 30.0)
    monkeypatch.setattr(benches, "_bench", lambda effort, method: 30.0)


def kept(function, effort: Effort) -> list[Row]:
    rows: list[Row] = []
    function(effort, rows.append)
    return rows


def test_every_goal_belongs_to_one_line(quick, effort: Effort, monkeypatch):
    used: collections.Counter = collections.Counter()

    class Counting(dict):
        """Counts how often each goal is used."""

        def __getitem__(self, key: str):
            used[key] += 1
            return super().__getitem__(key)

    monkeypatch.setattr(rows, "GOALS", Counting(GOALS))
    functions = [getattr(steps, step.work.rpartition(":")[2]) for step in PLAN if step.work.count("gpu.steps:")]
    functions += [runs.nine, runs.pretraining, benches.bench, benches.every_method]
    lines = [row for function in functions for row in kept(function, effort)]
    assert used == dict.fromkeys(GOALS, 1) and sum(row.goal is not None for row in lines) == len(GOALS)
    names = {step.name for step in PLAN}
    assert {row.step for row in lines} == names - {"tests", "processes"}
    assert len({(row.step, row.what, row.ours, row.other) for row in lines}) == len(lines), "no line is repeated"


def test_lines_compare_the_named_variants(quick, effort: Effort):
    (bf16, against, _) = kept(steps.step, effort)
    assert (bf16.ours_value, bf16.other_value, bf16.ratio) == (75.0, 20.0, 3.75), "the first epoch is not counted"
    assert (against.ratio, against.goal, against.reached) == (7.5, "≥ 8", False)
    small, _ = kept(steps.small, effort)
    assert small.ours_value == pytest.approx(4e3 * (1 / 100 + 1 / 50) / 2) and small.other_value == 200.0
    assert small.unit == "ms" and small.ratio == pytest.approx(200 / 60)
    speed, start, *_ = kept(steps.compiled, effort)
    assert speed.ours_value == 75.0 and (start.ours_value, start.unit) == (7.0, "s"), (
        "9 s minus the 2 s of a steady epoch"
    )
    (nine,) = kept(runs.nine, effort)
    assert (nine.ours_value, nine.unit, nine.reached) == (9.0, "min", True)
    imports, bench = kept(benches.bench, effort)
    assert (imports.ours_value, bench.ours_value) == (60.0, 30.0) and (imports.reached, bench.reached) == (False, True)


@pytest.mark.slow
def test_steps_are_measured_in_every_variant(effort: Effort):
    for function in (steps.step, steps.small, steps.fp32, steps.deterministic):
        for row in kept(function, effort):
            assert row.ours_value > 0 and row.other_value > 0 and row.ratio > 0, row
            assert 0 < row.least <= row.ours_value <= row.largest or row.unit == "MB", row


@pytest.mark.parametrize(("precision", "reference"), [("bf16", False), ("fp32", True)])
def test_the_baselines_match_their_names(precision: str, reference: bool, effort: Effort, monkeypatch):
    seen = {}
    training = net.training

    def spied(name, method, network, inputs, **more):
        seen.update(more, network=network, batch=len(inputs[1]), choosing=torch.backends.cudnn.benchmark)
        return training(name, method, network, inputs, **more)

    monkeypatch.setattr(net, "training", spied)
    configure_torch = steps.configure_torch
    monkeypatch.setattr(
        steps, "configure_torch", lambda chosen, device: seen.update(as_=chosen) or configure_torch(chosen, device)
    )
    speeds = steps.eager("par_adapter", effort.paper.profile(f"precision={precision}"), effort, reference)
    assert len(speeds) == effort.rounds and min(speeds) > 0
    weight = next(p for p in seen["network"].parameters() if p.dim() == 4 and p.shape[1] > 1 and p.shape[2] > 1)
    assert weight.is_contiguous(memory_format=torch.channels_last) == (not reference)
    assert {m.fused for m in seen["network"].modules() if hasattr(m, "fused")} == {not reference}
    assert (seen["batch"], seen["bf16"], seen["choosing"]) == (4, precision == "bf16", True)
    assert (seen["as_"].deterministic, seen["as_"].precision) == (False, precision)


def test_peak_memory_is_null_where_the_system_does_not_know_it(effort: Effort, monkeypatch):
    monkeypatch.setattr(steps.Peak, "mb", lambda self: None)
    monkeypatch.setattr(steps, "ours", lambda *of, graphs=None: None)
    rows: list[Row] = []
    steps._peak(effort, rows.append)
    assert [(row.ours_value, row.note) for row in rows] == [(None, "this system does not tell a process's peak")]


def test_peak_memory_is_of_the_default_and_of_the_eager_loop(effort: Effort, monkeypatch):
    calls, peaks = [], iter([110.0, 100.0])
    monkeypatch.setattr(steps.Peak, "mb", lambda self: next(peaks))
    monkeypatch.setattr(steps, "ours", lambda *of, graphs=None: calls.append(graphs))
    rows: list[Row] = []
    steps._peak(effort, rows.append)
    assert calls == [None, False] and rows[0].ratio == pytest.approx(1.1) and rows[0].reached is True


@pytest.mark.parametrize(("name", "method"), [("svhn", "par_adapter"), ("dtd", "res_adapter"), ("imagenet12", "")])
def test_an_epoch_of_the_papers_sizes_is_trained_as_a_run_is(name, method, monkeypatch):
    seen = {}

    def spied(network, of, batches, recipe, **more):
        x, y = next(batches.train(0, 0))
        seen.update(x=x.shape, y=int(y.max()), state=more["state"].keys(), batch=recipe.batch, graphs=more["graphs"])
        seen.update(precision=more["precision"], compile=more["compile"])
        return train(network, of, batches, recipe, **more)

    monkeypatch.setattr(decathlon, "train", spied)
    (chosen,) = select(method) if method else (None,)
    profiled = profile("decathlon", ["width=0.125", "precision=bf16"])
    trained = decathlon.train_drawn(chosen, DOMAINS[name], 6, profiled, "cpu", epochs=3, graphs=False)
    assert len(trained.history) == len(trained.walls) == 3
    assert len(trained.speeds()) == 2 and min(trained.speeds()) > 0
    assert sum(trained.walls) > sum(row["seconds"] for row in trained.history)
    side = 72 if name == "svhn" else 64
    assert seen["x"] == (6, 3, side, side) and seen["batch"] == 128 and seen["y"] < DOMAINS[name].classes
    assert (seen["precision"], seen["compile"], seen["graphs"]) == ("bf16", False, False)
    assert ("body.stem.conv.weight" in seen["state"]) == (not method)


def test_two_drawn_trainings_have_the_same_bits():
    (method,) = select("par_adapter")
    one, other = (decathlon.train_drawn(method, DOMAINS["dtd"], 8, STANDIN.profile(), "cpu") for _ in "12")
    assert [row["loss"] for row in one.history] == [row["loss"] for row in other.history]
    assert all(torch.equal(tensor, other.state[name]) for name, tensor in one.state.items()) and one.state


def test_a_whole_run_is_its_first_epoch_its_steady_ones_and_its_evaluation(monkeypatch):
    seen, ticks = {}, iter([100.0, 103.0])
    network = torch.nn.Identity()

    def drawn(domain, images, chosen, device, batch, layout):
        seen.update(tested=images, layout=layout)
        return "batches"

    def trained(method, domain, images, chosen, device, choice):
        seen.update(images=images, choice=choice)
        return decathlon.Trained(network, {}, [], images, [20.0, 2.0])

    monkeypatch.setattr(decathlon, "train_drawn", trained)
    monkeypatch.setattr(decathlon, "drawn", drawn)
    monkeypatch.setattr(decathlon, "inference_module", lambda of: of)
    monkeypatch.setattr(decathlon, "evaluate", lambda of, batches, precision: seen.update(evaluated=of))
    monkeypatch.setattr(decathlon.time, "perf_counter", lambda: next(ticks))
    (method,), choice = select("par_adapter"), KernelChoice("contiguous", "plain")
    seconds = decathlon.run_seconds(method, DOMAINS["svhn"], profile("decathlon"), "cpu", choice, 0.5)
    assert seconds == 20.0 + 119 * 2.0 + 3.0
    train_images, tested, _ = DOMAINS["svhn"].counts
    assert seen.pop("choice") == choice and seen.pop("layout") == torch.contiguous_format
    assert seen == {"images": round(train_images / 2), "tested": round(tested / 2), "evaluated": network}


@pytest.mark.slow
def test_whole_runs_and_pretraining_are_measured(effort: Effort):
    (nine,) = kept(runs.nine, effort)
    assert nine.ours_value > 0 and nine.goal == "≤ 11 min"
    resident, streamed = kept(runs.pretraining, effort)
    assert resident.ours_value > 0 and streamed.other_value == resident.ours_value and streamed.ratio > 0


def test_streamed_batches_have_no_room_on_a_device(monkeypatch):
    import visual_decathlon.datasets.batches

    monkeypatch.setattr(visual_decathlon.datasets.batches, "_room", lambda device: 10**12)
    chosen = STANDIN.profile()
    resident = lambda: decathlon.drawn(DOMAINS["dtd"], 4, chosen, "cpu", 4)._resident
    assert resident() is not None
    with streamed():
        assert resident() is None
    assert resident() is not None


@pytest.mark.slow
def test_processes_side_by_side_begin_together(effort: Effort):
    lines = kept(processes.processes, effort)
    assert [row.ours for row in lines] == ["1 side by side", "2 side by side"] * 2
    assert [row.other for row in lines] == [None, "1 alone"] * 2
    assert all(row.ours_value > 0 for row in lines) and math.isclose(lines[1].other_value, lines[0].ours_value)


@pytest.mark.parametrize("graphs", [None, False])
def test_graphs_is_passed_to_the_loop(graphs: bool | None, effort: Effort, monkeypatch):
    """The loop computes in the layout and with the norm of a run."""
    passed, applied = [], []

    def loop(network, method, batches, recipe, **named):
        passed.append(named["graphs"])
        assert batches.layout == torch.contiguous_format and applied == [network]
        return [], None

    monkeypatch.setattr(decathlon, "train", loop)
    monkeypatch.setattr(effort_module, "choose_kernels", lambda *of: KernelChoice("contiguous", "plain"))
    monkeypatch.setattr(decathlon, "kernels_applied", lambda choice, network: nullcontext(applied.append(network)))
    steps.ours("par_adapter", effort.standin.profile(), effort, graphs=graphs)
    assert passed == [graphs]


def test_a_bench_is_the_command_with_empty_folders(effort: Effort, monkeypatch):
    seen = []

    def ran(words: list[str]) -> float:
        seen.append(words)
        results = Path(words[words.index("--results") + 1])
        results.mkdir(parents=True)
        (results / "table1.md").write_text("")
        return 7.0

    monkeypatch.setattr(benches, "_seconds", ran)
    assert benches._bench(effort, "res_adapter") == 7.0
    (words,) = seen
    assert words[1:8] == ["-m", "benchmark", "run", "--method", "res_adapter", "--device", "cpu"]
    assert not Path(words[words.index("--cache") + 1]).exists()
    monkeypatch.setattr(benches, "_seconds", lambda words: 7.0)
    with pytest.raises(InputError, match="METHOD=all ended without a table"):
        benches._bench(effort, "all")


def test_a_failed_command_gives_one_sentence():
    with pytest.raises(
        InputError, match=r"^`python -c import sys; sys.exit\(3\) …` ended with 3; its output is above$"
    ):
        benches._seconds([benches.sys.executable, "-c", "import sys; sys.exit(3)"])
    assert benches._seconds([benches.sys.executable, "-c", ""]) > 0
