"""`python -m benchmark perf`: the measured ratios as a table, on the screen and as Parquet and Markdown."""

import dataclasses
import multiprocessing
import os
import sys
from argparse import Namespace
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
from rich.console import Console
from rich.table import Table

from benchmark.provenance import commit, machine, versions
from benchmark.records import parquet, write_all
from benchmark.run_command import probe
from datasets.cores import cores
from datasets.errors import BadInput

if TYPE_CHECKING:
    from benchmark.perf.rounds import Line

_WORDS = ("part", "what", "ours", "against", "unit")  # columns to the left
HEAD = (
    "part",
    "what",
    "ours",
    "",
    "against",
    "",
    "unit",
    "ratio",
    "least",
    "largest",
    "rounds",
    "process MB",
    "ceiling",
)


def run(args: Namespace) -> int:
    """Measure the parts asked for (all by default); each line is a ratio with its spread."""
    from benchmark.perf.parts import PARTS

    names = list(dict.fromkeys(args.only)) or list(PARTS)
    if unknown := [name for name in names if name not in PARTS]:
        raise BadInput(f"ONLY={unknown[0]}: no part is called so; there are {', '.join(PARTS)}")
    probe(args.results)  # before ten minutes of measuring
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 220)
    load, found = os.getloadavg()[0], []
    # A process a part: what malloc keeps of one part's networks would make another's faster.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as pool:
        for name in names:
            console.print(f"measuring {name}", style="dim")
            found += pool.submit(_measured, name, args.cache).result()
    shown = Table(header_style="bold")
    for name in HEAD:
        shown.add_column(name, justify="left" if name in _WORDS else "right")
    texts = [_text(line) for line in found]
    for text in texts:
        shown.add_row(*text)
    console.print(shown)
    about = f"{machine()}; {cores()} threads; load {load:.1f} before the first round"
    console.print(about, style="dim", markup=False)
    rule = ["---" if name in _WORDS else "---:" for name in HEAD]
    markdown = "\n".join("| " + " | ".join(row) + " |" for row in (HEAD, rule, *texts)) + f"\n\n{about}\n"
    common = {"load": load, "machine": machine(), "threads": cores(), "versions": versions(), "commit": commit()}
    rows = pa.Table.from_pylist([dataclasses.asdict(line) | common for line in found])
    paths = write_all({args.results / "perf.parquet": parquet(rows), args.results / "perf.md": markdown.encode()})
    console.print("Files: " + "  ".join(map(str, paths)), markup=False)
    return 0


def _measured(name: str, cache: Path) -> "list[Line]":
    import torch

    from benchmark.perf.parts import PARTS

    torch.set_num_threads(cores())
    return list(PARTS[name](cache))


def _text(line) -> list[str]:
    number = lambda value: "" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    ratio = lambda value: "" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
    rounds = f"{line.rounds}" + f" ({line.dropped} dropped)" * bool(line.dropped)
    ratios = [ratio(value) for value in (line.ratio, line.least, line.largest)]
    ends = ["" if line.peak_mb is None else f"{line.peak_mb:,.0f}", "" if line.share is None else f"{line.share:.0%}"]
    names = [line.part, line.what, line.ours, number(line.ours_value), line.other or "", number(line.other_value)]
    return [*names, line.unit, *ratios, rounds, *ends]
