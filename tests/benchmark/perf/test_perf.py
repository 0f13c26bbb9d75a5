"""The speed table compares two variants of the same computation."""

import dataclasses
import itertools
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.benchmark import drawn_part
from tests.processes import gone
from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.cli.main import main
from visual_decathlon.benchmark.perf import network as net
from visual_decathlon.benchmark.perf import part_process, parts, rounds
from visual_decathlon.benchmark.perf.network import reference_way
from visual_decathlon.benchmark.perf.rounds import Comparison, Rounds, Variant, run_interleaved
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.registry import entries, select


def test_ratio_is_of_rounds_and_the_first_round_is_not_counted(monkeypatch):
    ticks = itertools.accumulate([*[0, 0, 1, 0, 2, 0] * 3])  # a round begins; ours 1 s, the other 2 s; it ends
    monkeypatch.setattr("visual_decathlon.benchmark.perf.rounds.time.perf_counter", lambda: next(ticks))
    monkeypatch.setattr("visual_decathlon.benchmark.perf.rounds._busy", lambda: 0.0)
    calls = []
    variants = [Variant("ours", lambda: calls.append("o") or 10), Variant("other", lambda: calls.append("t") or 10)]
    line = run_interleaved(variants, rounds=3).comparison("part", "what", "ours", "other")
    assert (line.ours_value, line.other_value, line.unit) == (10, 5, "img/s")
    assert (line.ratio, line.least, line.largest, line.rounds, line.dropped) == (2, 2, 2, 3, 0)
    assert "".join(calls) == "ot" * 4, "in turn, once to warm up"


def test_disturbed_rounds_are_dropped_up_to_the_number_that_count(monkeypatch):
    others = iter([0.0, 99.0, 99.0, 99.0, 99.0, 99.0, *[99.0] * 9])  # the first round alone is disturbed
    monkeypatch.setattr("visual_decathlon.benchmark.perf.rounds._busy", lambda: next(others))
    measured = run_interleaved([Variant("a", lambda: 1)], rounds=2)
    assert measured.dropped == 1 and len(measured.speeds["a"]) == 2
    rising = itertools.count(0, 1000)
    monkeypatch.setattr("visual_decathlon.benchmark.perf.rounds._busy", lambda: next(rising))
    measured = run_interleaved([Variant("a", lambda: 1)], rounds=2)
    assert measured.dropped == 2 and len(measured.speeds["a"]) == 2
    assert measured.comparison("p", "w", "a", unit="s").ratio is None


def test_dropped_rounds_are_bounded_in_time_too(monkeypatch):
    """A round takes 20 s: the second dropped round passes half a minute, so the third counts even if disturbed."""
    ticks = itertools.accumulate([*[0, 0, 20, 0] * 9])
    monkeypatch.setattr("visual_decathlon.benchmark.perf.rounds.time.perf_counter", lambda: next(ticks))
    rising = itertools.count(0, 1000)
    monkeypatch.setattr("visual_decathlon.benchmark.perf.rounds._busy", lambda: next(rising))
    measured = run_interleaved([Variant("a", lambda: 1)], rounds=5)
    assert measured.dropped == 2 and measured.speeds["a"] == [1 / 20] * 5


def test_progress_has_the_variant_and_the_round(monkeypatch):
    others, calls = iter([0.0, 0.0, 0.0, 99.0, *[99.0] * 9]), []
    monkeypatch.setattr("visual_decathlon.benchmark.perf.rounds._busy", lambda: next(others))
    run_interleaved(
        [Variant("ours", lambda: 1), Variant("reference", lambda: 1)], 2, lambda *row: calls.append(row), "finetune"
    )
    assert calls == [
        ("finetune, ours, warming up", 0, 6),
        ("finetune, reference, warming up", 1, 6),
        ("finetune, ours, round 1 of 2", 2, 6),
        ("finetune, reference, round 1 of 2", 3, 6),
        ("finetune, ours, round 2 of 2", 4, 6),
        ("finetune, reference, round 2 of 2", 5, 6),
        ("finetune, ours, round 2 of 2 (again: others had the machine in 1)", 6, 8),
        ("finetune, reference, round 2 of 2 (again: others had the machine in 1)", 7, 8),
    ]


