"""Runs the scaling studies: how cost grows, as tables and figures."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import get_type_hints

import pyarrow as pa
import torch
from rich.table import Table

from visual_decathlon.benchmark.perf.growth import figures, report
from visual_decathlon.benchmark.perf.growth.point import Point
from visual_decathlon.benchmark.perf.growth.scaling_studies import STUDIES
from visual_decathlon.benchmark.perf.store import COMMON, environment_columns, load_previous
from visual_decathlon.benchmark.records.folder import ResultsFolder
from visual_decathlon.benchmark.records.store import parquet
from visual_decathlon.benchmark.records.writable import check_writable
from visual_decathlon.benchmark.report.console import PlainConsole
from visual_decathlon.benchmark.report.figures import style
from visual_decathlon.benchmark.report.screen import Screen
from visual_decathlon.datasets.cores import cores
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.datasets.io import write_all


def measure_studies(names: Sequence[str], results: Path, cache: Path) -> None:
    """Run these studies of STUDIES (all by default), print their tables, and write growth.parquet, .md and figures.

    Every study is on disk as soon as it is measured, also if the command is stopped. The rows of other studies stay
    in the files. Raises InputError for an unknown name.
    """
    names = list(dict.fromkeys(names)) or list(STUDIES)
    if unknown := [name for name in names if name not in STUDIES]:
        raise InputError(
            f"{unknown[0]}: there is no study of this name; choose from {', '.join(STUDIES)}", field="only"
        )
    check_writable(results)
    path = ResultsFolder(results).table("growth")
    kept = load_previous(path, get_type_hints(Point) | COMMON | {"cores": int}, "grows", "growths")
    rows = {name: of_study for name, of_study in kept.items() if name in STUDIES}
    torch.set_num_threads(cores())
    common = environment_columns() | {"cores": cores()}
    screen = Screen(PlainConsole(wide=220))
    drawn, paths = {}, {}  # figures by study; every file that was written, once
    with screen:
        for name in names:
            screen.console.print(f"measuring {name}", style="dim")
            progress = lambda text, done, of, name=name: screen.doing("growth", f"{name}: {text}", done, of, again=name)
            rows[name] = [dataclasses.asdict(point) | common for point in STUDIES[name](cache, progress)]
            screen.done("growth")
            _show(report.table(rows[name]), screen.console)
            with screen.busy("drawing the figures"):
                drawn.pop(name, None)
                paths |= dict.fromkeys(_write(path, {study: rows[study] for study in STUDIES if study in rows}, drawn))
            screen.console.print(drawn[name].caption, style="dim", markup=False)
    screen.files(list(paths))


def _write(path: Path, by_study: dict[str, list[dict]], drawn: dict[str, style.Drawn]) -> list[Path]:
    """Write the rows as Parquet and Markdown, and the figures that are not in `drawn`, to which they are added."""
    rows, contents = [row for rows in by_study.values() for row in rows], {}
    with style.shielded():
        for name in [name for name in by_study if name not in drawn]:
            (drawn[name],) = figures.draw(by_study[name])
            contents |= {path.with_name(f"growth-{name}.{end}"): c for end, c in style.as_bytes(drawn[name]).items()}
    markdown = report.markdown(rows, [drawn[name] for name in by_study]).encode()
    return write_all(contents | {path: parquet(pa.Table.from_pylist(rows)), path.with_suffix(".md"): markdown})


def _show(lines: list[list[str]], console: PlainConsole) -> None:
    head, *rest = lines
    table = Table(header_style="bold")
    for i, name in enumerate(head):
        table.add_column(name, justify="left" if i < 3 else "right")
    for line in rest:
        table.add_row(*line)
    console.print(table)
