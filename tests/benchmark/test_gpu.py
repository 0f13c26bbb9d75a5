"""`make gpu`: what of it needs no GPU. Its steps run one by one, each within its limit, and every row is kept."""

import dataclasses
import importlib
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import drawn_step
import pyarrow.parquet as pq
import pytest
import torch

from benchmark import gpu_command
from benchmark.__main__ import main
from benchmark.measured import COMMON
from benchmark.perf.gpu import facts, report, runner
from benchmark.perf.gpu.facts import FACTS
from benchmark.perf.gpu.goals import Goal
from benchmark.perf.gpu.plan import BUDGET, PLAN, Step
from benchmark.perf.gpu.record import Record
from benchmark.perf.gpu.rows import Row, row
from benchmark.perf.gpu.runner import run_plan, run_step
from datasets.errors import BadInput
from tests.processes import gone

ROOT = Path(__file__).parents[2]


@pytest.fixture
def card(monkeypatch) -> None:
    """torch says that there is a GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


def drawn(step: Step, folder: Path, home: int) -> list[str]:
    """The command of a step that ends as its name says."""
    return [sys.executable, drawn_step.__file__, step.name, str(folder), str(home)]


def steps(*names: str, limit: float = 1e6, needs: float = 0) -> list[Step]:
    return [Step(name, f"about {name}", limit, "", needs) for name in names]


class Clock:
    """Stands still until it is set."""

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
    code = "import sys, benchmark.gpu_command; print([m for m in ('torch', 'pandas', 'pyarrow', 'rich', 'numpy') "
    done = processes.run([sys.executable, "-c", code + "if m in sys.modules])"], cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


@pytest.mark.parametrize("package", ["torch", "msgspec", "pytest"])
def test_a_missing_package_is_named_with_where_to_put_it(package: str, card, tmp_path, monkeypatch, capsys):
    there = gpu_command.find_spec
    monkeypatch.setattr(gpu_command, "find_spec", lambda name: None if name == package else there(name))
    assert main(["gpu", "--results", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert f"has no package {package}; install it, or put a folder that holds it on PYTHONPATH" in err
    assert err.count("\n") == 1 and list(tmp_path.iterdir()) == []


def test_what_a_package_imports_itself_is_named_too(card, tmp_path, monkeypatch, capsys):
    def absent(name: str):
        assert name == "fvcore.nn"
        raise ModuleNotFoundError("No module named 'iopath.common'", name="iopath.common")

    monkeypatch.setattr(gpu_command, "import_module", absent)
    assert main(["gpu", "--results", str(tmp_path)]) == 2
    assert "has no package iopath; " in capsys.readouterr().err


def test_an_unknown_step_is_one_sentence(capsys):
    assert main(["gpu", "--only", "step,nothing"]) == 2
    assert "ONLY=nothing: no step is called so; there are step, small, tests" in capsys.readouterr().err


def test_the_plan_names_code_that_is_there_and_fits_its_budget():
    names = [step.name for step in PLAN]
    assert len(set(names)) == len(names) and names[:3] == ["step", "small", "tests"], "the most wanted first"
    for step in PLAN:
        module, _, function = step.work.partition(":")
        assert callable(getattr(importlib.import_module(module), function)), step
        assert 0 < step.needs <= step.limit < BUDGET <= 480
    assert sum(step.limit for step in PLAN[:4]) < BUDGET, "the first ones have room whatever happens"


def test_steps_run_in_order_and_one_that_fails_stops_no_other(tmp_path):
    heard, ends = [], []
    names = ("ends", "refuses", "dies", "again")
    for step, end in run_plan(steps(*names), drawn, lambda *of: heard.append(of), budget=1e6, cache=tmp_path):
        ends.append((step.name, end))
    assert ends == [
        *(("ends", ""), ("ends", "done"), ("refuses", ""), ("refuses", "failed: there is no room for it")),
        *(("dies", ""), ("dies", "failed: it ended with -9"), ("again", ""), ("again", "done")),
    ]
    assert [(step.name, row["what"]) for step, row in heard] == [(name, f"of {name}") for name in names]
    assert list(tmp_path.iterdir()) == [], "each step's folder is gone"
    assert len({row["work"] for _, row in heard}) == 4, "and was its own"


def test_a_step_that_hangs_is_ended_with_all_it_started_and_keeps_its_rows(tmp_path):
    clock, heard, pids = Clock(), [], []

    def keep(step: Step, content: dict) -> None:
        heard.append((step.name, content["what"]))
        if "pids" in content:
            pids.extend(map(gone, content["pids"]))
            clock.now += 61

    asked = [*steps("hangs", limit=60), *steps("ends")]
    ends = [(step.name, end) for step, end in run_plan(asked, drawn, keep, budget=1e6, cache=tmp_path, clock=clock)]
    assert ends[1] == ("hangs", "ended: it took longer than its limit of 60 s") and ends[-1] == ("ends", "done")
    assert ("hangs", "of hangs") in heard and ("ends", "of ends") in heard
    for ended in pids:
        ended()


def test_a_step_that_closes_its_pipe_and_stays_is_ended(tmp_path, monkeypatch):
    clock = Clock()
    read = runner._Lines.read

    def closing(self, seconds: float) -> bool:
        more = read(self, seconds)
        clock.now = 0.0 if more else 61
        return more

    monkeypatch.setattr(runner._Lines, "read", closing)
    (step,) = steps("closes")
    found = run_step(lambda home: drawn(step, tmp_path, home), 60, lambda *of: None, clock)
    assert found == "ended: it took longer than its limit of 60 s"


def test_what_the_budget_has_no_room_for_is_skipped_and_limits_shrink_to_it(tmp_path):
    clock, limits = Clock(), []

    def timed(words, limit, hear, clock):
        limits.append(limit)
        clock.now += 50
        return "done"

    asked = [*steps("a", "b", limit=60), *steps("c", limit=60, needs=40), *steps("d", limit=60, needs=10)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "run_step", timed)
        ends = list(run_plan(asked, drawn, lambda *of: None, budget=130, cache=tmp_path, clock=clock))
    assert [(step.name, end) for step, end in ends if end] == [
        ("a", "done"),
        ("b", "done"),
        ("c", "skipped: 30 s of 130 are left, and it needs 40"),
        ("d", "done"),
    ]
    assert limits == [60, 60, 30]


def test_a_goal_is_of_a_value_or_of_a_ratio():
    assert (
        Goal(5, "ratio", "least").text() == "≥ 5" and Goal(20_000, "value", "least", "img/s").text() == "≥ 20,000 img/s"
    )
    assert Goal(1.5, "value", "most", "ms").reached(1.5, None) is True
    assert Goal(1.5, "value", "most", "ms").reached(1.6, 99.0) is False
    assert (
        Goal(5, "ratio", "least").reached(None, 4.9) is False and Goal(5, "ratio", "least").reached(9.0, None) is None
    )


@pytest.mark.parametrize(
    ("unit", "mine", "theirs", "ratio"),
    [("img/s", [30.0, 10.0, 20.0], [4.0], 5.0), ("ms", [1.0, 3.0, 2.0], [10.0], 5.0), ("MB", [11.0], [10.0], 1.1)],
)
def test_a_row_compares_medians(unit: str, mine: list[float], theirs: list[float], ratio: float):
    found = row("step", "what", "ours", mine, "other", theirs, unit=unit)
    assert found.ratio == ratio and (found.least, found.largest, found.rounds) == (min(mine), max(mine), len(mine))
    assert row("step", "what", "ours", mine, unit=unit).ratio is None


def measured(step: str, *of, **more) -> dict:
    return dataclasses.asdict(row(step, *of, **more)) | drawn_step.FACTS


def rows() -> list[dict]:
    """As a card that there is not would give them."""
    speeds = (
        "par_adapter step, bf16",
        "the loop",
        [36_000.0, 35_500.0, 36_500.0],
        "eager",
        [7_000.0, 7_200.0, 7_100.0],
    )
    bench = ("a | bench", "default", [50.0])
    passed = Row("tests", "test_bench.py::test_one", "", 12.34, unit="s", rounds=1, note="passed")
    failed = Row("tests", "test_bench.py::test_two", "", 1.0, unit="s", rounds=1, note="failed: 1 != 2")
    skipped = Row("nine", "nine", note="skipped: 3 s of 480 are left, and it needs 30")
    rest = [dataclasses.asdict(each) | drawn_step.FACTS for each in (passed, failed, skipped)]
    goals = {"goal": "par_adapter bf16 / eager bf16"}, {"unit": "s", "goal": "bench"}
    return [measured("step", *speeds, **goals[0]), *rest[:2], measured("bench", *bench, **goals[1]), rest[2]]


def test_the_markdown_says_what_was_reached_what_not_and_where():
    assert report.markdown(rows()) == (
        "| what | ours |  | against |  | unit | ratio | least | largest | rounds | goal | reached |\n"
        "| --- | --- | ---: | --- | ---: | --- | ---: | ---: | ---: | ---: | --- | --- |\n"
        "| par_adapter step, bf16 | the loop | 36,000 | eager | 7,100 | img/s | 5.07 | 35,500 | 36,500 | 3 | ≥ 5 "
        "| yes |\n"
        "| a \\| bench | default | 50 |  |  | s |  |  |  | 1 | ≤ 45 s | no |\n\n"
        "`ratio` is how many times faster ours is (of memory: how many times as much it takes), of medians; `least` "
        "and `largest` are of our rounds.\n\n"
        "- nine: skipped: 3 s of 480 are left, and it needs 30\n\n"
        "| test | end | s |\n| --- | --- | ---: |\n"
        "| test_bench.py::test_one | passed | 12.3 |\n| test_bench.py::test_two | failed: 1 != 2 | 1.0 |\n\n"
        "NVIDIA Fake 80GB, driver 580.1; python 3.12.1, torch 2.11.0, cuda 13.0, cudnn 91900; "
        "a processor, Linux x86_64, 16 processors; 2026-11-28, commit 0123456789ab.\n"
    )
    assert report.summary(rows()) == "1 of 2 tests passed, 1 of 2 measured goals reached"


def test_every_row_is_on_disk_at_once_and_other_steps_stay(tmp_path):
    path = tmp_path / "gpu.parquet"
    record = Record(path, drawn_step.FACTS)
    by_name = {step.name: step for step in PLAN}
    for each in rows():
        content = {name: each[name] for name in get_type_hints(Row)}
        record.keep(by_name[each["step"]], content)
        kept = pq.read_table(path).to_pylist()
        assert content in [{name: one[name] for name in content} for one in kept]
    assert kept == sorted(rows(), key=lambda each: list(by_name).index(each["step"]))
    assert path.with_suffix(".md").read_text() == report.markdown(kept)
    later = Record(path, drawn_step.FACTS | {"card": "another", "date": "2026"})
    later.begin()
    assert [each["step"] for each in later.rows(PLAN)] == ["step", "tests", "tests", "bench", "nine"], (
        "until it has some"
    )
    later.note(by_name["bench"], "ended: it took longer than its limit of 90 s")
    kept = pq.read_table(path).to_pylist()
    assert [(each["step"], each["ours_value"]) for each in kept if each["step"] == "bench"] == [("bench", None)]
    assert [each["card"] for each in kept] == [*["NVIDIA Fake 80GB"] * 3, "another", "NVIDIA Fake 80GB"]
    assert kept[3]["date"] > drawn_step.FACTS["date"], "of the beginning of its step"
    assert len(kept) == 5 and later.rows([by_name["bench"]]) == kept[3:4]


def test_a_record_of_other_columns_is_set_aside(tmp_path, capsys):
    record = Record(tmp_path / "gpu.parquet", drawn_step.FACTS)
    record.note(PLAN[0], "skipped")
    table = pq.read_table(record.path)
    pq.write_table(table.drop_columns(["goal"]), record.path)
    assert Record(record.path, drawn_step.FACTS).rows(PLAN) == []
    assert "is not of this version's steps" in capsys.readouterr().err


def test_facts_are_of_the_types_that_rows_have():
    types = COMMON | FACTS
    for found in (facts.ask("cpu"), drawn_step.FACTS):
        assert found.keys() == types.keys()
        assert all(isinstance(found[name], kind) for name, kind in types.items()), found
    assert facts.ask("cpu")["card"] == "cpu"


def test_a_card_that_cannot_be_used_is_one_sentence(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(BadInput, match=r"^the GPU cuda:0 is there but cannot be used \(.+\); see its driver"):
        facts.ask("cuda:0")


@pytest.mark.parametrize(("ends", "code"), [("done", 0), ("failed: it ended with 1", 1), ("skipped: no room", 0)])
def test_the_command_shows_the_table_and_its_exit_code(ends: str, code: int, card, tmp_path, monkeypatch, capsys):
    def planned(asked, words, keep, *, budget, cache):
        assert 0 < budget <= BUDGET
        (step,) = asked
        assert words(step, Path("folder"), 7)[1:] == [
            *("-m", "benchmark.perf.gpu.child", "step", "cuda:0", "folder", "7")
        ]
        if not ends.startswith("skipped"):
            yield step, ""
            keep(step, {name: rows()[0][name] for name in get_type_hints(Row)})
        yield step, ends

    monkeypatch.setattr(runner, "run_plan", planned)
    monkeypatch.setattr(gpu_command, "_imported", lambda module: None)
    monkeypatch.setattr(facts, "ask", lambda device: drawn_step.FACTS)
    folders = ("--results", str(tmp_path / "results"), "--cache", str(tmp_path / "cache"))
    assert main(["gpu", "--only", "step", *folders]) == code
    out = capsys.readouterr().out
    assert ("36,000" in out) == (not ends.startswith("skipped")) and "tests passed" in out and "gpu.md" in out
    kept = pq.read_table(tmp_path / "results" / "gpu.parquet").to_pylist()
    assert [each["note"] for each in kept if each["note"]] == ([] if ends == "done" else [ends])


CHILD = """
import sys
from benchmark.perf.gpu import child
from benchmark.perf.gpu.plan import Step
child.PLAN = (Step("it", "about", 1, sys.argv[1]),)
sys.exit(child.main("it", "cpu", ".", sys.argv[2]))
"""
WORK = """
import signal
from benchmark.perf.gpu.rows import Row
from datasets.errors import BadInput

