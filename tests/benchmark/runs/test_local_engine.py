"""Deaths, errors and full disks affect only their own job; signals stop a command in order."""

import atexit
import errno
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.processes import gone
from visual_decathlon.benchmark.runs.engines import Engine
from visual_decathlon.benchmark.runs.engines.local import LocalEngine
from visual_decathlon.benchmark.runs.scheduler import _Schedule
from visual_decathlon.benchmark.runtime.memory import is_out_of_memory
from visual_decathlon.datasets import io
from visual_decathlon.datasets.errors import InputError, Unwritable

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Fake:
    """A job that writes its key to `folder`/begun, and then ends in the way `ending`."""

    key: str
    folder: Path
    ending: str = "done"
    dependencies: frozenset[str] = frozenset()
    epochs: int = 1
    estimated_cost: int = 1

    def describe(self) -> str:
        return f"doing {self.key}"

    def summary(self, result: str) -> str:
        return f"did {result}"

    def execute(self, device: str, report) -> str:
        with open(self.folder / "begun", "a") as file:
            file.write(f"{self.key}\n")
        report({"epoch": 1, "loss": 0.0, "train_top1": 0.0})
        tries = (self.folder / "begun").read_text().split().count(self.key)
        if self.ending == "killed" or (self.ending == "killed once" and tries == 1):
            os.kill(os.getpid(), signal.SIGKILL)
        if self.ending == "large":
            kept = [b"x" * 2**20 for _ in range(40)]
            lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
            (huge,) = (line.split()[1] for line in lines if line.startswith("AnonHugePages"))
            (self.folder / "huge").write_text(huge)  # kB
            del kept
        if self.ending == "slow to leave":
            atexit.register((self.folder / "taken apart").touch)
        if self.ending == "out of memory":
            raise MemoryError
        if self.ending == "defect":
            raise ZeroDivisionError("by zero")
        if self.ending == "fault":
            raise InputError("the data are wrong")
        if self.ending == "full":
            raise Unwritable("results/x cannot be written (No space left on device); free some space")
        return self.key


class Quiet:
    """A screen that prints nothing and keeps the messages."""

    def __init__(self):
        self.ended, self.epochs = [], []

    def begin(self, *_) -> None:
        pass

    def epoch(self, key: str, row: dict, work: float) -> None:
        self.epochs.append(key)

    def doing(self, key: str, what: str, done: float, of: int) -> None:
        assert what == "starting"

    def end(self, key: str, text: str) -> None:
        self.ended.append(text)


def scheduled(jobs: list[Fake], count: int = 2) -> tuple[list[str], Quiet, list[str]]:
    """Run the jobs; returns (failures, screen, keys in the order in which they began)."""
    failures, screen = [], Quiet()
    with LocalEngine(count, "cpu") as engine:
        _Schedule(jobs, engine, screen, failures).run()
    return failures, screen, (jobs[0].folder / "begun").read_text().split()


def test_a_killed_process_fails_only_its_own_job(tmp_path: Path):
    jobs = [Fake("bad", tmp_path, "killed"), *(Fake(name, tmp_path) for name in "abcde")]
    jobs.append(Fake("above", tmp_path, dependencies=frozenset({"bad"})))
    failures, screen, begun = scheduled(jobs)
    assert sorted(begun) == ["a", "b", "bad", "bad", "c", "d", "e"], "jobs that depend on it are not run"
    assert begun[-1] == "bad", "the second time it is alone"
    assert [f"did {name}" in screen.ended for name in "abcde"] == [True] * 5
    (failure,) = failures
    assert failure.startswith("doing bad: its process was killed, most likely because memory ran out, the second time")


def test_a_process_killed_once_is_no_failure(tmp_path: Path):
    jobs = [Fake("base", tmp_path, "killed once"), Fake("above", tmp_path, dependencies=frozenset({"base"}))]
    failures, screen, begun = scheduled(jobs)
    assert failures == [] and begun == ["base", "base", "above"]
    assert screen.ended[1:] == ["did base", "did above"] and "tried once more" in screen.ended[0]


def test_other_ends_do_not_stop_the_rest(tmp_path: Path):
    """Out of memory is retried as a death is; a defect keeps its traceback; an input error is its sentence."""
    endings = ("out of memory", "defect", "fault", "done")
    failures, screen, begun = scheduled(
        [Fake(ending.replace(" ", "_"), tmp_path, ending) for ending in endings], count=1
    )
    assert begun == ["out_of_memory", "defect", "fault", "done", "out_of_memory"]
    trace, defect, failure, memory = failures
    assert trace.startswith("Traceback") and trace.endswith("\nZeroDivisionError: by zero")
    assert defect.startswith("doing defect: ended by a defect")
    assert failure == "the data are wrong"
    assert memory.startswith("doing out_of_memory: memory ran out, the second time")
    assert "did done" in screen.ended and screen.epochs == begun


def test_an_idle_process_exits_at_once(tmp_path: Path):
    """Python's own exit takes a second when torch is loaded, and the command would wait for it."""
    failures, screen, begun = scheduled([Fake("a", tmp_path, "slow to leave")])
    assert (failures, screen.ended, begun) == ([], ["did a"], ["a"])
    assert not (tmp_path / "taken apart").exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="huge pages are listed in /proc")
