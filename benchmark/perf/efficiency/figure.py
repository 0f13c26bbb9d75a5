"""The figure: mean top-1 against multiply-adds, a point for each network that has records."""

from collections.abc import Sequence

from matplotlib.lines import Line2D

from visual_decathlon.benchmark.perf.efficiency.accuracy import Point, Points
from visual_decathlon.benchmark.report.figures.groups import drawn_text
from visual_decathlon.benchmark.report.figures.label_placement import Label, write_labels
from visual_decathlon.benchmark.report.figures.measures import listed
from visual_decathlon.benchmark.report.figures.style import (
    BLACK,
    BLUE,
    INK,
    SKY,
    Drawn,
    NotDrawn,
    axes,
    canvas,
    round_ticks,
)
from visual_decathlon.benchmark.tables.score import BASELINE

NAME, TITLE = "efficiency", "Accuracy against multiply-adds"
TOP, PLOT, FOOT = 0.62, 3.4, 0.82  # inches
LOOKS = {
    BASELINE: ({"marker": "o", "markerfacecolor": BLUE}, "all of the network trained (finetune)"),
    "feature": ({"marker": "s", "markerfacecolor": SKY}, "head alone, on frozen features (feature)"),
}
MARKED = {"markersize": 7, "markeredgecolor": BLACK, "markeredgewidth": 0.6, "linestyle": "none"}


def draw(points: Points, measured: Sequence[str]) -> Drawn:
    """The figure; `measured` names the networks of the table, whose lack of records the caption states.

    Raises NotDrawn where no network has records.
    """
    if not points.points:
        raise NotDrawn("no network has runs of finetune or feature on all ten domains")
    seeds = sorted({point.seeds for point in points.points})
    n = f"n = {seeds[0]} seed{'s' * (seeds[0] > 1)}" if len(seeds) == 1 else f"n = {seeds[0]} to {seeds[-1]} seeds"
    where = f"{points.where}; {n}"
    figure = canvas(TOP + PLOT + FOOT, TITLE, where)
    ax = axes(figure, 0.68, FOOT, 0.15, TOP)
    methods = [method for method in LOOKS if any(p.method == method for p in points.points)]
    _limits(ax, points.points)
    for p in points.points:
        if p.top1.deviation:
            ax.errorbar(p.macs / 1e6, p.top1.mean, p.top1.deviation, color=INK, linewidth=0.9, capsize=3, zorder=3)
        ax.plot(p.macs / 1e6, p.top1.mean, **LOOKS[p.method][0], **MARKED, zorder=4)
    write_labels(ax, [Label(p.label, p.macs / 1e6, p.top1.mean) for p in points.points])
    ax.set_xlabel("multiply-adds of one image, millions (log)")
    ax.set_ylabel("Mean top-1 over the ten domains, %")
    handles = [Line2D([], [], **LOOKS[method][0], **MARKED, label=LOOKS[method][1]) for method in methods]
    figure.legend(handles=handles, ncols=2, loc="lower left", bbox_to_anchor=(0.06, 0.0), handletextpad=0.3)
    return Drawn(NAME, figure, TITLE, _caption(points, where, measured))


def _limits(ax, points: Sequence[Point]) -> None:
    """A log axis with at least a factor of four around the points, and room above and below the bars."""
    xs = [p.macs / 1e6 for p in points]
    ends = [p.top1.mean + sign * (p.top1.deviation or 0) for p in points for sign in (-1, 1)]
    ax.set_xscale("log")
    ax.set_xlim(min(xs) / 2, max(xs) * 2)
    room = max(1.0, 0.12 * (max(ends) - min(ends)))
    ax.set_ylim(min(ends) - room, max(ends) + room)
    round_ticks(ax.xaxis, *ax.get_xlim())


def _caption(points: Points, where: str, measured: Sequence[str]) -> str:
    """What is drawn, and which networks have no runs."""
    have = {point.network for point in points.points}
    without = [name for name in measured if name not in have]
    sentences = [
        "Mean top-1 over the ten domains against the multiply-adds of the network for one image, at the width and the "
        "image size of these runs, which differ from those of the tables.",
        f"{where}.{drawn_text(points.standin)}",
    ]
    if any(point.top1.deviation for point in points.points):
        sentences.append("Bars: ± one standard deviation over seeds.")
    if given := sorted(name for name in have if "(" in name):
        sentences.append(f"(…) stands for the arguments of {'; '.join(given)}.")
    if len(have) == 1:
        sentences.append(f"Only {next(iter(have))} has runs.")
    if without:
        sentences.append(f"Not drawn, as no runs of them are there yet: {listed(without)}.")
    return " ".join(sentences)
