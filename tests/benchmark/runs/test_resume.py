"""Finished runs stay; unfinished runs continue to the same bits, after any kill and with any number of benches."""

import itertools
import os
import shutil
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save

from tests.processes import children, gone, until
from visual_decathlon.benchmark.backbones.safetensors_file import read_safetensors, write_safetensors
from visual_decathlon.benchmark.config.specs import Backbone
from visual_decathlon.benchmark.records.folder import ResultsFolder
from visual_decathlon.benchmark.records.provenance import Provenance
from visual_decathlon.benchmark.records.store import read_records
from visual_decathlon.benchmark.runs import execute as runs
from visual_decathlon.benchmark.runs.backbones import requested_backbones
from visual_decathlon.benchmark.runs.execute import execute_run
from visual_decathlon.benchmark.training import pretrain
from visual_decathlon.benchmark.training.checkpoint import Checkpoint
from visual_decathlon.datasets.errors import InputError

LINUX = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="Linux lists the workers and reports their end")
WHO = Provenance("tiny", "id", False, 1, "test", "", "{}")
LONG = "width=0.125 epochs=40 pretrain.epochs=6 batch=8 pretrain.batch=8"


class Stop(Exception):
    """Raised by a report: ends a training between two epochs, as a kill does."""


def stopping_at(epoch: int) -> Callable[[dict], None]:
    def report(row: dict) -> None:
        if row["epoch"] == epoch:
            raise Stop

    return report


def begun(results: Path) -> list[str]:
    """The hashes of half-way runs. The file of a finished run is deleted only after its record is written."""
    finished = {path.stem for path in (results / "records").glob("[!.]*.parquet")}
    return [path.stem for path in (results / "unfinished").glob("[!.]*.safetensors") if path.stem not in finished]


def same(one: Path, other: Path) -> bool:
    """Whether two files hold the same tensors, to the bit."""
    a, b = load_file(one), load_file(other)
    return set(a) == set(b) and all(a[n].numpy().tobytes() == b[n].numpy().tobytes() for n in a)


@LINUX
def test_kill_9_loses_nothing(bench, finished: Path, here, below, tmp_path: Path):
    """After a kill with one run finished and one half-way, both end with the bits of an unbroken bench."""
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    words = ("--domains", "svhn,dtd", "--workers", "1")
    run = bench.start(*words, method="finetune", settings=LONG, results=killed)
    records = killed / "records"
    until(run, lambda: len(list(records.glob("[!.]*.parquet"))) == 1)
    done = below(records)
    until(run, lambda: len(begun(killed)) == 1)
    workers = [gone(worker) for worker in children(run.pid)]
    assert workers
    run.kill()
    for ended in workers:
        ended()
    assert len(begun(killed)) == 1, "it was killed in the middle"
    assert {name: pair for name, pair in below(records).items() if not name.startswith(".")} == done
    again = here(*words, method="finetune", settings=LONG, results=killed)
    assert again.code == 0, again.err
    assert "1 of 2 runs are finished already" in again.out
    assert done.items() <= below(records).items(), "a finished record is never written again"
    assert here(*words, method="finetune", settings=LONG, results=whole).code == 0
    names = sorted(p.name for p in (whole / "adapters").iterdir())
    assert len(names) == 2 and names == sorted(p.name for p in (killed / "adapters").glob("[!.]*"))
    assert all(same(killed / "adapters" / name, whole / "adapters" / name) for name in names)
    losses = [
        {r["domain"]: [row["loss"] for row in r["history"]] for r in read_records([folder / "records"])}
        for folder in (killed, whole)
    ]
    assert losses[0] == losses[1] and all(len(row) == 40 for row in losses[0].values())


