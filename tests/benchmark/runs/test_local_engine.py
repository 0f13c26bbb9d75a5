"""What happens to one job is that job's alone: deaths, faults, full disks, and the signals that stop a command."""

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
from visual_decathlon.benchmark.runs.engines.local import Workers, memory_is_out
from visual_decathlon.benchmark.runs.scheduler import _Schedule
from visual_decathlon.datasets import io
from visual_decathlon.datasets.errors import InputError, Unwritable

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Fake:
    """A job that notes in `folder` that it began, and then ends as `how` says."""

    key: str
    folder: Path
    how: str = "done"
    needs: frozenset[str] = frozenset()
    epochs: int = 1
    work: int = 1

    def describe(self) -> str:
        return f"doing {self.key}"

    def summary(self, result: str) -> str:
        return f"did {result}"

    def execute(self, device: str, report) -> str:
        with open(self.folder / "begun", "a") as file:
            file.write(f"{self.key}\n")
        report({"epoch": 1, "loss": 0.0, "train_top1": 0.0})
        tries = (self.folder / "begun").read_text().split().count(self.key)
        if self.how == "killed" or (self.how == "killed once" and tries == 1):
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "large":
            kept = [b"x" * 2**20 for _ in range(40)]
            lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
            (huge,) = (line.split()[1] for line in lines if line.startswith("AnonHugePages"))
            (self.folder / "huge").write_text(huge)  # kB
            del kept
        if self.how == "slow to leave":
            atexit.register((self.folder / "taken apart").touch)
        if self.how == "out of memory":
            raise MemoryError
        if self.how == "defect":
            raise ZeroDivisionError("by zero")
        if self.how == "fault":
            raise InputError("the data are wrong")
        if self.how == "full":
            raise Unwritable("results/x cannot be written (No space left on device); free some space")
        return self.key


class Quiet:
    """In place of the screen."""

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
    """(faults, screen, keys as they began)"""
    faults, screen = [], Quiet()
    with Workers(count, "cpu") as pool:
        _Schedule(jobs, pool, screen, faults).run()
    return faults, screen, (jobs[0].folder / "begun").read_text().split()


def test_a_killed_process_is_the_fault_of_its_job_alone(tmp_path: Path):
    jobs = [Fake("bad", tmp_path, "killed"), *(Fake(name, tmp_path) for name in "abcde")]
    jobs.append(Fake("above", tmp_path, needs=frozenset({"bad"})))
    faults, screen, begun = scheduled(jobs)
    assert sorted(begun) == ["a", "b", "bad", "bad", "c", "d", "e"], "what stands on it is not run"
    assert begun[-1] == "bad", "the second time it is alone"
    assert [f"did {name}" in screen.ended for name in "abcde"] == [True] * 5
    (fault,) = faults
    assert fault.startswith("doing bad: its process was killed, mostly for want of memory, the second time")


def test_a_process_killed_once_is_no_fault(tmp_path: Path):
    jobs = [Fake("base", tmp_path, "killed once"), Fake("above", tmp_path, needs=frozenset({"base"}))]
    faults, screen, begun = scheduled(jobs)
    assert faults == [] and begun == ["base", "base", "above"]
    assert screen.ended[1:] == ["did base", "did above"] and "tried once more" in screen.ended[0]


def test_other_ends_leave_the_rest_to_go_on(tmp_path: Path):
    """Memory that ran out is tried again as a death is; a defect keeps its trace; a fault is its sentence."""
    hows = ("out of memory", "defect", "fault", "done")
    faults, screen, begun = scheduled([Fake(how.replace(" ", "_"), tmp_path, how) for how in hows], count=1)
    assert begun == ["out_of_memory", "defect", "fault", "done", "out_of_memory"]
    trace, defect, fault, memory = faults
    assert trace.startswith("Traceback") and trace.endswith("\nZeroDivisionError: by zero")
    assert defect.startswith("doing defect: ended by a defect")
    assert fault == "the data are wrong"
    assert memory.startswith("doing out_of_memory: memory ran out, the second time")
    assert "did done" in screen.ended and screen.epochs == begun


def test_a_process_with_nothing_left_to_do_is_gone_at_once(tmp_path: Path):
    """With torch in it Python's own way out takes a second, for which the command would wait."""
    faults, screen, begun = scheduled([Fake("a", tmp_path, "slow to leave")])
    assert (faults, screen.ended, begun) == ([], ["did a"], ["a"])
    assert not (tmp_path / "taken apart").exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="huge pages are told in /proc")
