"""Measures speed ratios part by part, as a table on the screen and as Parquet and Markdown."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import get_type_hints

import pyarrow as pa
from rich.table import Table
from rich.text import Text

from visual_decathlon.benchmark.perf.part_process import measured
from visual_decathlon.benchmark.perf.store import COMMON, environment_columns, load_previous
from visual_decathlon.benchmark.records.folder import ResultsFolder
from visual_decathlon.benchmark.records.store import parquet
from visual_decathlon.benchmark.records.writable import check_writable
from visual_decathlon.benchmark.report.console import PlainConsole
from visual_decathlon.benchmark.report.screen import Screen
from visual_decathlon.datasets.cores import cores
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.datasets.io import write_all

_WORDS = ("part", "what", "ours", "against", "unit")  # left-aligned columns
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


def measure_parts(names: Sequence[str], results: Path, cache: Path) -> None:
    """Measure these parts of PARTS (all by default), print a line for each ratio, and write perf.parquet and perf.md.

    Every ratio is on disk as soon as it is measured, also if the command is stopped. The rows of other parts stay in
    the files. Raises InputError for an unknown name.
    """
    from visual_decathlon.benchmark.perf.parts import PARTS
    from visual_decathlon.benchmark.perf.rounds import Comparison

    names = list(dict.fromkeys(names)) or list(PARTS)
    if unknown := [name for name in names if name not in PARTS]:
        raise InputError(f"{unknown[0]}: there is no part of this name; choose from {', '.join(PARTS)}", field="only")
    check_writable(results)  # before ten minutes of measuring
    path = ResultsFolder(results).table("perf")
    kept = load_previous(path, get_type_hints(Comparison) | COMMON | {"threads": int}, "part", "parts")
    rows = {name: of_part for name, of_part in kept.items() if name in PARTS}
    common = environment_columns() | {"threads": cores()}
    screen = Screen(PlainConsole(wide=220))
    with screen:
        for name in names:
            screen.console.print(f"measuring {name}", style="dim")
            _measure(name, cache, path, rows, common, screen)
            screen.done("part")
    paths, about = _write(path, rows)
    screen.console.print(_table([row for row in _in_order(rows) if row["part"] in names]))
    screen.console.print(about, style="dim", markup=False)
    screen.files(paths)


def _measure(name: str, cache: Path, path: Path, rows: dict[str, list[dict]], common: dict, screen: Screen) -> None:
    """Measure one part, replace its rows in `rows`, and write all rows to `path` after each."""
    progress = lambda text, done, of: screen.doing("part", f"{name}: {text}", done, of, again=name)
    new: list[dict] = []
    with closing(measured(name, cache, progress)) as lines:  # closing it ends the process
        for line in lines:
            new.append(line | common)
            rows[name] = [*new, *_not_yet(rows.get(name, []), new)]
            _write(path, rows)
            if "left out" in line["ours"]:
                screen.say(f"{name}, {line['what']}: {line['ours']}")
    rows[name] = new


def _table(rows: list[dict]) -> Table:
    table = Table(header_style="bold")
    for name in HEAD:
        table.add_column(name, justify="left" if name in _WORDS else "right")
    for row in rows:
        table.add_row(*map(Text, _text(row)))
    return table


def _not_yet(old: list[dict], new: list[dict]) -> list[dict]:
    """The earlier rows that are not measured again yet."""
    key = lambda row: (row["what"], row["ours"].partition(", left out")[0], row["other"])
    return [row for row in old if key(row) not in set(map(key, new))]


def _in_order(rows: dict[str, list[dict]]) -> list[dict]:
    from visual_decathlon.benchmark.perf.parts import PARTS

    return [row for name in PARTS for row in rows.get(name, [])]


def _write(path: Path, by_part: dict[str, list[dict]]) -> tuple[list[Path], str]:
    """Write all rows as Parquet and Markdown; returns the files, and the machines and loads of the rows."""
    rows = _in_order(by_part)
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
