"""The speed table compares two ways of computing the same thing."""

import dataclasses
import itertools
import os
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from benchmark.__main__ import main
from benchmark.backbones.resnet26 import resnet26
from benchmark.perf import decathlon, parts, rounds
from benchmark.perf import network as net
from benchmark.perf.network import reference_way
from benchmark.perf.rounds import Line, Way, in_turn
from benchmark.train import train
from benchmark.workers import outcome
from datasets.catalogue import DOMAINS
from methods.registry import entries, select


def test_ratio_is_of_rounds_and_the_first_round_is_not_counted(monkeypatch):
    ticks = itertools.accumulate([*[0, 0, 1, 0, 2, 0] * 3])  # a round begins; ours 1 s, theirs 2 s; it ends
    monkeypatch.setattr("benchmark.perf.rounds.time.perf_counter", lambda: next(ticks))
    monkeypatch.setattr("benchmark.perf.rounds._busy", lambda: 0.0)
    calls = []
    ways = [Way("ours", lambda: calls.append("o") or 10), Way("other", lambda: calls.append("t") or 10)]
    line = in_turn(ways, rounds=3).line("part", "what", "ours", "other")
    assert (line.ours_value, line.other_value, line.unit) == (10, 5, "img/s")
    assert (line.ratio, line.least, line.largest, line.rounds, line.dropped) == (2, 2, 2, 3, 0)
    assert "".join(calls) == "ot" * 4, "in turn, once for warmth"


def test_rounds_in_which_others_work_are_dropped_up_to_as_many_as_count(monkeypatch):
    others = iter([0.0, 99.0, 99.0, 99.0, 99.0, 99.0, *[99.0] * 9])  # the first round alone is disturbed
    monkeypatch.setattr("benchmark.perf.rounds._busy", lambda: next(others))
    found = in_turn([Way("a", lambda: 1)], rounds=2)
    assert found.dropped == 1 and len(found.speeds["a"]) == 2
    rising = itertools.count(0, 1000)
    monkeypatch.setattr("benchmark.perf.rounds._busy", lambda: next(rising))
    found = in_turn([Way("a", lambda: 1)], rounds=2)
    assert found.dropped == 2 and len(found.speeds["a"]) == 2
    assert found.line("p", "w", "a", unit="s").ratio is None


def test_others_are_those_outside_this_process():
    """This process keeps a processor busy for a moment, and is none of the others."""
    before, start = rounds._busy(), time.perf_counter()
    while time.perf_counter() < start + 0.3:
        pass
    assert 0 <= rounds._busy() - before < 0.3 * os.cpu_count()


def test_multiply_adds_of_a_step_are_those_that_are_known():
    """performance.md's: forward and the gradients that are needed, at the paper's size, in millions."""
    known = {"finetune": 2555, "res_adapter": 2017, "par_adapter": 1986, "feature": 853}
    for name, millions in known.items():
        (method,) = select(name)
        network = net.reference_way(net.placed(method))
        assert round(net.training_macs(network, *net.pixels(2)) / 1e6) == pytest.approx(millions, abs=1), name


@pytest.mark.parametrize("bf16", [False, True])
def test_every_family_has_a_step_and_an_evaluation(bf16):
    methods = parts.of_families()
    assert {m.family for m in methods} == {e.family for e in entries() if not e().refusal("resnet26")}
    inputs = net.pixels(4, 32)
    for method in methods:
        network = net.placed(method, 0.25, 32)
        before = [p.detach().clone() for p in network.parameters() if p.requires_grad]
        assert net.training("", method, network, inputs, bf16=bf16).work() == 4
        after = [p for p in network.parameters() if p.requires_grad]
        assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True)), method.name
        shown = net.served(network) if method.mergeable else network
        half = net.evaluation("", shown, inputs[0], bf16=True)
        assert half.work() == net.evaluation("", shown, inputs[0]).work() == 4


def test_the_reference_way_computes_what_ours_does():
    torch.manual_seed(0)
    (method,) = select("par_adapter(init='he')")
    source = resnet26(5, 0.25).double()
    networks = []
    for change in (lambda n: n.to(memory_format=torch.channels_last), reference_way):
        torch.manual_seed(1)
        networks.append(change(method.place(source, 5)).train())
    x = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    ours, other = (network(x) for network in networks)
    torch.testing.assert_close(ours, other, rtol=1e-5, atol=1e-8)
    ours.square().sum().backward()
    other.square().sum().backward()
    pairs = zip(networks[0].named_parameters(), networks[1].named_parameters(), strict=True)
    for (name, a), (_, b) in pairs:
        assert (a.grad is None) == (b.grad is None), name
        if a.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-8 * float(b.grad.abs().max() + 1), msg=name)
    assert sum(getattr(m, "fused", None) is False for m in networks[1].modules()) == 25


