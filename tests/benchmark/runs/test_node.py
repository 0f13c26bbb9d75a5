"""A worker on another machine: it gets the files that it does not see, and gives back what a local run writes."""

import os
import platform
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from visual_decathlon.benchmark.records.environment import environment, installed
from visual_decathlon.benchmark.records.folder import ResultsFolder
from visual_decathlon.benchmark.records.provenance import Provenance
from visual_decathlon.benchmark.records.store import read_record
from visual_decathlon.benchmark.runs.engines import node, node_files
from visual_decathlon.benchmark.runs.engines.folders import Folders, with_paths
from visual_decathlon.benchmark.runs.engines.node import Checkpoint, NodeWorker, Outcome, Software
from visual_decathlon.benchmark.runs.engines.node_files import FileServer, Offer, local_copy, offers, remove_unused
from visual_decathlon.benchmark.runs.job import JointTrainingJob, PretrainingJob, RunJob
from visual_decathlon.datasets.errors import Unwritable

WHO = Provenance("tiny", "id", False, 1, "test", "", "{}")
TIMES = {
    *("history", "created", "runs_on_device", "peak_mb", "step_ms", "step_ms_p10", "step_ms_p90", "train_img_s"),
    *("eval_img_s", "train_seconds", "cpu_seconds", "prepare_seconds", "first_step_seconds"),
}
"""The fields of a record that no two executions share."""


def unseen(offer: Offer) -> Offer:
    """The offer of a file that another machine has under this path: here there is one that changed later."""
    return offer._replace(changed=offer.changed - 1)


@pytest.fixture
def node_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a node keeps its files."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "node"))
    return tmp_path / "node" / f"visual-decathlon-{os.getuid()}" / "cluster"


def executed(worker: NodeWorker, job, offered: list[Offer]) -> tuple[list, Outcome]:
    *messages, outcome = [message for some in worker.execute(job, offered) for message in some]
    assert isinstance(outcome, Outcome) and outcome.end.job is None
    return messages, outcome


@pytest.fixture
def worker(node_home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Folders], NodeWorker]:
    """`worker(folders)`: one of a driver with these folders; its process ends with the test."""
    monkeypatch.delenv("VISUAL_DECATHLON_NODE", raising=False)  # so that what it sets ends with the test, too
    made = []

    def make(folders: Folders) -> NodeWorker:
        server = FileServer()
        made.append(NodeWorker(folders, "cpu", {}, server.digest, server.read))
        return made[-1]

    yield make
    for one in made:
        if one._worker is not None:
            one._worker.end(now=True)


