"""The accuracy gap to fine-tune: a heat map of methods by domains, with the numbers in the cells."""

import statistics
from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from visual_decathlon.benchmark.report.figures.groups import Group
from visual_decathlon.benchmark.report.figures.measures import baseline_row, best, column, cut, labels
from visual_decathlon.benchmark.report.figures.style import (
    BELOW_ABOVE,
    QUIET,
    WIDTH,
    Drawn,
    NotDrawn,
    axes,
    canvas,
    fitting,
    ink_on,
    width_of,
)
from visual_decathlon.benchmark.tables.published import published_baseline
from visual_decathlon.benchmark.tables.score import BASELINE
from visual_decathlon.benchmark.tables.table1 import Table
from visual_decathlon.datasets.catalogue import DOMAINS
from visual_decathlon.datasets.errors import option

END = 20.0  # points of top-1 at which the colours end: one scale for all groups
ROW, HEAD = 0.235, 0.85  # inches
WIDEST = 3.2  # inches for a method's name


def gaps(table: Table) -> tuple[list[str], list[str], np.ndarray]:
    """(labels, domains, top-1 minus fine-tune's in points), the best mean first; NaN where one of the two is missing.

    The baseline is the group's own fine-tune row, or the published one where S uses it (on the real test split).
    Raises NotDrawn where there is neither, or no other method.
    """
    own = baseline_row(table)
    if own:
        reference = {name: spread.mean for name, spread in own.domains.items()}
    elif table.published_baseline:
        reference = published_baseline()
    else:
        raise NotDrawn(f"no fine-tune run ({option('method')}finetune with the same settings makes it)")
    rows = [row for row in best(table) if row.method != BASELINE and row.domains.keys() & reference.keys()]
    if not rows:
        raise NotDrawn("no method other than fine-tune")
    domains = [d for d in (*DOMAINS, *table.own) if d in reference and any(d in row.domains for row in rows)]
    cells = np.array(
        [[row.domains[d].mean - reference[d] if d in row.domains else np.nan for d in domains] for row in rows]
    )
    # A row without some of the domains cannot be ranked among the complete rows: it follows them.
    order = sorted(range(len(rows)), key=lambda i: (np.isnan(cells[i]).sum(), -np.nanmean(cells[i]), rows[i].label))
    names = labels(table)
    return [names[rows[i].method] for i in order], domains, cells[order]


def draw(group: Group) -> Iterable[Drawn]:
    """The heat map. Colours are centred at 0; printed in grey, signs and darker cells still show which are below."""
    methods, domains, cells = gaps(group.table)
    methods = [fitting(text, WIDEST, 8) for text in methods]
    margin = max(1.3, *(width_of(text, 8) + 0.25 for text in methods))
    several = len(domains) > 1
    title = "Accuracy gap to fine-tune, points of top-1"
    figure = canvas(HEAD + 0.5 + ROW * len(methods), title, group.where)
    ax = axes(figure, margin, 0.5, 0.15, HEAD)
    width = len(domains) + 1.15 * several
    names = [fitting(column(d), (WIDTH - margin - 0.15) / width - 0.04, 8) for d in domains]
    cell_axes(ax, width, len(methods))
    columns = [(i, cells[:, i], name) for i, name in enumerate(names)]
    if several:
        mean = np.array([statistics.fmean(row) if not np.isnan(row).any() else np.nan for row in cells])
        columns.append((len(domains) + 0.15, mean, "mean"))
    for left, values, _ in columns:
        for i, value in enumerate(values):
            cell(ax, left, i, value, bold=left > len(domains))
    ax.set_xticks([left + 0.5 for left, _, _ in columns], [name for _, _, name in columns])
    ax.set_yticks(np.arange(len(methods)) + 0.5, methods)
    scale(figure, margin)
    baseline = "the published fine-tune row" if baseline_row(group.table) is None else "fine-tune of the same group"
    caption = [
        f"Top-1 minus that of {baseline}, in points, a row a method, the best mean first.{cut(group.table)}",
        group.about,
        f"Blue (dark in grey) is below fine-tune, orange above; colours end at ±{END:g} points, numbers do not.",
    ]
    if np.isnan(cells).any():
        caption.append("Hatched cells were not run; such rows follow the whole ones and have no mean.")
    yield Drawn(f"gap{group.suffix}", figure, title, " ".join(caption))


def cell_axes(ax: Axes, width: float, height: int) -> None:
    """Axes of `width` by `height` cells without frame, grid and tick marks, the columns' names at the top."""
    ax.set_xlim(0, width)
    ax.set_ylim(height, 0)
    ax.grid(False)
    ax.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    for spine in ax.spines.values():
        spine.set_visible(False)


def text_of(value: float) -> str:
    """The value with one decimal, its sign and a typographic minus; 0.0 without a sign."""
    text = f"{value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "\N{MINUS SIGN}")


def colour_of(value: float) -> tuple:
    """Colour (RGBA) of a gap in points."""
    return BELOW_ABOVE(0.5 + np.clip(value / END, -1, 1) / 2)


def cell(ax: Axes, left: float, top: int, value: float, bold: bool) -> None:
    """A coloured cell with its number, hatched where the value is missing."""
    if np.isnan(value):
        ax.add_patch(Rectangle((left, top), 1, 1, facecolor="#F2F2F2", edgecolor="#BFBFBF", hatch="////", linewidth=0))
        return
    colour = colour_of(value)
    ax.add_patch(Rectangle((left, top), 1, 1, facecolor=colour, edgecolor="#FFFFFF", linewidth=0.8))
    weight = "bold" if bold else "normal"
    text = text_of(value)
    ax.text(left + 0.5, top + 0.53, text, ha="center", va="center", size=8, color=ink_on(colour), weight=weight)


def scale(figure: Figure, margin: float) -> None:
    """The colour scale at the foot of the figure."""
    width, height = figure.get_size_inches()
    bar = figure.add_axes((margin / width, 0.27 / height, (width - margin - 0.3) / width, 0.11 / height))
    bar.imshow(np.linspace(0, 1, 256)[None], cmap=BELOW_ABOVE, aspect="auto", extent=(-END, END, 0, 1))
    bar.grid(False)
    bar.set_yticks([])
    ticks = np.arange(-END, END + 1, 10)
    bar.set_xticks(ticks, [text_of(t).removesuffix(".0") for t in ticks])
    bar.tick_params(labelsize=7, length=2, pad=1)
    for spine in bar.spines.values():
        spine.set_visible(False)
    bar.text(-0.02, 0.5, "points to fine-tune", transform=bar.transAxes, ha="right", va="center", size=8, color=QUIET)
