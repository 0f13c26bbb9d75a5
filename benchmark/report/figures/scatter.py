"""A scatter plot of methods: a mark for each family, error bars over seeds, the Pareto front, labels and a legend."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from visual_decathlon.benchmark.report.figures.label_placement import Label, write_labels
from visual_decathlon.benchmark.report.figures.measures import Measure, Point, front
from visual_decathlon.benchmark.report.figures.style import BLACK, FAMILIES, INK, MOST, canvas, family, round_ticks

TOP, PLOT = 0.62, 4.4  # inches: above the axes, and their height
HOLLOW = {"marker": "o", "markersize": 6, "markerfacecolor": "none", "markeredgecolor": INK, "linestyle": "none"}
FRONT = {"color": INK, "linewidth": 1.0}
DASHED = (0, (3, 2))


@dataclass(frozen=True)
class Hollow:
    """A published point, drawn as a hollow mark."""

    x: float
    y: float
    label: str


def empty(measure: Measure, title: str, where: str, hollow: bool) -> tuple[Figure, float]:
    """(a canvas with the legend of families at its foot, the height of the foot in inches)."""
    handles = []
    for name in sorted({p.row.family for p in measure.points}, key=_order):
        mark, colour = family(name)
        handles.append(Line2D([], [], linestyle="none", **_mark_style(mark, colour), label=name))
    handles.append(Line2D([], [], drawstyle="steps-post", **FRONT, label="Pareto front"))
    if hollow:
        handles.append(Line2D([], [], **HOLLOW, label="published"))
    lines = -(-len(handles) // 5)
    columns = -(-len(handles) // lines)
    foot = 0.62 + 0.19 * lines
    figure = canvas(TOP + PLOT + foot, title, where)
    figure.legend(
        handles=handles,
        ncols=columns,
        loc="lower left",
        bbox_to_anchor=(0.06, 0.0),
        handletextpad=0.3,
        columnspacing=1.2,
    )
    return figure, foot


def _order(name: str) -> tuple[int, str]:
    """Sorting key: the suite's own families first, in their fixed order."""
    return (list(FAMILIES).index(name) if name in FAMILIES else len(FAMILIES), name)


def _mark_style(mark: str | tuple[int, int, int], colour: str) -> dict:
    """Style of a family's mark; pointed marks are larger, as they cover less."""
    pointed = mark == "*" or isinstance(mark, tuple)
    return {
        "marker": mark,
        "markersize": 9 if pointed else 6.5,
        "markerfacecolor": colour,
        "markeredgecolor": BLACK,
        "markeredgewidth": 0.6,
    }


def scatter(ax: Axes, points: Sequence[Point], xs: Sequence[float], hollow: Sequence[Hollow]) -> list[str]:
    """Draw the points at their `xs` (log) and the published ones, set the limits; return the labels that do not fit.

    Of more than MOST points only those of the front have error bars.
    """
    ys = [point.value.mean for point in points]
    ahead = front(xs, ys)
    bars = [(point.value.deviation or 0.0) * (i in ahead or len(points) <= MOST) for i, point in enumerate(points)]
    ends = [y + sign * bar for y, bar in zip(ys, bars, strict=True) for sign in (-1, 1)]
    _limits(ax, [*xs, *(p.x for p in hollow)], [*ends, *(p.y for p in hollow)])
    for point, x, y, bar in zip(points, xs, ys, bars, strict=True):
        if bar:
            ax.errorbar(x, y, bar, color="#A6A6A6", linewidth=0.8, capsize=1.5, zorder=2.5)
        ax.plot(x, y, **_mark_style(*family(point.row.family)), zorder=4)
    for p in hollow:
        ax.plot(p.x, p.y, **HOLLOW, zorder=3.5)
    own = [Label(point.label, x, y, i in ahead) for i, (point, x, y) in enumerate(zip(points, xs, ys, strict=True))]
    others = front([p.x for p in hollow], [p.y for p in hollow])
    published = [Label(p.label, p.x, p.y, i in others) for i, p in enumerate(hollow)]
    fronts = []
    for labels, dashes in ((own, "-"), (published, DASHED)):
        if corners := sorted((label.x, label.y) for label in labels if label.bold):
            fronts.append(_steps(corners, ax.get_xlim()[1]))
            ax.plot(*zip(*fronts[-1]), **FRONT, linestyle=dashes, zorder=3)
    return [label.text for label in write_labels(ax, [*own, *published], fronts)]


def _limits(ax: Axes, xs: Sequence[float], ys: Sequence[float]) -> None:
    """Set limits with room around the points, on the log axis in proportion to their range."""
    spread = max(xs) / min(xs)
    ax.set_xscale("log")
    ax.set_xlim(min(xs) / max(1.02, spread**0.05), max(xs) * max(1.02, spread**0.07))
    room = 0.07 * (max(ys) - min(ys)) or 0.05 * (abs(max(ys)) or 1)
    ax.set_ylim(min(ys) - room, max(ys) + room)
    round_ticks(ax.xaxis, *ax.get_xlim())


def _steps(corners: Sequence[tuple[float, float]], end: float) -> list[tuple[float, float]]:
    """Corners of a front's staircase: the value reached at each cost, flat until the next point."""
    out = []
    for x, y in corners:
        if out:
            out.append((x, out[-1][1]))
        out.append((x, y))
    return [*out, (end, out[-1][1])]