@pytest.mark.parametrize(("name", "method"), [("svhn", "par_adapter"), ("dtd", "res_adapter"), ("imagenet12", "")])
def test_an_epoch_of_the_papers_sizes_is_trained_as_a_run_is(name, method, monkeypatch):
    seen = {}

    def spied(network, of, batches, recipe, **more):
        x, y = next(batches.train(0, 0))
        seen.update(
            x=x.shape, y=int(y.max()), state=more["state"].keys(), batch=recipe.batch, precision=more["precision"]
        )
        return train(network, of, batches, recipe, **more)

    monkeypatch.setattr(decathlon, "train", spied)
    (chosen,) = select(method) if method else (None,)
    assert decathlon.epoch(chosen, DOMAINS[name], 6, "cpu", "bf16", width=0.125) > 0
    side = 72 if name == "svhn" else 64
    assert seen["x"] == (6, 3, side, side) and seen["batch"] == 128 and seen["precision"] == "bf16"
    assert seen["y"] < DOMAINS[name].classes
    assert ("body.stem.conv.weight" in seen["state"]) == (not method)


def test_without_a_gpu_its_figures_are_null(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    lines = list(parts.gpu(None))
    assert [(line.ours, line.unit) for line in lines] == [
        (p, u) for p in ("fp32", "tf32", "bf16", "bf16, compiled") for u in ("min", "img/s")
    ]
    assert all(line.ours_value is line.peak_mb is line.ratio is None and line.rounds == 0 for line in lines)


def test_the_command_writes_what_it_shows(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert main(["perf", "--only", "gpu", "--results", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    rows = pq.read_table(tmp_path / "perf.parquet").to_pylist()
    assert [row["ours"] for row in rows] == [p for p in ("fp32", "tf32", "bf16", "bf16, compiled") for _ in "ab"]
    assert all(row["ours_value"] is None and row["threads"] and row["machine"] for row in rows)
    markdown = (tmp_path / "perf.md").read_text()
    assert markdown.count("nine domains") == out.count("nine domains") == 4 and "perf.md" in out


def test_other_parts_stay_as_they_were_measured(tmp_path, monkeypatch, capsys):
    at = ["perf", "--results", str(tmp_path), "--only"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    measured = {"gpu": 1.0, "tables": 2.0, "start": 3.0}
    line = lambda name: Line(name, f"of {name}", "ours", None, "s", measured[name], None, None, None, None, 1, 0)
    monkeypatch.setattr("benchmark.perf_command._measured", lambda name, cache: [dataclasses.asdict(line(name))])
    monkeypatch.setattr("benchmark.perf_command.Workers", Here)
    assert main([*at, "start,gpu"]) == 0
    measured["gpu"] = 9.0
    assert main([*at, "tables,gpu"]) == 0
    values = {row["part"]: row["ours_value"] for row in pq.read_table(tmp_path / "perf.parquet").to_pylist()}
    assert list(values.items()) == [("tables", 2.0), ("start", 3.0), ("gpu", 9.0)]
    assert (tmp_path / "perf.md").read_text().count("| of ") == 3
    assert "of start" not in capsys.readouterr().out.rpartition("measuring gpu")[2]
    rows = pq.read_table(tmp_path / "perf.parquet").to_pylist()
    monkeypatch.setattr("benchmark.perf_command._measured", lambda *a: pytest.fail("measured"))
    for name, wrong in (("part", 1), ("ratio", "1.0"), ("load", None), ("rounds", [1]), ("other column", 1)):
        pq.write_table(pa.Table.from_pylist([{**row, name: wrong} for row in rows]), tmp_path / "perf.parquet")
        assert main([*at, "gpu"]) == 2, name
        assert "is not of this version's parts" in capsys.readouterr().err
    (tmp_path / "perf.parquet").write_bytes(b"nothing")
    assert main([*at, "gpu"]) == 2
    assert "is no readable Parquet file" in capsys.readouterr().err
    (tmp_path / "perf.parquet").unlink()
    (tmp_path / "perf.parquet").mkdir()
    assert main([*at, "gpu"]) == 2
    assert "perf.parquet" in capsys.readouterr().err


class Here:
    """In place of the worker processes: at once, in this one."""

    def __init__(self, *_, **__):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def submit(self, job):
        self.job = job

    def events(self):
        yield outcome(self.job, "cpu", lambda row: None)


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("benchmark.perf_command._measured", lambda *a: pytest.fail("measured"))
    (tmp_path / "file").write_text("")
    assert main(["perf", "--only", "step", "--results", str(tmp_path / "file" / "deep")]) == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("part", ["nothing", "step,nothing"])
def test_unknown_part_is_one_sentence(part, capsys):
    assert main(["perf", "--only", part]) == 2
    assert "no part is called so" in capsys.readouterr().err
