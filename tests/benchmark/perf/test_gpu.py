"""`make gpu`, without a GPU: steps run one by one, each within its limit, and every row is kept."""

import dataclasses
import importlib
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from tests.benchmark import drawn_step
from tests.processes import gone
from visual_decathlon.benchmark.cli import gpu
from visual_decathlon.benchmark.cli.main import main
from visual_decathlon.benchmark.perf.gpu import facts, runner
from visual_decathlon.benchmark.perf.gpu.plan import BUDGET, PLAN, Step
from visual_decathlon.benchmark.perf.gpu.rows import row
from visual_decathlon.benchmark.perf.gpu.runner import run_plan, run_step

ROOT = Path(__file__).parents[3]


@pytest.fixture
def card(monkeypatch) -> None:
    """torch reports a GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


def drawn(step: Step, folder: Path, home: int) -> list[str]:
    """The command of a step that ends as its name says."""
    return [sys.executable, drawn_step.__file__, step.name, str(folder), str(home)]


def steps(*names: str, limit: float = 1e6, needs: float = 0) -> list[Step]:
    return [Step(name, f"about {name}", limit, "", needs) for name in names]


class Clock:
    """A clock that a test sets."""

    def __init__(self):
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_without_a_gpu_it_is_one_sentence_and_nothing_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    folders = ("--results", str(tmp_path / "results"), "--cache", str(tmp_path / "cache"))
    assert main(["gpu", *folders]) == 0
    out, err = capsys.readouterr()
    assert (out, err) == ("torch sees no GPU here, so nothing was tested, measured or written\n", "")
    assert list(tmp_path.iterdir()) == []


def test_nothing_heavy_is_imported_before_it_is_asked(processes):
    code = "import sys\nimport visual_decathlon.benchmark.cli.gpu\n"
    code += "print([m for m in ('torch', 'pandas', 'pyarrow', 'rich', 'numpy') "
    done = processes.run([sys.executable, "-c", code + "if m in sys.modules])"], cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


@pytest.mark.parametrize("package", ["torch", "msgspec", "pytest"])
def test_a_missing_package_is_named_with_where_to_put_it(package: str, card, tmp_path, monkeypatch, capsys):
    there = gpu.find_spec
    monkeypatch.setattr(gpu, "find_spec", lambda name: None if name == package else there(name))
    assert main(["gpu", "--results", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert f"has no package {package}; install it, or put a folder that holds it on PYTHONPATH" in err
    assert err.count("\n") == 1 and list(tmp_path.iterdir()) == []


def test_a_missing_import_of_a_package_is_named_too(card, tmp_path, monkeypatch, capsys):
    def absent(name: str):
        assert name == "fvcore.nn"
        raise ModuleNotFoundError("No module named 'iopath.common'", name="iopath.common")

    monkeypatch.setattr(gpu, "import_module", absent)
    assert main(["gpu", "--results", str(tmp_path)]) == 2
    assert "has no package iopath; " in capsys.readouterr().err


def test_an_unknown_step_is_one_sentence(capsys):
    assert main(["gpu", "--only", "step,nothing"]) == 2
    assert "ONLY=nothing: there is no step of this name; choose from step, small, tests" in capsys.readouterr().err


def test_the_plan_names_code_that_is_there_and_fits_its_budget():
    names = [step.name for step in PLAN]
    assert len(set(names)) == len(names) and names[:3] == ["step", "small", "tests"], "the most important first"
    for step in PLAN:
        module, _, function = step.work.partition(":")
        assert callable(getattr(importlib.import_module(module), function)), step
        assert 0 < step.needs <= step.limit < BUDGET <= 480
    assert sum(step.limit for step in PLAN[:4]) < BUDGET, "the first ones always have room"


def test_steps_run_in_order_and_a_failed_one_does_not_stop_the_others(tmp_path):
    received, ends = [], []
    names = ("ends", "refuses", "dies", "again")
    for step, end in run_plan(steps(*names), drawn, lambda *row: received.append(row), budget=1e6, cache=tmp_path):
        ends.append((step.name, end))
    assert ends == [
        *(("ends", ""), ("ends", "done"), ("refuses", ""), ("refuses", "failed: there is no room for it")),
        *(("dies", ""), ("dies", "failed: it ended with -9"), ("again", ""), ("again", "done")),
    ]
    assert [(step.name, row["what"]) for step, row in received] == [(name, f"of {name}") for name in names]
    assert list(tmp_path.iterdir()) == [], "each step's folder is gone"
    assert len({row["work"] for _, row in received}) == 4, "and was its own"


def test_a_step_that_hangs_is_ended_with_its_processes_and_keeps_its_rows(tmp_path):
    clock, received, pids = Clock(), [], []

    def keep(step: Step, content: dict) -> None:
        received.append((step.name, content["what"]))
        if "pids" in content:
            pids.extend(map(gone, content["pids"]))
            clock.now += 61

    plan = [*steps("hangs", limit=60), *steps("ends")]
    ends = [(step.name, end) for step, end in run_plan(plan, drawn, keep, budget=1e6, cache=tmp_path, clock=clock)]
    assert ends[1] == ("hangs", "ended: it took longer than its limit of 60 s") and ends[-1] == ("ends", "done")
    assert ("hangs", "of hangs") in received and ("ends", "of ends") in received
    for ended in pids:
        ended()


def test_a_step_that_closes_its_pipe_and_stays_is_ended(tmp_path, monkeypatch):
    clock = Clock()
    read = runner._Messages.read

    def closing(self, seconds: float) -> bool:
        more = read(self, seconds)
        clock.now = 0.0 if more else 61
        return more

    monkeypatch.setattr(runner._Messages, "read", closing)
    (step,) = steps("closes")
    outcome = run_step(lambda home: drawn(step, tmp_path, home), 60, lambda *message: None, clock)
    assert outcome == "ended: it took longer than its limit of 60 s"


def test_steps_beyond_the_budget_are_skipped_and_limits_shrink_to_it(tmp_path):
    clock, limits = Clock(), []

    def timed(command, limit, on_message, clock):
        limits.append(limit)
        clock.now += 50
        return "done"

    plan = [*steps("a", "b", limit=60), *steps("c", limit=60, needs=40), *steps("d", limit=60, needs=10)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "run_step", timed)
        ends = list(run_plan(plan, drawn, lambda *row: None, budget=130, cache=tmp_path, clock=clock))
    assert [(step.name, end) for step, end in ends if end] == [
        ("a", "done"),
        ("b", "done"),
        ("c", "skipped: 30 s of 130 are left, and it needs 40"),
        ("d", "done"),
    ]
    assert limits == [60, 60, 30]


@pytest.mark.parametrize(("ends", "code"), [("done", 0), ("failed: it ended with 1", 1), ("skipped: no room", 0)])
def test_the_command_shows_the_table_and_its_exit_code(ends: str, code: int, card, tmp_path, monkeypatch, capsys):
    def planned(plan, words, keep, *, budget, cache):
        assert 0 < budget <= BUDGET
        (step,) = plan
        assert words(step, Path("folder"), 7)[1:] == [
            *("-m", "visual_decathlon.benchmark.perf.gpu.child", "step", "cuda:0", "folder", "7")
        ]
        if not ends.startswith("skipped"):
            yield step, ""
            keep(step, dataclasses.asdict(row("step", "a step", "the loop", [36_000.0])))
        yield step, ends

    monkeypatch.setattr(runner, "run_plan", planned)
    monkeypatch.setattr(gpu, "_check_import", lambda module: None)
    monkeypatch.setattr(facts, "ask", lambda device: drawn_step.FACTS)
    folders = ("--results", str(tmp_path / "results"), "--cache", str(tmp_path / "cache"))
    assert main(["gpu", "--only", "step", *folders]) == code
    out = capsys.readouterr().out
    assert ("36,000" in out) == (not ends.startswith("skipped")) and "tests passed" in out and "gpu.md" in out
    kept = pq.read_table(tmp_path / "results" / "gpu.parquet").to_pylist()
    assert [each["note"] for each in kept if each["note"]] == ([] if ends == "done" else [ends])


CHILD = """
import sys
from visual_decathlon.benchmark.perf.gpu import child
from visual_decathlon.benchmark.perf.gpu.plan import Step
child.PLAN = (Step("it", "about", 1, sys.argv[1]),)
sys.exit(child.main("it", "cpu", ".", sys.argv[2]))
"""
WORK = """
import signal
from visual_decathlon.benchmark.perf.gpu.rows import Row
from visual_decathlon.datasets.errors import InputError

