"""`python -m benchmark perf`: the measured ratios as a table, on the screen and as Parquet and Markdown."""

from argparse import Namespace
from contextlib import closing
from pathlib import Path
from typing import get_type_hints

import pyarrow as pa
from rich.table import Table
from rich.text import Text

from visual_decathlon.benchmark.cli.common import probe
from visual_decathlon.benchmark.perf.part_process import measured
from visual_decathlon.benchmark.perf.store import COMMON, environment_columns, load_previous
from visual_decathlon.benchmark.records.folder import ResultsFolder
from visual_decathlon.benchmark.records.store import parquet
from visual_decathlon.benchmark.report.console import PlainConsole
from visual_decathlon.benchmark.report.screen import Screen
from visual_decathlon.datasets.cores import cores
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.datasets.io import write_all

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
    """Measure the parts asked for (all by default), a line a ratio with its spread; other parts stay beside them.

    What is measured is on disk at once: a command that is stopped keeps it.
    """
    from visual_decathlon.benchmark.perf.parts import PARTS
    from visual_decathlon.benchmark.perf.rounds import Comparison

    names = list(dict.fromkeys(args.only)) or list(PARTS)
    if unknown := [name for name in names if name not in PARTS]:
        raise InputError(f"ONLY={unknown[0]}: no part is called so; there are {', '.join(PARTS)}")
    probe(args.results)  # before ten minutes of measuring
    path = ResultsFolder(args.results).table("perf")
    columns = get_type_hints(Comparison)
    kept = load_previous(path, columns | COMMON | {"threads": int}, "part", "parts")
    found = {name: rows for name, rows in kept.items() if name in PARTS}
    common = environment_columns() | {"threads": cores()}
    screen = Screen(PlainConsole(wide=220))
    with screen:
        for name in names:
            screen.console.print(f"measuring {name}", style="dim")
            told = lambda what, done, of, name=name: screen.doing("part", f"{name}: {what}", done, of, again=name)
            new: list[dict] = []
            with closing(measured(name, args.cache, told)) as lines:  # closed, the process is gone
                for line in lines:
                    new.append(line | common)
                    found[name] = [*new, *_not_yet(found.get(name, []), new)]
                    _write(path, found)
                    if "left out" in line["ours"]:
                        screen.say(f"{name}, {line['what']}: {line['ours']}")
            found[name] = new
            screen.done("part")
    paths, about = _write(path, found)
    shown = Table(header_style="bold")
    for name in HEAD:
        shown.add_column(name, justify="left" if name in _WORDS else "right")
    for row in _rows(found):
        if row["part"] in names:
            shown.add_row(*map(Text, _text(row)))
    screen.console.print(shown)
    screen.console.print(about, style="dim", markup=False)
    screen.files(paths)
    return 0


def _not_yet(old: list[dict], new: list[dict]) -> list[dict]:
    """The rows of before that are not measured again yet."""
    key = lambda row: (row["what"], row["ours"].partition(", left out")[0], row["other"])
    return [row for row in old if key(row) not in set(map(key, new))]


def _rows(found: dict[str, list[dict]]) -> list[dict]:
    from visual_decathlon.benchmark.perf.parts import PARTS

    return [row for name in PARTS for row in found.get(name, [])]


def _write(path: Path, found: dict[str, list[dict]]) -> tuple[list[Path], str]:
    """All rows as Parquet and Markdown; returns the files, and where the rows are from."""
    rows = _rows(found)
    loads: dict[tuple, set[str]] = {}
    for row in rows:
        loads.setdefault((row["machine"], row["threads"]), set()).add(f"{row['load']:.1f}")
    about = "; ".join(
        f"{name}, {threads} threads, load {' and '.join(sorted(each))} before the first round"
        for (name, threads), each in loads.items()
    )
    rule = ["---" if name in _WORDS else "---:" for name in HEAD]
    markdown = "\n".join("| " + " | ".join(row) + " |" for row in (HEAD, rule, *map(_text, rows))) + f"\n\n{about}\n"
    made = {path: parquet(pa.Table.from_pylist(rows)), path.with_suffix(".md"): markdown.encode()}
    return write_all(made), about


def _text(row: dict) -> list[str]:
    number = lambda value: "" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    ratio = lambda value: "" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
    rounds = f"{row['rounds']}" + f" ({row['dropped']} dropped)" * bool(row["dropped"])
    peak, share = row["peak_mb"], row["share"]
    ends = ["" if peak is None else f"{peak:,.0f}", "" if share is None else f"{share:.0%}"]
    values = number(row["ours_value"]), number(row["other_value"])
    names = [row["part"], row["what"], row["ours"], values[0], row["other"] or "", values[1], row["unit"]]
    return [*names, *(ratio(row[name]) for name in ("ratio", "least", "largest")), rounds, *ends]