@LINUX
@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_stopped_bench_ends_in_one_line(number: int, bench, finished: Path, tmp_path: Path):
    """A terminal or scheduler signals the workers too: they print nothing, and no process or file is left."""
    longer = LONG.replace(" epochs=40", " epochs=400")  # the second must not end during the test
    run = bench.start("--domains", "dtd", method="feature,finetune", settings=longer, results=tmp_path)
    # until one worker waits for work and the other trains
    until(run, lambda: len(list((tmp_path / "records").glob("[!.]*.parquet"))) == 1)
    until(run, lambda: len(begun(tmp_path)) == len(list((tmp_path / "unfinished").glob("[!.]*.safetensors"))) == 1)
    workers = [gone(worker) for worker in children(run.pid)]
    os.killpg(run.pid, number)
    out, _ = run.communicate()
    assert run.returncode == 128 + number, out
    *lines, last = out.splitlines()
    assert last == "stopped; the same command goes on where it was"
    assert all(line.startswith("[") for line in lines), out
    assert list(tmp_path.rglob(".*")) == [] and len(list((tmp_path / "unfinished").iterdir())) == 1
    assert workers
    for ended in workers:
        ended()


@pytest.mark.parametrize("method", ["res_adapter", "par_adapter", "bn_adapt", "feature", "side", "finetune", "scratch"])
def test_a_run_stopped_after_each_epoch_ends_in_the_same_bits(method: str, planned, finished: Path, tmp_path: Path):
    settings = "width=0.125 epochs=3 pretrain.epochs=6 batch=8 pretrain.batch=8"
    (run,) = planned(method, settings, domains=["svhn"])[2]
    whole = execute_run(run, tmp_path / "whole", WHO, "cpu", lambda row: None)
    for epoch in (1, 2, 3):
        with pytest.raises(Stop):
            execute_run(run, tmp_path / "broken", WHO, "cpu", stopping_at(epoch))
        assert not (tmp_path / "broken" / "records").exists()
    broken = execute_run(run, tmp_path / "broken", WHO, "cpu", lambda row: None)
    name = f"{run.hash}.safetensors"
    assert same(tmp_path / "whole" / "adapters" / name, tmp_path / "broken" / "adapters" / name)
    assert broken["top1"] == whole["top1"]
    assert [row["loss"] for row in broken["history"]] == [row["loss"] for row in whole["history"]]
    assert broken["step_ms"] is None and broken["peak_mb"] is None, "no step was timed after the last stop"
    assert broken["cpu_seconds"] > 0 and broken["runs_on_device"] >= 1, "kept in the checkpoint"
    assert list((tmp_path / "broken" / "unfinished").iterdir()) == []