@pytest.mark.parametrize("slower", [0.5, 12.0])
@pytest.mark.parametrize("part", ["step", "evaluation"])
def test_bf16_is_left_out_where_it_is_emulated(part: str, slower: float, monkeypatch):
    worked, ceilings = [], []
    placed, macs = net.placed, net.training_macs

    def at_once(variants, rounds, *_):
        worked.extend(variant.name for variant in variants)
        return Rounds({variant.name: [2.0] for variant in variants}, 0)

    monkeypatch.setattr(parts, "times_slower", lambda device: slower)
    monkeypatch.setattr(parts, "run_interleaved", at_once)
    monkeypatch.setattr(parts, "_peak", lambda work: 1.0)
    monkeypatch.setattr(
        net, "ceiling", lambda dtype: 1.0 if slower < 1 or dtype == torch.float32 else pytest.fail("bf16")
    )
    monkeypatch.setattr(net, "placed", lambda method: placed(method, 0.125, 16))
    monkeypatch.setattr(net, "training_macs", lambda network, x, y: macs(network, x[:, :, :16, :16], y))
    monkeypatch.setattr(parts, "_cached", lambda *of: Comparison("step", "cached", *("",) * 3, *(1.0,) * 5, 1, 0))
    lines = [line for line in getattr(parts, part)(None) if line.what != "cached"]
    half = [line for line in lines if "bf16" in line.ours]
    assert len(half) == len(lines) / 2, "there is a row, with or without numbers"
    if slower < 1:
        assert all(line.ours_value == 2.0 and line.ours.endswith("bf16 (opt-in)") for line in half)
    else:
        assert not any("bf16" in name for name in worked) and torch.bfloat16 not in ceilings
        assert all(line.ours_value is line.ratio is line.share is None and line.rounds == 0 for line in half)
        assert all("left out: a convolution takes 12.0 times fp32's time here" in line.ours for line in half)


def test_other_programs_are_those_outside_this_process(tmp_path, monkeypatch):
    """Time of this process and its children does not count, nor does waiting."""
    tick = os.sysconf("SC_CLK_TCK")
    stat, own = tmp_path / "stat", [0.0] * 5
    monkeypatch.setattr(rounds, "_STAT", stat)
    monkeypatch.setattr(rounds.os, "times", lambda: own)

    def processors(**seconds: float) -> float:
        names = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal", "guest", "guest_nice")
        stat.write_text("cpu  " + " ".join(str(int(tick * seconds.get(name, 0))) for name in names) + "\ncpu0 1 2 3\n")
        return rounds._busy()

    assert processors(idle=100, iowait=50) == 0
    assert processors(user=7, nice=1, system=2, irq=3, softirq=4, steal=5, idle=9) == 22
    own[:4] = 5.0, 1.0, 3.0, 1.0  # user, system, and the children's
    assert processors(user=7, system=5) == 2
    stat.unlink()
    assert rounds._busy() == 0, "where the system does not know"


def test_multiply_adds_of_a_step_are_the_known_ones():
    """Those of performance.md: forward and the needed gradients, at the paper's size, in millions."""
    known = {"finetune": 2555, "res_adapter": 2017, "par_adapter": 1986, "feature": 853}
    for name, millions in known.items():
        (method,) = select(name)
        network = net.reference_way(net.placed(method))
        assert round(net.training_macs(network, *net.pixels(2)) / 1e6) == pytest.approx(millions, abs=1), name


@pytest.mark.parametrize("bf16", [False, True])
def test_every_family_has_a_step_and_an_evaluation(bf16):
    methods = parts.of_families()
    assert {m.family for m in methods} == {e.family for e in entries() if not e().unsupported_reason("resnet26")}
    inputs = net.pixels(4, 32)
    for method in methods:
        network = net.placed(method, 0.25, 32)
        before = [p.detach().clone() for p in network.parameters() if p.requires_grad]
        assert net.training("", method, network, inputs, bf16=bf16).work() == 4
        after = [p for p in network.parameters() if p.requires_grad]
        assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True)), method.name
        network_shown = net.inference_module(network) if method.mergeable else network
        half = net.evaluation("", network_shown, inputs[0], bf16=True)
        assert half.work() == net.evaluation("", network_shown, inputs[0]).work() == 4


def test_the_reference_way_computes_the_same_as_ours():
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