def test_a_process_computes_in_huge_pages(tmp_path: Path):
    if "[never]" in Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text():
        pytest.skip("this system gives none")
    failures, screen, _ = scheduled([Fake("a", tmp_path, "large")])
    assert (failures, screen.ended) == ([], ["did a"])
    assert int((tmp_path / "huge").read_text()) >= 2048  # one of them: a system short of memory gives no more


def test_a_full_disk_stops_at_the_first(tmp_path: Path):
    jobs = [Fake("first", tmp_path, "full"), *(Fake(str(i), tmp_path) for i in range(9))]
    with pytest.raises(Unwritable, match=r"No space left on device.*; then the same command goes on where it was$"):
        scheduled(jobs, count=1)
    assert (tmp_path / "begun").read_text().split() == ["first"]


def test_the_local_engine_has_the_interface_of_an_engine():
    members = {*Engine.__annotations__, *(name for name in vars(Engine) if not name.startswith("_"))}
    assert members >= {"count", "device", "prepare", "submit", "events", "end"}
    with LocalEngine(3, "cpu") as engine:
        assert [name for name in members if not hasattr(engine, name)] == []
        assert (engine.count, engine.device) == (3, "cpu")


def test_a_process_that_dies_while_it_is_idle_is_replaced(tmp_path: Path):
    with LocalEngine(1, "cpu") as engine:
        for key in "ab":
            engine.submit(Fake(key, tmp_path))
            *_, end = engine.events()
            assert end.result == key
            engine._idle[0].process.kill()
            engine._idle[0].process.join()


def test_prepared_processes_execute_the_jobs(tmp_path: Path):
    """Those without a job are ended with the others."""
    with LocalEngine(2, "cpu") as engine:
        engine.prepare(most=9)
        processes = [worker.process for worker in engine._idle]
        engine.prepare(most=9)
        assert [worker.process for worker in engine._idle] == processes and len(processes) == 2
        engine.submit(Fake("a", tmp_path))
        *_, end = engine.events()
        assert end.result == "a" and {worker.process for worker in engine._idle} == set(processes)
        ended = [gone(process.pid) for process in processes]
    for wait in ended:
        wait()
    with LocalEngine(9, "cpu") as engine:
        engine.prepare(most=1)
        assert len(engine._idle) == 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES])
def test_a_disk_that_cannot_be_written_is_unwritable(number: int, tmp_path: Path, monkeypatch):
    def full(*_) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(io, "_fill", full)
    with pytest.raises(Unwritable, match=os.strerror(number)):
        io.write_bytes(b"x", tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_the_way_of_one_file_is_no_full_disk(tmp_path: Path):
    (tmp_path / "x").mkdir()
    with pytest.raises(InputError) as caught:
        io.write_bytes(b"x", tmp_path / "x")
    assert not isinstance(caught.value, Unwritable)


def test_every_out_of_memory_error_is_known():
    class OutOfMemoryError(RuntimeError):
        """The name of torch's error of a GPU."""

    no_room = "[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory"
    assert all(map(is_out_of_memory, (MemoryError(), OutOfMemoryError("CUDA out of memory"), RuntimeError(no_room))))
    assert not is_out_of_memory(RuntimeError("shapes differ"))


# A command without torch, with a child process: it prints that it is ready, and waits.
WAITING = """
import signal, sys, types
from visual_decathlon.benchmark.cli import main as command
from visual_decathlon.benchmark.runs.failures import print_failures_at_end
from visual_decathlon.datasets.child_processes import block_stop_signals
from multiprocessing import get_context

def wait(args):
    with print_failures_at_end() as failures:
        failures.append("an earlier failure")
        with block_stop_signals():
            child = get_context("spawn").Process(target=signal.pause)
            child.start()
        try:
            print("ready", child.pid, flush=True)
            signal.pause()
        finally:
            print("child", child.exitcode, flush=True)
            child.kill()
            child.join()
            print("tidied", flush=True)

waiting = types.SimpleNamespace(run=wait, add_arguments=lambda parser: None)
sys.modules["visual_decathlon.benchmark.cli.methods"] = waiting
if __name__ == "__main__":
    sys.exit(command.main(["methods"]))
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGXCPU", "SIGUSR1"])
def test_every_stopping_signal_ends_a_command_alike(name: str, tmp_path: Path):
    """The signal is sent to the whole group and to the process, as `timeout` and make do it."""
    number = getattr(signal, name)
    (tmp_path / "waiting_command.py").write_text(WAITING)
    options = {"preexec_fn": lambda: signal.signal(number, signal.SIG_DFL), "start_new_session": True}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.Popen([sys.executable, tmp_path / "waiting_command.py"], env=environment, **options, **streams)
    assert run.stdout.readline().startswith("ready")
    os.killpg(run.pid, number)
    run.send_signal(number)
    out, err = run.communicate()
    assert run.returncode == 128 + number
    assert out.splitlines() == ["child None", "tidied"], "the child did not get the signal, and was ended"
    assert err.splitlines() == ["an earlier failure", "stopped; the same command goes on where it was"]


def test_an_ignored_signal_stays_ignored(tmp_path: Path):
    """As with nohup: a closed terminal does not stop the command."""
    script = (
        "import os, signal\nfrom visual_decathlon.benchmark.runtime.stop import stoppable\n"
        "with stoppable():\n    os.kill(os.getpid(), signal.SIGHUP)\nprint('went on')\n"
    )
    ignored = lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, preexec_fn=ignored, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "went on\n", "")
