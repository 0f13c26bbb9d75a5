"""`python -m benchmark gpu`: tests and measures on a GPU within eight minutes; without one it says so and ends."""

import sys
import time
from argparse import Namespace
from importlib import import_module
from importlib.util import find_spec

from visual_decathlon.benchmark.perf.gpu.plan import BUDGET, PLAN, Step
from visual_decathlon.benchmark.records.folder import ResultsFolder
from visual_decathlon.datasets.errors import InputError

# What the suite and its tests import; fvcore is tried, since it imports more, which may be missing.
_NEEDED = ("torchvision", "numpy", "PIL", "pandas", "pyarrow", "timm", "rich", "matplotlib", "scipy") + (
    *("safetensors", "msgspec", "pynvml", "pytest"),
)


def run(args: Namespace) -> int:
    """0: no GPU, or all steps that were begun ended well; 1: a step or a test failed; 2: something is missing."""
    begin = time.monotonic()  # what is imported from here on is part of the eight minutes
    names = list(dict.fromkeys(args.only)) or [step.name for step in PLAN]
    if unknown := [name for name in names if name not in {step.name for step in PLAN}]:
        raise InputError(f"ONLY={unknown[0]}: no step is called so; there are {', '.join(s.name for s in PLAN)}")
    _present("torch")
    import torch

    if not torch.cuda.is_available():
        print("torch sees no GPU here, so nothing was tested, measured or written")
        return 0
    for package in _NEEDED:
        _present(package)
    _imported("fvcore.nn")
    return _run(args, [step for step in PLAN if step.name in names], begin + BUDGET)


def _present(package: str) -> None:
    if find_spec(package) is None:
        raise InputError(_missing(package))


def _imported(module: str) -> None:
    try:
        import_module(module)
    except ModuleNotFoundError as error:
        raise InputError(_missing(error.name or module)) from None


def _missing(package: str) -> str:
    return (
        f"this Python ({sys.executable}) has no package {package.partition('.')[0]}; install it, or put a folder that "
        "holds it on PYTHONPATH"
    )


def _run(args: Namespace, steps: list[Step], end_by: float) -> int:
    """Run the steps and show their table; `end_by` is a second of the monotonic clock."""
    from rich.table import Table
    from rich.text import Text

    from visual_decathlon.benchmark.cli.common import probe
    from visual_decathlon.benchmark.perf.gpu import facts, report
    from visual_decathlon.benchmark.perf.gpu.record import Record
    from visual_decathlon.benchmark.perf.gpu.runner import child, run_plan
    from visual_decathlon.benchmark.report.console import PlainConsole

    probe(args.results)  # before eight minutes of measuring
    probe(args.cache)
    console = PlainConsole(wide=200)
    record = Record(ResultsFolder(args.results).table("gpu"), facts.ask("cuda:0"))
    failed, left = False, end_by - time.monotonic()
    for step, end in run_plan(steps, child("cuda:0"), record.keep, budget=left, cache=args.cache):
        if not end:
            record.begin()
            console.print(f"{step.name}: {step.about}; at most {step.limit:.0f} s", style="bold")
        elif end != "done":
            record.note(step, end)
            console.print(f"{step.name}: {end}")
            failed |= not end.startswith("skipped")
    rows = record.rows(steps)
    shown = Table(header_style="bold")
    for name in report.HEAD:
        shown.add_column(name, justify="left" if name in report.WORDS else "right")
    for row in filter(report.is_figure, rows):
        shown.add_row(*map(Text, report.cells(row)))
    console.print(shown)
    console.print(report.summary(rows))
    console.print(f"written: {record.path} and {record.path.with_suffix('.md')}", style="dim")
    return 1 if failed or any(row["note"].startswith("failed") for row in rows) else 0
