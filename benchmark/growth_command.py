"""`python -m benchmark growth`: how cost grows, as tables and figures."""

import dataclasses
from argparse import Namespace
from pathlib import Path
from typing import get_type_hints

import pyarrow as pa
from rich.table import Table

from benchmark.console import PlainConsole
from benchmark.measured import COMMON, before, now
from benchmark.records import parquet
from benchmark.run_command import probe
from benchmark.screen import Screen
from datasets.cores import cores
from datasets.errors import BadInput
from datasets.io import write_all


def run(args: Namespace) -> int:
    """Measure the growths asked for (all by default); those that were measured before stay beside them.

    Each is on disk as soon as it is measured: a command that is stopped keeps it.
    """
    import torch

    from benchmark.growth import report
    from benchmark.growth.growths import GROWTHS
    from benchmark.growth.point import Point

    names = list(dict.fromkeys(args.only)) or list(GROWTHS)
    if unknown := [name for name in names if name not in GROWTHS]:
        raise BadInput(f"ONLY={unknown[0]}: no growth is called so; there are {', '.join(GROWTHS)}")
    probe(args.results)
    path = args.results / "growth.parquet"
    columns = get_type_hints(Point) | COMMON | {"cores": int}
    found = {name: rows for name, rows in before(path, columns, "grows", "growths").items() if name in GROWTHS}
    torch.set_num_threads(cores())
    common = now() | {"cores": cores()}
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
    from benchmark.figures import growth as figures
    from benchmark.figures import look
    from benchmark.growth import report

    rows, made = [row for rows in found.values() for row in rows], {}
    with look.shielded():
        for name in [name for name in found if name not in drawn]:
            (drawn[name],) = figures.draw(found[name])
            made |= {path.with_name(f"growth-{name}.{end}"): c for end, c in look.as_bytes(drawn[name]).items()}
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