def test_what_a_process_computes_in_lies_in_huge_pages(tmp_path: Path):
    if "[never]" in Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text():
        pytest.skip("this system gives none")
    faults, screen, _ = scheduled([Fake("a", tmp_path, "large")])
    assert (faults, screen.ended) == ([], ["did a"])
    assert int((tmp_path / "huge").read_text()) >= 2048  # one of them: a system short of memory gives no more


def test_a_full_disk_stops_at_the_first(tmp_path: Path):
    jobs = [Fake("first", tmp_path, "full"), *(Fake(str(i), tmp_path) for i in range(9))]
    with pytest.raises(Unwritable, match=r"No space left on device.*; then the same command goes on where it was$"):
        scheduled(jobs, count=1)
    assert (tmp_path / "begun").read_text().split() == ["first"]


def test_a_process_that_dies_while_it_waits_is_replaced(tmp_path: Path):
    with Workers(1, "cpu") as pool:
        for key in "ab":
            pool.submit(Fake(key, tmp_path))
            *_, end = pool.events()
            assert end.result == key
            pool._idle[0].process.kill()
            pool._idle[0].process.join()


def test_processes_that_are_prepared_are_the_ones_that_do_the_jobs(tmp_path: Path):
    """And without a job they are ended with the others."""
    with Workers(2, "cpu") as pool:
        pool.prepare(most=9)
        processes = [worker.process for worker in pool._idle]
        pool.prepare(most=9)
        assert [worker.process for worker in pool._idle] == processes and len(processes) == 2
        pool.submit(Fake("a", tmp_path))
        *_, end = pool.events()
        assert end.result == "a" and {worker.process for worker in pool._idle} == set(processes)
        ended = [gone(process.pid) for process in processes]
    for wait in ended:
        wait()
    with Workers(9, "cpu") as pool:
        pool.prepare(most=1)
        assert len(pool._idle) == 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES])
def test_a_place_that_takes_nothing_is_told_apart(number: int, tmp_path: Path, monkeypatch):
    def full(*_) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(io, "_fill", full)
    with pytest.raises(Unwritable, match=os.strerror(number)):
        io.write_bytes(b"x", tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_what_is_in_the_way_of_one_file_is_no_full_disk(tmp_path: Path):
    (tmp_path / "x").mkdir()
    with pytest.raises(InputError) as caught:
        io.write_bytes(b"x", tmp_path / "x")
    assert not isinstance(caught.value, Unwritable)


def test_memory_that_ran_out_is_known_by_each_of_its_errors():
    class OutOfMemoryError(RuntimeError):
        """As torch names a GPU's."""

    no_room = "[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory"
    assert all(map(memory_is_out, (MemoryError(), OutOfMemoryError("CUDA out of memory"), RuntimeError(no_room))))
    assert not memory_is_out(RuntimeError("shapes differ"))


# A command without torch: it says that it is ready, and waits. Its process and the drawing one below it write no line.
WAITING = """
import signal, sys, types
from visual_decathlon.benchmark.cli import main as command
from visual_decathlon.benchmark.runs.faults import told_at_the_end
from visual_decathlon.datasets.children import sheltered
from multiprocessing import get_context

def wait(args):
    with told_at_the_end() as faults:
        faults.append("a fault of before")
        with sheltered():
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
    """Sent to the whole group and to the process, as `timeout` and make do it."""
    number = getattr(signal, name)
    (tmp_path / "waiting_command.py").write_text(WAITING)
    heard = {"preexec_fn": lambda: signal.signal(number, signal.SIG_DFL), "start_new_session": True}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.Popen([sys.executable, tmp_path / "waiting_command.py"], env=environment, **heard, **streams)
    assert run.stdout.readline().startswith("ready")
    os.killpg(run.pid, number)
    run.send_signal(number)
    out, err = run.communicate()
    assert run.returncode == 128 + number
    assert out.splitlines() == ["child None", "tidied"], "the child did not hear it, and was ended"
    assert err.splitlines() == ["a fault of before", "stopped; the same command goes on where it was"]


def test_what_was_ignored_stays_ignored(tmp_path: Path):
    """nohup: a closed terminal does not stop it."""
    script = (
        "import os, signal\nfrom visual_decathlon.benchmark.runtime.stop import stoppable\n"
        "with stoppable():\n    os.kill(os.getpid(), signal.SIGHUP)\nprint('went on')\n"
    )
    ignored = lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, preexec_fn=ignored, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "went on\n", "")
