"""Runs steps of the plan on the GPU, records their rows and shows the table."""

import time
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from visual_decathlon.benchmark.perf.gpu import facts, report, runner
from visual_decathlon.benchmark.perf.gpu.plan import Step
from visual_decathlon.benchmark.perf.gpu.record import Record
from visual_decathlon.benchmark.records.folder import ResultsFolder
from visual_decathlon.benchmark.records.writable import check_writable
from visual_decathlon.benchmark.report.console import PlainConsole


def run_steps(steps: Sequence[Step], results: Path, cache: Path, *, end_by: float) -> bool:
    """Run the steps until `end_by`, a time in s of the monotonic clock; write gpu.parquet and gpu.md, print the table.

    Returns whether every step that was started succeeded.
    """
    check_writable(results)  # before eight minutes of measuring
    check_writable(cache)
    console, record = PlainConsole(wide=200), Record(ResultsFolder(results).table("gpu"), facts.ask("cuda:0"))
    failed, left = False, end_by - time.monotonic()
    for step, end in runner.run_plan(steps, runner.child("cuda:0"), record.keep, budget=left, cache=cache):
        if not end:
            record.begin()
            console.print(f"{step.name}: {step.about}; at most {step.limit:.0f} s", style="bold")
        elif end != "done":
            record.note(step, end)
            console.print(f"{step.name}: {end}")
            failed |= not end.startswith("skipped")
    rows = record.rows(steps)
    table = Table(header_style="bold")
    for name in report.HEAD:
        table.add_column(name, justify="left" if name in report.WORDS else "right")
    for row in filter(report.is_figure, rows):
        table.add_row(*map(Text, report.cells(row)))
    console.print(table)
    console.print(report.summary(rows))
    console.print(f"written: {record.path} and {record.path.with_suffix('.md')}", style="dim")
    return not failed and not any(row["note"].startswith("failed") for row in rows)
