"""Bars for the cost of a training step: its time with the 10th and 90th percentile, and the peak memory."""

from collections.abc import Iterable, Sequence

from matplotlib.axes import Axes
from matplotlib.patches import Patch

from visual_decathlon.benchmark.report.figures.groups import Group
from visual_decathlon.benchmark.report.figures.measures import best, cut, labels, place_text
from visual_decathlon.benchmark.report.figures.style import (
    BLUE,
    INK,
    SKY,
    WIDTH,
    Drawn,
    NotDrawn,
    axes,
    canvas,
    fitting,
    width_of,
)
from visual_decathlon.benchmark.tables.score import BASELINE

ROW = 0.2  # inches
WIDEST = 3.2  # inches for a method's name
HATCHES = ("", "////", "....", "xxxx", "||||", "----")  # of several machines


def draw(group: Group) -> Iterable[Drawn]:
    """Two columns of bars that share their rows, the fastest step at the top. Raises NotDrawn without a step time."""
    kept = {row.method for row in best(group.table)}
    rows = [row for row in group.table.timing if row["step ms"] is not None and row["method"] in kept]
    if not rows:
        raise NotDrawn("no step time")
    rows.sort(key=lambda row: (row["step ms"], row["method"]))
    machines = sorted({place_text(row) for row in rows})
    foot = 0.5 + (0.2 * len(machines) if len(machines) > 1 else 0)
    title = "Training step: time and peak memory"
    figure = canvas(0.7 + foot + ROW * len(rows), title, group.where)
    label_of = labels(group.table)
    names = [fitting(label_of[row["method"]], WIDEST, 8, bold=True) for row in rows]
    left = max(1.3, *(width_of(name, 8, bold=True) + 0.2 for name in names))
    half = left + 0.56 * (WIDTH - left)
    time, memory = axes(figure, left, foot, WIDTH - half + 0.2, 0.7), axes(figure, half + 0.2, foot, 0.15, 0.7)
    hatches = [HATCHES[machines.index(place_text(row)) % len(HATCHES)] for row in rows]
    _bars(time, rows, "step ms", hatches)
    _bars(memory, rows, "peak MB", hatches)
    time.set_xlabel("step, ms: median, p10 to p90")
    memory.set_xlabel("peak memory, MB")
    time.set_yticks(range(len(rows)), names)
    memory.set_yticks(range(len(rows)), [""] * len(rows))
    for label, row in zip(time.get_yticklabels(), rows):
        label.set_weight("bold" if row["method"] == BASELINE else "normal")
    caption = [
        "Median training step with its 10th and 90th percentile, each the median over domains and seeds, and the "
        f"largest peak memory.{cut(group.table)} {group.about}"
    ]
    if any(row["method"] == BASELINE for row in rows):
        caption.append("Dark bar and dashed line: fine-tune.")
    if len(machines) == 1:
        caption.append(f"Measured on {machines[0]}.")
    else:
        handles = [Patch(facecolor=SKY, edgecolor=INK, hatch=h, label=m) for m, h in zip(machines, HATCHES)]
        figure.legend(handles=handles, loc="lower left", bbox_to_anchor=(0.05, 0.0), labelspacing=0.3)
        caption.append("Hatches tell machines apart; bars of different machines are not comparable.")
    if any(row["peak MB"] is None for row in rows):
        caption.append("Where a memory bar is missing it was not measured.")
    yield Drawn(f"steps{group.suffix}", figure, title, " ".join(caption))


def _bars(ax: Axes, rows: Sequence[dict], key: str, hatches: Sequence[str]) -> None:
    """Draw bars from 0, so that their lengths are the numbers, and the numbers in a column at the right."""
    ends = [row[end] or 0 for row in rows for end in ((key, "p90") if key == "step ms" else (key,))]
    digits = 0 if max(ends) >= 100 else 1
    for i, (row, hatch) in enumerate(zip(rows, hatches)):
        value = row[key]
        if value is None:
            continue
        ax.barh(i, value, 0.74, color=BLUE if row["method"] == BASELINE else SKY, edgecolor=INK, lw=0.4, hatch=hatch)
        if key == "step ms" and row["p10"] is not None and row["p90"] is not None:
            ax.plot([row["p10"], row["p90"]], [i, i], color=INK, linewidth=1.2, marker="|", markersize=5, zorder=4)
        right = {"transform": ax.get_yaxis_transform(), "ha": "right", "va": "center_baseline"}
        ax.text(1, i, f"{value:,.{digits}f}", size=8, **right)
        if row["method"] == BASELINE:
            ax.axvline(value, color=INK, linewidth=0.9, linestyle=(0, (4, 2)), zorder=3)
    ax.set_xlim(0, max(ends) * 1.22 or 1)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.grid(False, axis="y")
    ax.tick_params(axis="y", length=0)