def test_the_command_writes_the_rows_that_it_prints(tmp_path, monkeypatch, capsys):
    names = ("one", "two", "three")
    lines = [Comparison("start", name, "ours", "other", "s", 1.5, 3.0, 2.0, 1.9, 2.1, 5, 1) for name in names]
    monkeypatch.setattr(
        "visual_decathlon.benchmark.perf.speed.measured", lambda *of: (dataclasses.asdict(line) for line in lines)
    )
    assert main(["perf", "--only", "start", "--results", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    rows = pq.read_table(tmp_path / "perf.parquet").to_pylist()
    assert [row["what"] for row in rows] == list(names)
    assert all(row["ours_value"] == 1.5 and row["threads"] and row["machine"] for row in rows)
    markdown = (tmp_path / "perf.md").read_text()
    assert markdown.count("5 (1 dropped)") == out.count("5 (1 dropped)") == 3 and "perf.md" in out


def test_other_parts_keep_their_measurements(tmp_path, monkeypatch, capsys):
    at = ["perf", "--results", str(tmp_path), "--only"]
    measured = {"families": 1.0, "tables": 2.0, "start": 3.0}
    line = lambda name: Comparison(name, f"of {name}", "ours", None, "s", measured[name], None, None, None, None, 1, 0)
    one = lambda name: (dataclasses.asdict(line(name)) for _ in "1")
    monkeypatch.setattr("visual_decathlon.benchmark.perf.speed.measured", lambda name, cache, progress: one(name))
    assert main([*at, "start,families"]) == 0
    measured["families"] = 9.0
    assert main([*at, "tables,families"]) == 0
    values = {row["part"]: row["ours_value"] for row in pq.read_table(tmp_path / "perf.parquet").to_pylist()}
    assert list(values.items()) == [("families", 9.0), ("tables", 2.0), ("start", 3.0)]
    assert (tmp_path / "perf.md").read_text().count("| of ") == 3
    assert "of start" not in capsys.readouterr().out.rpartition("measuring families")[2]
    rows = pq.read_table(tmp_path / "perf.parquet").to_pylist()
    for name, wrong in (("part", 1), ("ratio", "1.0"), ("rounds", [1]), ("other column", 1)):
        pq.write_table(pa.Table.from_pylist([{**row, name: wrong} for row in rows]), tmp_path / "perf.parquet")
        assert main([*at, "families"]) == 0, name
        assert "is not of this version's parts" in (err := capsys.readouterr().err) and "it is now" in err
        assert [row["part"] for row in pq.read_table(tmp_path / "perf.parquet").to_pylist()] == ["families"]
    (tmp_path / "perf.parquet").write_bytes(b"nothing")
    assert main([*at, "families"]) == 0
    assert "is no readable Parquet file" in capsys.readouterr().err
    (tmp_path / "perf.parquet").unlink()
    (tmp_path / "perf.parquet").mkdir()
    assert main([*at, "families"]) == 0
    assert "perf.parquet" in capsys.readouterr().err
    assert len(list((tmp_path / "damaged").iterdir())) == 6


def test_measurements_are_kept_when_the_command_is_stopped(tmp_path, monkeypatch, capsys):
    at = ["perf", "--results", str(tmp_path), "--only", "start"]
    values, stop = {"one": 1.0, "two": 2.0, "bf16": 3.0}, []

    def lines(name, cache, progress):
        progress("one, round 1 of 2", 0, 2)
        for what, value in values.items():
            yield dataclasses.asdict(Comparison(name, what, "ours", None, "s", value, *(None,) * 4, 1, 0))
            if stop == [what]:
                raise KeyboardInterrupt

    monkeypatch.setattr("visual_decathlon.benchmark.perf.speed.measured", lines)
    assert main(at) == 0
    stop.append("one")
    values |= {"one": 7.0, "two": 8.0}
    assert main(at) == 130
    err = capsys.readouterr().err
    assert err.startswith("stopped; ") and "finished ones are kept" in err
    kept = {row["what"]: row["ours_value"] for row in pq.read_table(tmp_path / "perf.parquet").to_pylist()}
    assert kept == {"one": 7.0, "two": 2.0, "bf16": 3.0}, "the new row, and those that were not measured again"
    assert "| one | ours | 7 |" in (tmp_path / "perf.md").read_text()
    stop.clear()
    del values["bf16"]
    assert main(at) == 0
    kept = [row["what"] for row in pq.read_table(tmp_path / "perf.parquet").to_pylist()]
    assert kept == ["one", "two"], "rows that a part does not measure any more are removed at its end"


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="only Linux reports the end of a foreign process")
@pytest.mark.parametrize("how", ["stopped", "ends", "dies", "refuses"])
def test_a_measured_part_leaves_no_process(how: str, monkeypatch):
    monkeypatch.setattr(part_process, "_measure", drawn_part.measure)
    calls = []
    lines = part_process.measured(how, Path("cache"), lambda *row: calls.append(row))
    handles = [gone(pid) for pid in next(lines)["pids"]]
    assert calls == [("a way, round 1 of 2", 1, 2)]
    if how == "stopped":
        lines.close()  # as an exception in the loop over it would
    elif how == "ends":
        assert list(lines) == []
    else:
        with pytest.raises(InputError, match="ended with 3 before" if how == "dies" else "^no room$"):
            next(lines)
    for ended in handles:
        ended()


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("visual_decathlon.benchmark.perf.speed.measured", lambda *a: pytest.fail("measured"))
    (tmp_path / "file").write_text("")
    assert main(["perf", "--only", "step", "--results", str(tmp_path / "file" / "deep")]) == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("part", ["nothing", "step,nothing"])
def test_an_unknown_part_is_refused_in_one_sentence(part, capsys):
    assert main(["perf", "--only", part]) == 2
    assert "there is no part of this name" in capsys.readouterr().err
