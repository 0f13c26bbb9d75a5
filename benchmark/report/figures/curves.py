"""Learning curves: a figure for each method, a line for each domain; training loss and top-1 by epoch and second.

The losses of forty methods in a single figure could not be read.
"""

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from visual_decathlon.benchmark.report.figures.groups import Group, file_names
from visual_decathlon.benchmark.report.figures.measures import best, column, labels, seeds_text
from visual_decathlon.benchmark.report.figures.style import (
    LINES,
    WIDTH,
    Drawn,
    NotDrawn,
    axes,
    canvas,
    fitting,
    round_ticks,
)
from visual_decathlon.benchmark.tables.table1 import Row, Table
from visual_decathlon.datasets.catalogue import DOMAINS

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = 6  # of the legend
HEAD = 0.66  # inches above the axes
MARKED = {"markersize": 5, "markeredgewidth": 0.5, "markeredgecolor": "#FFFFFF", "linewidth": 1.5}


def hashes(table: Table) -> set[str]:
    """Hashes of the runs whose histories the curves of the table need."""
    return set(_runs(table)["hash"])


def draw(group: Group) -> Iterable[Drawn]:
    """A figure for each method that has a history; of very many only the best. Raises NotDrawn after them."""
    runs = _runs(group.table)
    runs = runs[runs["hash"].isin(group.histories.keys())]
    if not len(runs):
        raise NotDrawn("no history of a training")
    rows = best(group.table)
    methods = [row.method for row in rows]
    for row, name in zip(rows, file_names(methods, methods), strict=True):
        mine = runs[runs["method"] == row.method]
        if len(mine):
            yield _one(group, row, mine, f"curves/{name}{group.suffix}")
    if more := len(group.table.rows) - len(rows):
        raise NotDrawn(f"only the best {len(rows)} methods of a group are drawn; {more:,} are left out")


def _runs(table: Table) -> "pd.DataFrame":
    """The runs of the drawn methods, without the pretraining of the shared backbone, which belongs to no method."""
    return table.runs[~table.runs["source_cell"] & table.runs["method"].isin([row.method for row in best(table)])]


def seconds_of(history: Sequence[dict], prepare: float) -> list[float]:
    """Seconds from the start to the end of each epoch, including the preparation before the first."""
    start = 0.0 if np.isnan(prepare) else prepare
    return [start + seconds for seconds in accumulate(row["seconds"] for row in history)]


def _one(group: Group, row: Row, runs: "pd.DataFrame", name: str) -> Drawn:
    """The figure of one method."""
    present = set(runs["domain"])
    styles = {d: i % len(LINES) for i, d in enumerate((*DOMAINS, *group.table.own)) if d in present}
    foot = 0.62 + 0.19 * -(-len(styles) // COLUMNS)
    title = f"Learning curves: {labels(group.table)[row.method]}"
    figure = canvas(HEAD + 5.0 + foot, title, group.where)
    panels = {
        (key, by): axes(figure, left, foot + up, WIDTH - left - 3.55, HEAD + 2.62 - up)
        for key, up in (("loss", 2.62), ("train_top1", 0.0))
        for by, left in (("epoch", 0.62), ("seconds", 4.72))
    }
    for domain, index in styles.items():
        _plot_domain(panels, group, runs[runs["domain"] == domain], index)
    _dress(panels)
    handles = [_handle(domain, index) for domain, index in styles.items()]
    figure.legend(handles=handles, loc="lower left", ncols=COLUMNS, bbox_to_anchor=(0.06, 0.0), handlelength=3.2)
    seeds = "Thin: each seed; thick: their mean. " if row.seeds > 1 else ""
    few = f" This method: {seeds_text([row])}." if row.seeds < max(r.seeds for r in group.table.rows) else ""
    caption = (
        f"Learning curves of {row.label}: loss (log) and top-1 on the training batches, which are augmented, after "
        f"each epoch and against the seconds of training, with what is prepared before it. {seeds}{group.about}{few}"
    )
    return Drawn(name, figure, title, caption)


def _plot_domain(panels: dict[tuple[str, str], Axes], group: Group, runs: "pd.DataFrame", index: int) -> None:
    """Draw the runs of one domain into the four panels."""
    trainings = [group.histories[name] for name in runs["hash"]]
    prepared = runs["prepare_seconds"].astype(float)
    at = {"epoch": [[row["epoch"] for row in history] for history in trainings]}
    at["seconds"] = [seconds_of(history, p) for history, p in zip(trainings, prepared, strict=True)]
    for (key, by), ax in panels.items():
        _lines(ax, at[by], [[row[key] for row in history] for history in trainings], index)


def _handle(domain: str, index: int) -> Line2D:
    """The domain's entry in the legend."""
    colour, dashes, mark = LINES[index]
    line = {"color": colour, "linestyle": dashes, "marker": mark, "label": fitting(column(domain), 0.75, 8)}
    return Line2D([], [], **line, **MARKED)


def _lines(ax: Axes, at: Sequence[Sequence[float]], values: Sequence[Sequence[float]], index: int) -> None:
    """Every seed as a thin line; their mean thick, with a mark at its end and one where no other line has its mark."""
    colour, dashes, mark = LINES[index]
    if len(at) > 1:
        for x, y in zip(at, values, strict=True):
            ax.plot(x, y, color=colour, linewidth=0.5, alpha=0.55, zorder=2)
    length = min(map(len, at))
    x, y = (np.mean([one[:length] for one in each], axis=0) for each in (at, values))
    marked = [(index + 1) * (length - 1) // (len(LINES) + 2), length - 1]
    ax.plot(x, y, color=colour, linestyle=dashes, marker=mark, markevery=marked, **MARKED)


def _dress(panels: dict[tuple[str, str], Axes]) -> None:
    """Set scales, ticks and names of the four axes; the two of a row share their y scale."""
    for by, name in (("epoch", "epoch"), ("seconds", "seconds of training")):
        loss, top1 = panels["loss", by], panels["train_top1", by]
        loss.set_yscale("log")
        loss.set_ylim(panels["loss", "epoch"].get_ylim())
        round_ticks(loss.yaxis, *loss.get_ylim())
        loss.tick_params(labelbottom=False)
        top1.set_ylim(0, 101)
        top1.set_xlabel(name)
        if by == "seconds":
            for ax in (loss, top1):
                ax.set_xlim(left=0)
        else:
            for ax in (loss, top1):
                ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            loss.set_ylabel("training loss (log)")
            top1.set_ylabel("top-1 on training batches, %")