def test_a_file_travels_once_and_in_chunks(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(node_files, "CHUNK", 1000)
    (tmp_path / "weights").write_bytes(content := os.urandom(2500))
    offer, kept, read = Offer.of(tmp_path / "weights"), tmp_path / "kept", []
    server = FileServer()

    def reading(path: Path, start: int) -> bytes:
        read.append(start)
        return server.read(path, start)

    assert local_copy(offer, server.digest, reading, kept) == (tmp_path / "weights", False), "seen, so not copied"
    here, fetched = local_copy(unseen(offer), server.digest, reading, kept)
    assert fetched and here.parent == kept and here.read_bytes() == content and read == [0, 1000, 2000, 2500]
    assert local_copy(unseen(offer), server.digest, reading, kept) == (here, False) and len(read) == 4
    here.write_bytes(content[:-1])  # cut off
    assert local_copy(unseen(offer), server.digest, reading, kept) == (here, True) and here.read_bytes() == content


def test_a_file_that_changes_on_its_way_is_not_kept(tmp_path: Path):
    (tmp_path / "weights").write_bytes(b"abc")
    offer, server = Offer.of(tmp_path / "weights"), FileServer()
    with pytest.raises(OSError, match="changed while it was sent"):
        local_copy(unseen(offer), server.digest, lambda path, start: b"" if start else b"abd", tmp_path / "kept")
    assert [path.name for path in (tmp_path / "kept").glob("[!.]*")] == []


def test_files_without_use_are_removed(tmp_path: Path):
    for name, age in (("old", node_files.KEPT + 60), ("young", node_files.KEPT - 60)):
        (tmp_path / name).touch()
        past = (tmp_path / name).stat().st_mtime - age
        os.utime(tmp_path / name, (past, past))
    remove_unused(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["young"]


def test_every_path_of_a_job_moves_and_its_hash_stays(planned, bench, tmp_path: Path):
    """The jobs of a method with a training over all domains: pretraining, training over all, and a run."""
    _, _, runs = planned("res_adapter_finetune_all", domains=["svhn", "dtd"])
    folders, other = Folders(tmp_path / "results", bench.cache), Folders(Path("/there/r"), Path("/there/c"))
    run = replace(runs[0], finished=True)
    jobs = [PretrainingJob(run.backbone), JointTrainingJob(run.joint), RunJob(run, folders.results, WHO)]
    for job in jobs:
        moved, paths = folders.moved(job, other), []
        with_paths(moved, lambda path, paths=paths: paths.append(path) or path)
        assert paths and all(path.is_relative_to("/there") for path in [*paths, *moved.writes, moved.checkpoint])
        assert len(moved.reads) == len(set(moved.reads)) == len(job.reads)
        assert moved.key == job.key and moved.dependencies == job.dependencies
    assert folders.reworded(f"{folders.results}/x and {bench.cache}/y", other) == "/there/r/x and /there/c/y"


def test_a_node_without_the_files_writes_what_a_local_run_writes(
    bench, finished: Path, planned, worker, node_home: Path, tmp_path: Path
):
    (run,) = planned("res_adapter", domains=["svhn"])[2]
    folders = Folders(tmp_path / "results", bench.cache)
    job = RunJob(run, folders.results, WHO)
    offered = list(map(unseen, offers([*job.reads, job.checkpoint])))
    assert {offer.path.name for offer in offered} == {
        run.backbone.path.name, "pixels.arrow", "contents.npy", "manifest.json"
    }  # fmt: skip
    messages, outcome = executed(worker(folders), job, offered)
    assert [row["epoch"] for row in messages if "epoch" in row] == [1, 2]
    assert messages[0]["doing"] == "fetching files" and outcome.end.error is None
    packages = ResultsFolder(folders.results).environment(environment())
    assert list(outcome.files) == [job.writes[0], packages, job.writes[-1]]
    assert outcome.files[packages].decode() == installed()
    assert not folders.results.exists(), "only the driver writes there"
    assert [path.name for path in node_home.glob("[!.]*")] == ["files"] and not list(node_home.glob(".job*"))
    there = ResultsFolder(finished)
    adapters, _, record = outcome.files.values()
    assert adapters == there.adapters(run.hash).read_bytes()
    (tmp_path / f"{run.hash}.parquet").write_bytes(record)
    one, other = read_record(tmp_path / f"{run.hash}.parquet"), read_record(there.record(run.hash))
    assert (one["node"], other["node"]) == (platform.node(), None)
    known = set(vars(WHO)) | {"command", "node"}
    assert {name: one[name] for name in one if name not in TIMES | known} == {
        name: other[name] for name in other if name not in TIMES | known
    }


def test_a_lost_run_goes_on_from_its_last_checkpoint_that_travelled(
    bench, finished: Path, planned, worker, tmp_path: Path, monkeypatch
):
    monkeypatch.setattr(node, "CHECKPOINT_EVERY", 0.0)
    (run,) = planned("finetune", domains=["svhn"])[2]
    folders = Folders(tmp_path / "results", bench.cache)
    job = RunJob(run, folders.results, WHO)
    messages, outcome = executed(worker(folders), job, offers(job.reads))
    sent = [message.content for message in messages if isinstance(message, Checkpoint)]
    assert len(sent) == 2, "one after each epoch"
    job.checkpoint.parent.mkdir(parents=True)
    job.checkpoint.write_bytes(sent[0])
    messages, again = executed(worker(folders), job, offers([*job.reads, job.checkpoint]))
    assert [row["epoch"] for row in messages if isinstance(row, dict) and "epoch" in row] == [2]
    adapters = job.writes[0]
    assert again.files[adapters] == outcome.files[adapters]
    assert job.checkpoint.read_bytes() == sent[0], "the driver removes it"


def test_what_goes_wrong_names_the_driver_s_paths(bench, finished: Path, planned, worker, tmp_path: Path):
    (run,) = planned("res_adapter", domains=["svhn"])[2]
    folders = Folders(tmp_path / "results", tmp_path / "cache")
    moved = Folders(finished, bench.cache).moved(RunJob(run, finished, WHO), folders)
    offered = offers(RunJob(run, finished, WHO).reads)
    place = lambda path: Folders(finished, bench.cache).in_other(path, folders)
    for offer in offered:
        place(offer.path).parent.mkdir(parents=True, exist_ok=True)
        place(offer.path).write_bytes(offer.path.read_bytes()[: 200 if offer.path.suffix == ".safetensors" else None])
    _, outcome = executed(worker(folders), moved, offers(moved.reads))
    assert f"the backbone {moved.run.backbone.path} " in str(outcome.end.error) and outcome.files == {}


def test_a_node_whose_disk_is_full_says_so(bench, finished: Path, planned, worker, node_home: Path, monkeypatch):
    (run,) = planned("res_adapter", domains=["svhn"])[2]
    job = RunJob(run, finished / "none", WHO)

    def full(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    one = worker(Folders(finished / "none", bench.cache))
    monkeypatch.setattr(node, "make_folder", full)
    _, outcome = executed(one, job, offers(job.reads))
    assert isinstance(outcome.end.error, Unwritable)
    assert str(outcome.end.error) == f"{node_home} cannot be written (No space left on device)"


def test_a_file_that_does_not_arrive_is_no_full_disk(bench, finished: Path, planned, node_home: Path, tmp_path: Path):
    """The file server's machine lost it, or it changed meanwhile: the run is given out again."""
    (run,) = planned("res_adapter", domains=["svhn"])[2]
    job = RunJob(run, tmp_path, WHO)
    for broken in (FileNotFoundError(2, "No such file or directory"), OSError("it changed while it was sent")):

        def digest(path: Path, broken=broken) -> str:
            raise broken

        one = NodeWorker(Folders(tmp_path, bench.cache), "cpu", {}, digest, FileServer().read)
        _, outcome = executed(one, job, list(map(unseen, offers(job.reads))))
        assert outcome.end.error is None and outcome.end.lost.startswith("its files did not arrive (")


def test_software_that_differs_is_named():
    here = Software({"python": "3.12.1", "torch": "2.15.0"}, "abc")
    assert here.difference(here) == ""
    assert here.difference(here._replace(code="abd")) == "another version of this suite"
    other = Software({"python": "3.12.1", "torch": "2.13.0", "my-methods": "1.0"}, "abd")
    assert here.difference(other) == "torch 2.13.0 instead of 2.15.0, my-methods 1.0 instead of none"
    assert Software.here().versions["torch"] and len(Software.here().code) == 16