def well(effort, keep):
    assert effort.device == "cpu" and str(effort.work) == "."
    keep(Row("it", "what", "ours", 1.5))

def refused(effort, keep):
    keep(Row("it", "before"))
    raise InputError("there is no room")

def defect(effort, keep):
    raise ZeroDivisionError("by zero\\nand more")

def waits(effort, keep):
    keep(Row("it", "waits"))
    signal.pause()
"""


@pytest.fixture
def child(tmp_path, monkeypatch):
    """`child(function)` is the command of a real step's process that calls this function."""
    (tmp_path / "drawn_work.py").write_text(WORK)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return lambda function: lambda home: [sys.executable, "-c", CHILD, f"drawn_work:{function}", str(home)]


@pytest.mark.parametrize(
    ("function", "end", "message"),
    [
        ("well", "done", ("row", "what")),
        ("refused", "failed: it ended with 2", ("fault", "there is no room")),
        ("defect", "failed: it ended with 1", ("fault", "ZeroDivisionError: by zero")),
    ],
)
def test_a_steps_process_sends_its_rows_and_its_fault(function, end, message, child, capfd):
    received = []
    assert run_step(child(function), 1e6, lambda *one: received.append(one)) == end
    kind, content = received[-1]
    assert (kind, content["what"] if kind == "row" else content) == message
    assert ("Traceback" in capfd.readouterr().err) == (function == "defect"), "its output is on the screen"