def well(effort, keep):
    assert effort.device == "cpu" and str(effort.work) == "."
    keep(Row("it", "what", "ours", 1.5))

def refused(effort, keep):
    keep(Row("it", "before"))
    raise BadInput("there is no room")

def defect(effort, keep):
    raise ZeroDivisionError("by zero\\nand more")

def waits(effort, keep):
    keep(Row("it", "waits"))
    signal.pause()
"""


@pytest.fixture
def child(tmp_path, monkeypatch):
    """`child(function)` is the command of a real step's process that does this function."""
    (tmp_path / "drawn_work.py").write_text(WORK)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return lambda function: lambda home: [sys.executable, "-c", CHILD, f"drawn_work:{function}", str(home)]


@pytest.mark.parametrize(
    ("function", "end", "told"),
    [
        ("well", "done", ("row", "what")),
        ("refused", "failed: it ended with 2", ("fault", "there is no room")),
        ("defect", "failed: it ended with 1", ("fault", "ZeroDivisionError: by zero")),
    ],
)
def test_a_steps_process_tells_where_it_is_its_rows_and_its_fault(function, end, told, child, capfd):
    heard = []
    assert run_step(child(function), 1e6, lambda *of: heard.append(of)) == end
    kind, content = heard[-1]
    assert (kind, content["what"] if kind == "row" else content) == told
    assert ("Traceback" in capfd.readouterr().err) == (function == "defect"), "its output is on the screen"


