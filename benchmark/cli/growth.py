"""`python -m benchmark growth`: how cost grows, as tables and figures."""

import dataclasses
from argparse import Namespace
from pathlib import Path
from typing import get_type_hints

import pyarrow as pa
from rich.table import Table

from visual_decathlon.benchmark.cli.common import probe
from visual_decathlon.benchmark.perf.store import COMMON, environment_columns, load_previous
from visual_decathlon.benchmark.records.folder import ResultsFolder
from visual_decathlon.benchmark.records.store import parquet
from visual_decathlon.benchmark.report.console import PlainConsole
from visual_decathlon.benchmark.report.screen import Screen
from visual_decathlon.datasets.cores import cores
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.datasets.io import write_all


def run(args: Namespace) -> int:
    """Measure the growths asked for (all by default); those that were measured before stay beside them.

    Each is on disk as soon as it is measured: a command that is stopped keeps it.
    """
    import torch

    from visual_decathlon.benchmark.perf.growth import report
    from visual_decathlon.benchmark.perf.growth.point import Point
    from visual_decathlon.benchmark.perf.growth.scaling_studies import GROWTHS

    names = list(dict.fromkeys(args.only)) or list(GROWTHS)
    if unknown := [name for name in names if name not in GROWTHS]:
        raise InputError(f"ONLY={unknown[0]}: no growth is called so; there are {', '.join(GROWTHS)}")
    probe(args.results)
    path = ResultsFolder(args.results).table("growth")
    columns = get_type_hints(Point) | COMMON | {"cores": int}
    found = {name: rows for name, rows in load_previous(path, columns, "grows", "growths").items() if name in GROWTHS}
    torch.set_num_threads(cores())
    common = environment_columns() | {"cores": cores()}
    screen = Screen(PlainConsole(wide=220))
    drawn, paths = {}, {}  # by growth; every file that was written, once
    with screen:
        for name in names:
            screen.console.print(f"measuring {name}", style="dim")
            told = lambda what, done, of, name=name: screen.doing("growth", f"{name}: {what}", done, of, again=name)
            found[name] = [dataclasses.asdict(point) | common for point in GROWTHS[name](args.cache, told)]
            screen.done("growth")
            _show(report.table(found[name]), screen.console)
            with screen.busy("drawing the figures"):
                drawn.pop(name, None)
                paths |= dict.fromkeys(
                    _write(path, {growth: found[growth] for growth in GROWTHS if growth in found}, drawn)
                )
            screen.console.print(drawn[name].caption, style="dim", markup=False)
    screen.files(list(paths))
    return 0


def _write(path: Path, found: dict[str, list[dict]], drawn: dict) -> list[Path]:
    """The rows as Parquet and Markdown, and the figures that `drawn` lacks, which are added to it."""
    from visual_decathlon.benchmark.perf.growth import figures, report
    from visual_decathlon.benchmark.report.figures import style

    rows, made = [row for rows in found.values() for row in rows], {}
    with style.shielded():
        for name in [name for name in found if name not in drawn]:
            (drawn[name],) = figures.draw(found[name])
            made |= {path.with_name(f"growth-{name}.{end}"): c for end, c in style.as_bytes(drawn[name]).items()}
    markdown = report.markdown(rows, [drawn[name] for name in found]).encode()
    return write_all(made | {path: parquet(pa.Table.from_pylist(rows)), path.with_suffix(".md"): markdown})


def _show(lines: list[list[str]], console: PlainConsole) -> None:
    head, *rest = lines
    shown = Table(header_style="bold")
    for i, name in enumerate(head):
        shown.add_column(name, justify="left" if i < 3 else "right")
    for line in rest:
        shown.add_row(*line)
    console.print(shown)