def test_energy_of_a_part_is_not_recorded(planned, finished: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(runs.Energy, "joules", lambda self: 7.0)
    monkeypatch.setattr(
        "visual_decathlon.benchmark.runtime.device_sharing.tempfile.gettempdir", lambda: str(tmp_path)
    )  # no other bench is counted
    (run,) = planned("feature", "width=0.125 epochs=2 pretrain.epochs=6 batch=8 pretrain.batch=8", domains=["svhn"])[2]
    with pytest.raises(Stop):
        execute_run(run, tmp_path, WHO, "cpu", stopping_at(1))
    assert execute_run(run, tmp_path, WHO, "cpu", lambda row: None)["joules"] is None
    assert execute_run(run, tmp_path / "other", WHO, "cpu", lambda row: None)["joules"] == 7.0


def test_pretraining_continues_to_the_same_bits(planned, tmp_path: Path):
    paths = []
    for name, stops in (("whole", ()), ("broken", (1, 2))):
        request, data, _ = planned("res_adapter", "width=0.125 pretrain.epochs=2 pretrain.batch=8")
        kept: Backbone = requested_backbones(request, data)["series"]
        base = replace(kept, cache=tmp_path / name)
        for epoch in stops:
            with pytest.raises(Stop):
                pretrain.pretrain(base, "cpu", stopping_at(epoch))
            assert not base.path.exists()
        pretrain.pretrain(base, "cpu", lambda row: None)
        assert [p.name for p in base.path.parent.iterdir()] == [base.path.name]
        paths.append(base.path)
    assert same(*paths)


def test_a_finished_run_is_read_and_not_trained(planned, finished: Path, monkeypatch, tmp_path: Path):
    """As happens when another bench in the same folder was faster."""
    (run,) = planned("feature", domains=["dtd"])[2]
    monkeypatch.setattr(runs, "train", None)
    record = execute_run(run, finished, WHO, "cpu", lambda row: None)
    (kept,) = (r for r in read_records([finished / "records"]) if r["hash"] == run.hash)
    assert record == kept


def test_two_benches_in_one_folder_both_finish(bench, tmp_path: Path):
    """Without a cache: both pack, pretrain, train and write the same files at the same time."""
    words = ("--domains", "svhn,dtd", "--cache", str(tmp_path / "cache"), "--workers", "1")
    settings = "width=0.125 epochs=2 pretrain.epochs=1 batch=8 pretrain.batch=8"
    methods = ("feature,finetune", "finetune,feature")
    runs = [bench.start(*words, method=m, settings=settings, results=tmp_path / "one") for m in methods]
    for run in runs:
        out, _ = run.communicate()
        assert run.returncode == 0, out
    records = read_records([tmp_path / "one" / "records"])
    assert sorted((r["method"], r["domain"]) for r in records) == [
        (m, d) for m in ("feature", "finetune") for d in ("dtd", "svhn")
    ]
    assert list(tmp_path.rglob(".*")) == [] and list((tmp_path / "one" / "unfinished").iterdir()) == []
    assert (tmp_path / "one" / "table1.parquet").is_file()
    packs = {path.name.rsplit("-", 2)[0] for path in (tmp_path / "cache" / "packs").iterdir()}
    assert packs == {"imagenet12-train", "svhn-train", "svhn-val", "dtd-train", "dtd-val"}


def test_a_damaged_checkpoint_is_an_error(planned, finished: Path, tmp_path: Path):
    (run,) = planned("feature", domains=["svhn"])[2]
    path = tmp_path / "unfinished" / f"{run.hash}.safetensors"
    write_safetensors(path, {"state/other": torch.zeros(3)}, {"history": "[]"})
    for content in (path.read_bytes(), path.read_bytes()[:20], b""):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"^svhn: the checkpoint .* is damaged .*; remove it") as caught:
            execute_run(run, tmp_path, WHO, "cpu", lambda row: None)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_checkpoint_without_momentum(tmp_path: Path):
    p = torch.nn.Parameter(torch.ones(3))
    optimiser = torch.optim.SGD([p], 0.1)
    p.grad = torch.ones(3)
    optimiser.step()
    Checkpoint(tmp_path / "c", {"p": p}, {"p": p}, optimiser).save([{"epoch": 1}])
    other = torch.nn.Parameter(torch.zeros(3))
    fresh = torch.optim.SGD([other], 0.1)
    assert Checkpoint(tmp_path / "c", {"p": other}, {"p": other}, fresh).load() == [{"epoch": 1}]
    assert torch.equal(other, p)
    assert Checkpoint(tmp_path / "none", {}, {}, fresh).load() == []


def test_unfinished_files_of_a_killed_writer_are_not_read(finished: Path, tmp_path: Path):
    results = Path(shutil.copytree(finished, tmp_path / "copied"))
    (ResultsFolder(results).records / ".half.parquet.123").write_bytes(b"PAR1")
    (ResultsFolder(results).records / ".half.parquet").write_bytes(b"PAR1")
    assert len(read_records([ResultsFolder(results).records])) == 30


def test_a_file_that_is_replaced_while_it_is_read_is_read_complete(tmp_path: Path):
    """As when two benches in one folder write one backbone, and the headers differ in length."""
    tensors, path = {f"w{i}": torch.full((300,), float(i)) for i in range(20)}, tmp_path / "w"
    contents = [save(tensors, {"clock": digits}) for digits in ("1.5", "1.234567890123")]
    ended = threading.Event()

    def replacing() -> None:
        for i in itertools.count():
            if ended.is_set():
                return
            (tmp_path / "new").write_bytes(contents[i % 2])
            (tmp_path / "new").replace(path)

    path.write_bytes(contents[0])
    other = threading.Thread(target=replacing)
    other.start()
    try:
        for _ in range(1000):
            read, metadata = read_safetensors(path)
            assert all(torch.equal(read[name], t) for name, t in tensors.items())
            assert metadata["clock"] in ("1.5", "1.234567890123")
    finally:
        ended.set()
        other.join()
