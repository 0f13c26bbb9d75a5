"""`python -m benchmark perf`: the measured ratios as a table, on the screen and as Parquet and Markdown."""

import dataclasses
import sys
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import get_type_hints

import pyarrow as pa
from rich.console import Console
from rich.table import Table

from benchmark.measured import COMMON, before, now
from benchmark.records import parquet, write_all
from benchmark.run_command import probe
from benchmark.runs.job import Report
from benchmark.workers import Workers
from datasets.cores import cores
from datasets.errors import BadInput

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
    """Measure the parts asked for (all by default), a line a ratio with its spread; other parts stay beside them."""
    from benchmark.perf.parts import PARTS
    from benchmark.perf.rounds import Line

    names = list(dict.fromkeys(args.only)) or list(PARTS)
    if unknown := [name for name in names if name not in PARTS]:
        raise BadInput(f"ONLY={unknown[0]}: no part is called so; there are {', '.join(PARTS)}")
    probe(args.results)  # before ten minutes of measuring
    path = args.results / "perf.parquet"
    columns = get_type_hints(Line)
    kept = before(path, columns | COMMON | {"threads": int}, "part", "parts")
    found = {name: rows for name, rows in kept.items() if name in PARTS}
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 220)
    common = now() | {"threads": cores()}
    for name in names:
        console.print(f"measuring {name}", style="dim")
        # A process a part: what malloc keeps of one part's networks would make another's faster.
        with Workers(1, "cpu", environment={}) as pool:
            pool.submit(Part(name, args.cache))
            (end,) = pool.events()
        if end.fault or end.death:
            raise end.fault or BadInput(f"measuring {name}: {end.death}; run it again with more memory")
        found[name] = [line | common for line in end.result]
    rows = [row for name in PARTS for row in found.get(name, [])]
    shown = Table(header_style="bold")
    for name in HEAD:
        shown.add_column(name, justify="left" if name in _WORDS else "right")
    texts = [_text(Line(*(row[name] for name in columns))) for row in rows]
    for row, text in zip(rows, texts, strict=True):
        if row["part"] in names:
            shown.add_row(*text)
    console.print(shown)
    loads = {(row["machine"], row["threads"]): set() for row in rows}
    for row in rows:
        loads[row["machine"], row["threads"]].add(f"{row['load']:.1f}")
    about = "; ".join(
        f"{name}, {threads} threads, load {' and '.join(sorted(each))} before the first round"
        for (name, threads), each in loads.items()
    )
    console.print(about, style="dim", markup=False)
    rule = ["---" if name in _WORDS else "---:" for name in HEAD]
    markdown = "\n".join("| " + " | ".join(row) + " |" for row in (HEAD, rule, *texts)) + f"\n\n{about}\n"
    paths = write_all({path: parquet(pa.Table.from_pylist(rows)), path.with_suffix(".md"): markdown.encode()})
    console.print("Files: " + "  ".join(map(str, paths)), markup=False)
    return 0


@dataclass(frozen=True)
class Part:
    """A part of what is measured, as a job."""

    key: str
    cache: Path

    def describe(self) -> str:
        return f"measuring {self.key}"

    def execute(self, device: str, report: Report) -> list[dict]:
        return _measured(self.key, self.cache)


def _measured(name: str, cache: Path) -> list[dict]:
    import torch

    from benchmark.perf.parts import PARTS

    torch.set_num_threads(cores())
    return [dataclasses.asdict(line) for line in PARTS[name](cache)]


def _text(line) -> list[str]:
    number = lambda value: "" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    ratio = lambda value: "" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
    rounds = f"{line.rounds}" + f" ({line.dropped} dropped)" * bool(line.dropped)
    ratios = [ratio(value) for value in (line.ratio, line.least, line.largest)]
    ends = ["" if line.peak_mb is None else f"{line.peak_mb:,.0f}", "" if line.share is None else f"{line.share:.0%}"]
    names = [line.part, line.what, line.ours, number(line.ours_value), line.other or "", number(line.other_value)]
    return [*names, line.unit, *ratios, rounds, *ends]