def test_what_a_process_told_before_its_end_is_heard_after_it(child, monkeypatch):
    monkeypatch.setattr(runner, "POLL", 0)  # nothing is heard while it runs
    heard = []
    assert run_step(child("well"), 1e6, lambda *of: heard.append(of)) == "done"
    assert [kind for kind, _ in heard] == ["row"]


def test_a_steps_process_goes_when_its_parent_is_gone(child, processes):
    parent = (
        "import json, os, sys\nfrom benchmark.perf.gpu.runner import run_step\n"
        "words = json.loads(sys.argv[1])\n"
        "def hear(kind, content):\n"
        "    if kind == 'row':\n"
        "        below = open(f'/proc/{os.getpid()}/task/{os.getpid()}/children').read()\n"
        "        print(below, flush=True)\n"
        "run_step(lambda home: [*words, str(home)], 1e6, hear)\n"
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
        "import sys\nfrom pathlib import Path\nfrom benchmark.perf.gpu import tests\n"
        "from benchmark.perf.gpu.effort import Effort\n"
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
    "words", ["test_graph.py", "test_bench.py -k 'one_worker or peak or predictions or in_use or step_ran'"]
)
def test_what_the_gpu_tests_do_is_tried_on_a_cpu(words: str, processes, tmp_path):
    command = [sys.executable, "-m", "pytest", "-p", "no:xdist", f"--basetemp={tmp_path}", "-m", "gpu"]
    file, *chosen = shlex.split(words)
    environment = {**os.environ, "GPU_TESTS_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
    done = processes.run([*command, f"tests/gpu/{file}", *chosen], cwd=ROOT, env=environment)
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout


def test_the_readme_shows_the_table_of_the_card_or_says_that_there_was_none():
    section = (ROOT / "README.md").read_text().split("### On a GPU")[1].split("\n## ")[0]
    kept = ROOT / "results" / "perf" / "gpu.md"
    assert ", ".join(step.name for step in PLAN) in section.replace("\n", " ")
    if kept.exists():
        assert kept.read_text().split("\n\n")[0] in section and kept.read_text().split("\n\n")[-1].strip() in section
    else:
        assert "No GPU was at hand" in section