def test_messages_from_before_the_end_of_a_process_are_received_after_it(child, monkeypatch):
    monkeypatch.setattr(runner, "POLL", 0)  # nothing is received while it runs
    received = []
    assert run_step(child("well"), 1e6, lambda *one: received.append(one)) == "done"
    assert [kind for kind, _ in received] == ["row"]


def test_a_steps_process_ends_with_its_parent(child, processes):
    parent = (
        "import json, os, sys\nfrom visual_decathlon.benchmark.perf.gpu.runner import run_step\n"
        "words = json.loads(sys.argv[1])\n"
        "def receive(kind, content):\n"
        "    if kind == 'row':\n"
        "        below = open(f'/proc/{os.getpid()}/task/{os.getpid()}/children').read()\n"
        "        print(below, flush=True)\n"
        "run_step(lambda home: [*words, str(home)], 1e6, receive)\n"
    )
    words = json.dumps(child("waits")("")[:-1])
    run = processes.start([sys.executable, "-c", parent, words], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    ended = gone(int(run.stdout.readline()))
    run.kill()
    ended()


def test_a_test_is_a_row_as_soon_as_it_has_ended(tmp_path, processes):
    folder = tmp_path / "some"
    folder.mkdir()
    (folder / "test_it.py").write_text(
        "import pytest\npytestmark = pytest.mark.gpu\n"
        "def test_well(): pass\n"
        "def test_wrong(): assert 1 == 2\n"
        "@pytest.mark.skip(reason='no card')\ndef test_not(): pass\n"
        "@pytest.fixture\ndef broken(): raise OSError('gone')\n"
        "def test_never(broken): pass\n"
    )
    code = (
        "import sys\nfrom pathlib import Path\nfrom visual_decathlon.benchmark.perf.gpu import tests\n"
        "from visual_decathlon.benchmark.perf.gpu.effort import Effort\n"
        "tests.FOLDER = sys.argv[1]\nkept = []\n"
        "tests.tests(Effort('cpu', Path(sys.argv[2])), kept.append)\n"
        "assert all(row.step == 'tests' and row.unit == 's' and row.ours_value >= 0 for row in kept)\n"
        "print('ROWS', [(row.what, row.note) for row in kept])\n"
    )
    done = processes.run([sys.executable, "-c", code, str(folder), str(tmp_path)], cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("ROWS"))
    ends = ["passed", "failed: assert 1 == 2", "skipped: no card", "failed: OSError: gone"]
    names = ["test_well", "test_wrong", "test_not", "test_never"]
    assert line == f"ROWS {[(f'test_it.py::{name}', end) for name, end in zip(names, ends)]}"


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        "test_graph.py -k 'not precision and not layout'",
        "test_bench.py -k 'one_worker or peak or predictions or in_use or step_ran'",
    ],
)
def test_the_gpu_tests_run_on_a_cpu(words: str, processes, tmp_path):
    """Those of fp32: a processor without half precision computes it many times slower."""
    command = [sys.executable, "-m", "pytest", "-p", "no:xdist", f"--basetemp={tmp_path}", "-m", "gpu"]
    file, *chosen = shlex.split(words)
    environment = {**os.environ, "GPU_TESTS_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
    done = processes.run([*command, f"tests/gpu/{file}", *chosen], cwd=ROOT, env=environment)
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout


def test_the_readme_shows_the_table_of_the_card_or_notes_its_absence():
    section = (ROOT / "benchmark" / "README.md").read_text().split("### On a GPU")[1].split("\n## ")[0]
    kept = ROOT / "results" / "perf" / "gpu.md"
    assert ", ".join(step.name for step in PLAN) in section.replace("\n", " ")
    if kept.exists():
        assert kept.read_text().split("\n\n")[0] in section and kept.read_text().split("\n\n")[-1].strip() in section
    else:
        assert "No GPU was at hand" in section
