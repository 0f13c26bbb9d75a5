"""`python -m benchmark growth`: how cost grows, as tables and figures."""

import dataclasses
import sys
from argparse import Namespace
from typing import get_type_hints

import pyarrow as pa
from rich.console import Console
from rich.table import Table

from benchmark.measured import COMMON, before, now
from benchmark.records import parquet
from benchmark.run_command import probe
from datasets.cores import cores
from datasets.errors import BadInput
from datasets.io import write_all


def run(args: Namespace) -> int:
    """Measure the growths asked for (all by default); those that were measured before stay beside them."""
    import torch

    from benchmark.figures import growth as figures
    from benchmark.figures import look
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
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 220)
    common = now() | {"cores": cores()}
    for name in names:
        console.print(f"measuring {name}", style="dim")
        found[name] = [dataclasses.asdict(point) | common for point in GROWTHS[name](args.cache)]
        _show(report.table(found[name]), console)
    rows = [row for name in GROWTHS for row in found.get(name, [])]
    with look.shielded():
        drawn = list(figures.draw(rows))
        made = {args.results / f"{d.name}.{end}": content for d in drawn for end, content in look.as_bytes(d).items()}
    for figure in drawn:
        if figure.name.removeprefix("growth-") in names:
            console.print(figure.caption, style="dim", markup=False)
    made |= {path: parquet(pa.Table.from_pylist(rows)), path.with_suffix(".md"): report.markdown(rows, drawn).encode()}
    console.print("Files: " + "  ".join(map(str, write_all(made))), markup=False)
    return 0


def _show(lines: list[list[str]], console: Console) -> None:
    head, *rest = lines
    shown = Table(header_style="bold")
    for i, name in enumerate(head):
        shown.add_column(name, justify="left" if i < 3 else "right")
    for line in rest:
        shown.add_row(*line)
    console.print(shown)
