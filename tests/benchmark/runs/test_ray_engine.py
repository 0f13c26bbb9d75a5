"""Runs on a Ray cluster: the same numbers as here, whatever is killed; every fault of a cluster is one sentence."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.benchmark.runs.test_local_engine import ROOT, Fake, Quiet
from tests.benchmark.runs.test_node import TIMES
from tests.processes import Processes, gone, until
from visual_decathlon.benchmark.records.store import read_records
from visual_decathlon.benchmark.runs.engines import JobEnded, ray_cluster
from visual_decathlon.benchmark.runs.engines import ray as ray_engine
from visual_decathlon.benchmark.runs.engines.node import Outcome, Software
from visual_decathlon.benchmark.runs.engines.ray import RayEngine
from visual_decathlon.benchmark.runs.scheduler import LOSSES, _Schedule
from visual_decathlon.datasets.errors import InputError, Unwritable

HEAD = """
import sys
from ray.cluster_utils import Cluster
small = dict(num_cpus=1, object_store_memory=80 * 2**20, include_dashboard=False)
cluster = Cluster(initialize_head=True, head_node_args=small)
node = cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
(raylet,) = node.all_processes["raylet"]
print(cluster.address, raylet.process.pid, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[int]:
    """Two nodes of one core each on this machine, the cluster of RAY_ADDRESS; gives the process of the second node."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install '.[ray]'")
    with pytest.MonkeyPatch.context() as variables:
        variables.setenv("RAY_AUTH_MODE", "disabled")  # whether or not the user has a token
        processes = Processes()  # its own: those of the fixture end with each test
        head = processes.start([sys.executable, "-c", HEAD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        address, node = next(line for line in head.stdout if line.count(" ") == 1 and ":" in line).split()
        variables.setenv("RAY_ADDRESS", address)
        yield int(node)
        head.communicate("")
        processes.end()


def finished_runs(results: Path) -> int:
    return len(list((results / "records").glob("[!.]*.parquet")))


def workers() -> list[int]:
    """Processes that execute jobs, below the actors of the cluster."""
    commands, parents = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            commands[int(folder.name)] = (folder / "cmdline").read_bytes()
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    actors = {pid for pid, command in commands.items() if command.startswith(b"ray::_Actor")}
    return [pid for pid, parent in parents.items() if parent in actors and b"spawn_main" in commands[pid]]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="Linux lists the workers and reports their end")
def test_a_stopped_driver_stops_the_cluster_s_work(cluster: int, bench, finished: Path, tmp_path: Path):
    longer = "width=0.125 epochs=400 pretrain.epochs=6 batch=8 pretrain.batch=8"
    run = bench.start("--engine", "ray", method="finetune", settings=longer, results=tmp_path)
    until(run, lambda: len(workers()) == 2)
    left = [gone(worker) for worker in workers()]
    os.killpg(run.pid, signal.SIGINT)
    out, _ = run.communicate()
    assert (run.returncode, out.splitlines()[-1]) == (130, "stopped; the same command goes on where it was")
    assert all(line.startswith("[") for line in out.splitlines()[:-1]), out
    for ended in left:
        ended()


@pytest.mark.slow
def test_a_cluster_without_a_gpu_says_so(cluster: int, bench, tmp_path: Path):
    done = bench("--engine", "ray", "--device", "cuda", results=tmp_path)
    assert done.sentence == ("the Ray cluster has no GPU for these runs; add a node with one, or leave DEVICE= out")


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="Linux lists the workers and reports their end")
def test_a_killed_node_and_a_killed_driver_lose_nothing(cluster: int, bench, finished: Path, tmp_path: Path):
    """The records are those of the local engine to the bit, but for times; none is written twice."""
    words, places = ("--engine", "ray"), {"results": tmp_path / "results"}
    run = bench.start(*words, **places)
    until(run, lambda: finished_runs(tmp_path / "results") >= 4)
    os.kill(cluster, signal.SIGKILL)
    before = finished_runs(tmp_path / "results")
    until(run, lambda: finished_runs(tmp_path / "results") >= before + 4)
    left = [gone(worker) for worker in workers()]
    run.kill()
    assert left
    for ended in left:
        ended()
    again = bench(*words, **places)
    assert again.code == 0, again.err
    assert "of 30 runs are finished already" in again.out and "raylet" not in again.out + again.err
    there, here = ({r["hash"]: r for r in read_records([folder])} for folder in (finished, tmp_path / "results"))
    assert len(here) == finished_runs(tmp_path / "results") == 30
    for hash, record in there.items():
        same = record.keys() - TIMES - {"command", "backbone_source", "workers", "node"}
        assert {name: here[hash][name] for name in same} == {name: record[name] for name in same}
        if not record["source_cell"]:
            one, other = (folder / "adapters" / f"{hash}.safetensors" for folder in (finished, tmp_path / "results"))
            assert one.read_bytes() == other.read_bytes()


def test_no_cluster_and_no_ray_are_sentences(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ray_cluster.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    with pytest.raises(InputError, match="run the command on a machine of the cluster, with host:port"):
        ray_cluster.check_cluster()
    for address in ("localhost", "[::1]:x", "127.0.0.1:99999999", "head:0", ":", ":6379", "AUTO"):
        monkeypatch.setenv("RAY_ADDRESS", address)
        sentence = f"^RAY_ADDRESS={re.escape(address)} is no address; give host:port, as head:6379, or auto"
        with pytest.raises(InputError, match=sentence):
            ray_cluster.check_cluster()
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(
        InputError, match=r"^RAY_ADDRESS=127\.0\.0\.1:1: no cluster answers \(.*; give the host:port that"
    ):
        ray_cluster.connected()
    for address in ("", " auto ", "local"):
        monkeypatch.setenv("RAY_ADDRESS", address)
        ray_cluster.check_cluster()
    monkeypatch.setattr(ray_cluster.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"engine=ray needs the extra of this name: `pip install '\.\[ray\]'`"):
        ray_cluster.connected()


def test_a_wrong_address_is_told_before_anything_is_prepared(bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("ray", reason="Ray is not installed: pip install '.[ray]'")
    monkeypatch.setenv("RAY_ADDRESS", "head")
    done = bench("--engine", "ray", "--cache", tmp_path / "cache", results=tmp_path / "results")
    assert done.sentence == "RAY_ADDRESS=head is no address; give host:port, as head:6379, or auto"
    assert list(tmp_path.iterdir()) == []


class Scripted:
    """An engine that ends every job in the ways of a list, one after the other."""

    def __init__(self, *endings: dict):
        self.endings, self.queue = list(endings), []

    def submit(self, job) -> None:
        self.queue.append(job)

    def events(self) -> Iterator[JobEnded]:
        while self.queue:
            yield JobEnded(self.queue.pop(0), **self.endings.pop(0))


def test_a_lost_job_is_given_out_again_at_once_and_fails_after_three_losses(tmp_path: Path):
    lost, done = {"lost": "the node was lost (a)"}, {"result": "x"}
    for losses in range(LOSSES):
        screen, failures = Quiet(), []
        _Schedule([Fake("x", tmp_path)], Scripted(*[lost] * losses, done), screen, failures).run()
        assert failures == [] and screen.ended[-1] == "did x" and len(screen.ended) == losses + 1
    jobs = [Fake("x", tmp_path), Fake("y", tmp_path), Fake("above", tmp_path, dependencies=frozenset({"x"}))]
    screen, failures = Quiet(), []
    _Schedule(jobs, Scripted(lost, done, lost, lost), screen, failures).run()
    assert failures == [f"doing x: lost 3 times: {'; '.join(['the node was lost (a)'] * 3)}"]
    assert screen.ended[1] == "did x" and screen.ended[-1] == "doing x: not done"  # y's result is x


class Cluster:
    """What the engine uses of Ray, for a cluster of two nodes that is not there."""

    class exceptions:
        RayError = RuntimeError
        RayTaskError = KeyError

    def __init__(self):
        self.alive, self.killed = {"a": True, "b": True}, []

    def nodes(self) -> list[dict]:
        about = {"Resources": {"CPU": 1.0}}
        return [
            {"NodeID": id, "NodeManagerHostname": f"host-{id}", "Alive": on} | about for id, on in self.alive.items()
        ]

    def kill(self, actor: Any, no_restart: bool = True) -> None:
        self.killed.append(actor)


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RayEngine:
    """On the imagined cluster, with an idle actor on each node."""
    made = RayEngine(None, "cpu", tmp_path / "results", tmp_path / "cache")
    made._ray = Cluster()
    made._look()
    for node in "ab":
        made._members.append(ray_engine._Member(f"actor on {node}", node, fit=True))
    return made


def test_a_node_with_other_software_is_left_out(engine: RayEngine):
    ours = Software.here()
    one, other = engine._members
    engine._admit(one, ours)
    assert one.fit and engine._slots == {"a": 1, "b": 1} and engine.count == 2
    other.fit = False
    engine._admit(other, ours._replace(versions=ours.versions | {"torch": "0.1"}))
    assert engine._ray.killed == ["actor on b"] and engine._members == [one]
    sentence = f"the node host-b is left out: it has torch 0.1 instead of {ours.versions['torch']}; "
    assert engine._notes == [f"{sentence}install the same there, and it is used"]
    engine._look()
    assert engine._slots == {"a": 1} and engine.count == 1


def test_a_node_with_a_full_disk_loses_its_jobs_to_the_others(engine: RayEngine, tmp_path: Path):
    one, other = engine._members
    full = Outcome(JobEnded(None, error=Unwritable("/tmp/x cannot be written (No space left on device)")), {})
    ended = engine._finished(other, Fake("x", tmp_path), full)
    assert ended.lost == "/tmp/x cannot be written (No space left on device) on the node host-b"
    assert engine._members == [one] and engine._notes == [f"{ended.lost}, which is left out"]
    engine._finished(one, Fake("x", tmp_path), full)
    with pytest.raises(InputError, match=r"on the node host-b, which is left out; .* on the node host-a"):
        engine._hire()


def test_an_actor_on_a_refused_node_gets_no_other_job(engine: RayEngine, tmp_path: Path):
    one, other = engine._members
    engine._members.append(third := ray_engine._Member("another on b", "b", fit=True))
    full = Outcome(JobEnded(None, error=Unwritable("/tmp/x cannot be written (No space left on device)")), {})
    other.job, third.job = Fake("x", tmp_path), Fake("y", tmp_path)
    engine._ray.get = lambda said: said
    other.awaited, third.awaited = iter([[full]]), iter([[Outcome(JobEnded(None, result="y"), {})]])
    (lost,) = engine._receive(other)
    assert lost.lost and engine._members == [one, third], "it runs to its end"
    (end,) = engine._receive(third)
    assert end.result == "y" and engine._members == [one] and engine._ray.killed == ["actor on b", "another on b"]


def test_a_defect_in_an_actor_is_no_loss(engine: RayEngine, tmp_path: Path):
    one, _ = engine._members
    one.job, one.awaited = Fake("x", tmp_path), iter(["a reference"])

    def broken(said: str):
        raise KeyError("Traceback of the actor")

    engine._ray.get = broken
    (end,) = engine._receive(one)
    assert end.lost is None and "Traceback of the actor" in end.trace
    assert str(end.error) == "doing x: ended by a defect on host-a, whose traceback is above; the other runs went on"


def test_a_lost_worker_is_told_from_a_lost_node(engine: RayEngine, tmp_path: Path):
    one, other = engine._members
    one.job, other.job = Fake("x", tmp_path), Fake("y", tmp_path)
    (end,) = engine._lose(one, RuntimeError("The actor died.\n\tpid: 3\nThe worker was killed by SIGKILL."))
    assert end == JobEnded(one.job, lost="its worker died (host-a: The worker was killed by SIGKILL)")
    engine._ray.alive["b"] = False
    (end,) = engine._lose(other, RuntimeError("gone"))
    assert end.lost == "the node was lost (host-b: gone)" and engine._members == [] and engine._slots == {"a": 1}


def test_a_node_that_starts_no_actor_is_left_out_after_some_tries(engine: RayEngine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(engine, "_start", lambda node: ray_engine._Member(f"actor on {node}", node, awaited=node))
    engine._queue.extend([None] * 2)
    engine._members.clear()
    engine._hire()
    for tries in range(1, ray_engine.STARTS + 1):
        (other,) = (member for member in engine._members if member.node == "b")
        assert (
            engine._notes == [] and list(engine._lose(other, RuntimeError("x\nModuleNotFoundError: no suite."))) == []
        )
        engine._hire()
        assert [member.node for member in engine._members] == ["a"], "not again at once"
        if tries < ray_engine.STARTS:
            engine._failed["b"][-1] -= 2 * ray_engine.LOOK
            engine._hire()
    sentence = "the node host-b is left out: the suite does not start there (ModuleNotFoundError: no suite)"
    assert engine._notes == [sentence] and engine._slots == {"a": 1}


def test_a_cluster_whose_head_is_lost_ends_the_command(engine: RayEngine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ray_cluster.time, "sleep", lambda seconds: None)
    engine._address = "127.0.0.1:1"
    with pytest.raises(InputError, match=r"the Ray cluster at 127\.0\.0\.1:1 no longer answers; start it again"):
        engine._look()
    engine.end(now=True)  # does not wait for it


def test_what_cannot_be_written_here_ends_the_command(engine: RayEngine, tmp_path: Path):
    (tmp_path / "results").write_bytes(b"")
    ended = engine._finished(
        engine._members[0], Fake("x", tmp_path), Outcome(JobEnded(None), {tmp_path / "results" / "r": b""})
    )
    assert isinstance(ended.error, InputError) and "a file is where a folder is needed" in str(ended.error)


def test_the_slurm_example_starts_ray_on_every_machine_and_the_bench_on_one(command, tmp_path: Path):
    tools = tmp_path / ".venv" / "bin"
    tools.mkdir(parents=True)
    for name, does in (("ray", ":"), ("scontrol", "printf 'node7\\nnode8\\n'"), ("srun", 'echo "$RAY_ADDRESS" "$@"')):
        (tools / name).write_text(f"#!/bin/bash\n{does}\n")
        (tools / name).chmod(0o755)
    job = {"SLURM_SUBMIT_DIR": tmp_path, "SLURM_JOB_NODELIST": "node[7-8]", "SLURM_JOB_ID": "12345"}
    job |= {"SLURM_JOB_NUM_NODES": "2", "SLURM_CPUS_PER_TASK": "32"}
    script = ROOT / "benchmark" / "ray.sbatch"
    done = command(["bash", str(script), "METHOD=res_adapter,lora", "SEEDS=3"], **{k: str(v) for k, v in job.items()})
    assert (done.code, done.err) == (0, "")
    assert done.out.split() == [
        *("node7:22345", "--nodes=2", "ray", "symmetric-run", "--address", "node7:22345", "--min-nodes", "2"),
        *("--num-cpus", "32", "--", "make", "bench", "ENGINE=ray", "METHOD=res_adapter,lora", "SEEDS=3"),
    ]
