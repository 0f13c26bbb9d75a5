"""Measures networks, adapted ones and building blocks, as tables on the screen, Parquet, Markdown and a figure."""

from collections.abc import Sequence
from pathlib import Path

import torch
from rich.table import Table
from rich.text import Text

from visual_decathlon.benchmark.config.backbone_names import canonical
from visual_decathlon.benchmark.perf.efficiency import (
    accuracy,
    adapter_rows,
    block_rows,
    columns,
    figure,
    networks,
    report,
)
from visual_decathlon.benchmark.perf.store import environment_columns, load_previous
from visual_decathlon.benchmark.records.folder import ResultsFolder
from visual_decathlon.benchmark.records.store import parquet
from visual_decathlon.benchmark.records.writable import check_writable
from visual_decathlon.benchmark.report.console import PlainConsole
from visual_decathlon.benchmark.report.figures import style
from visual_decathlon.benchmark.report.screen import Screen
from visual_decathlon.benchmark.runtime import devices
from visual_decathlon.datasets.cores import cores
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.datasets.io import write_all

_TABLES = {
    "networks": ("efficiency", columns.NETWORKS, "network"),
    "adapters": ("adapters", columns.ADAPTERS, "network"),
    "blocks": ("blocks", columns.BLOCKS, "block"),
}
"""Of each part the name of its file, its columns, and the column that names a row."""
PARTS = tuple(_TABLES)
_SAME = ("network", "size", "device")  # rows with equal ones are replaced


def measure(
    names: Sequence[str], size: int, only: Sequence[str], wanted: str, sources: Sequence[Path], results: Path
) -> None:
    """Measure the parts `only` of PARTS (all by default) on the device `wanted`; print them, and write the files.

    `names` are networks, on images of `size` pixels. The figure's accuracies are of the records below `sources`. Rows
    of other networks, sizes and devices stay in the files. Every part is on disk as soon as it is measured. Raises
    InputError for an unknown part or network, and for a size that a network does not take, before anything is timed.
    """
    parts = list(dict.fromkeys(only)) or list(PARTS)
    if unknown := [part for part in parts if part not in PARTS]:
        raise InputError(f"{unknown[0]}: there is no part of this name; choose from {', '.join(PARTS)}", field="only")
    names = [canonical(name) for name in names]
    check_writable(results)
    device = devices.device_of(wanted)
    torch.set_num_threads(cores())
    folder = ResultsFolder(results)
    kept = {part: _kept(folder.table(name), of, key) for part, (name, of, key) in _TABLES.items()}
    screen = Screen(PlainConsole(wide=220))
    with screen:
        with screen.busy("counting"):
            ready = [networks.ready(name, size, device) for name in dict.fromkeys(names)] if parts != ["blocks"] else []
            points = accuracy.read(sources)
        paths: dict[Path, None] = {}
        for part in [part for part in PARTS if part in parts]:
            about = environment_columns() | {"device": devices.name(device), "threads": cores()}
            progress = lambda text, done, of, part=part: screen.doing(part, text, done, of, again=part)
            if part == "networks":
                new = [row | about for row in networks.measured(ready, progress)]
                kept[part] = sorted(_replaced(kept[part], new), key=_by_cost)
                _show(report.networks(new), screen.console)
                _show(report.speeds(new), screen.console)
            elif part == "adapters":
                sizes = [(network.name, size, device) for network in ready]
                new = [row | about for one in sizes for row in adapter_rows.measured(*one, progress)]
                kept[part] = _replaced(kept[part], new)
                _show(report.adapters(new), screen.console)
            else:
                kept[part] = new = [row | about for row in block_rows.measured(device, progress=progress)]
                _show(report.blocks(new), screen.console)
            screen.done(part)
            screen.console.print(report.about(new), style="dim", markup=False)
            paths |= dict.fromkeys(_write(folder, kept, points))
    screen.files(list(paths))


def _kept(path: Path, of: Sequence[columns.Column], key: str) -> list[dict]:
    """The rows that the file has."""
    by_key = load_previous(path, columns.python_types(of), key, "columns")
    return [row for rows in by_key.values() for row in rows]


def _replaced(old: Sequence[dict], new: Sequence[dict]) -> list[dict]:
    """The rows, the new ones in the place of old ones of the same network, size and device."""
    measured = {tuple(row[name] for name in _SAME) for row in new}
    return [*(row for row in old if tuple(row[name] for name in _SAME) not in measured), *new]


def _by_cost(row: dict) -> tuple:
    """The smallest first; the sort is stable, so that precisions and batches stay in their order."""
    return row["device"], row["size"], row["macs"], row["network"]


def _write(folder: ResultsFolder, rows: dict[str, list[dict]], points: accuracy.Points) -> list[Path]:
    """Write all rows as Parquet and Markdown, and the figure; one that cannot be drawn any more is removed."""
    figures = {end: folder.table(figure.NAME, end) for end in ("svg", "png")}
    contents: dict = {}
    with style.shielded():
        try:
            drawn = figure.draw(points, list(dict.fromkeys(row["network"] for row in rows["networks"])))
            contents |= {figures[end]: content for end, content in style.as_bytes(drawn).items()}
        except style.NotDrawn as reason:
            drawn = str(reason)
            contents |= dict.fromkeys(figures.values())
    for part, (name, of, _) in _TABLES.items():
        if rows[part]:
            contents[folder.table(name)] = parquet(columns.table(rows[part], of))
    contents[folder.table("efficiency", "md")] = report.markdown(*(rows[part] for part in PARTS), drawn).encode()
    return write_all(contents)


def _show(lines: report.Lines, console: PlainConsole) -> None:
    head, rows = lines
    table = Table(header_style="bold")
    for i, name in enumerate(head):
        table.add_column(name, justify="right" if i else "left")
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)
