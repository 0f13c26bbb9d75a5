"""The figures of the scaling studies: each measured point with its spread, and a line where the growth is linear.

Functions of the rows of growth.parquet: the same rows give the same bytes.
"""

import dataclasses
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from visual_decathlon.benchmark.perf.growth.fit import LINEAR, fitted
from visual_decathlon.benchmark.report.figures.style import (
    BLACK,
    BLUE,
    LINES,
    QUIET,
    SHORT,
    VERMILLION,
    WIDTH,
    Drawn,
    axes,
    canvas,
    fitting,
    round_ticks,
)  # fmt: skip
from visual_decathlon.methods.registry import select

TOP, GAP = 0.62, 0.3  # inches: above the axes, and between axes of one column
MARKED = {"markersize": 5.5, "markeredgewidth": 0.6, "markeredgecolor": BLACK}
SPREAD = {"color": "#A6A6A6", "linewidth": 0.9, "capsize": 2, "zorder": 2.5, "linestyle": "none"}
FLAT = 1.1  # largest by least value: a smaller growth is not visible in these rounds


@dataclass(frozen=True)
class Part:
    """Some rows of a study in separate axes."""

    what: str
    name: str  # of the axis
    unit: str
    share: float  # of the height
    scale: float = 1.0  # from the rows' unit to `unit`
    only: Callable[[str], bool] = lambda series: True
    label: str = ""  # in the legend, where the rows have no series
    power: bool = False  # on a log axis, with the exponent instead of a line


@dataclass(frozen=True)
class Kind:
    """How a study is drawn: its line is start + slope * `drive(value)`, in the `unit` of the part, `per` in words."""

    title: str
    axis: str
    per: str
    caption: str
    parts: tuple[Part, ...]
    drive: Callable[[float], float] = float
    whole: Callable[[float], float] = lambda at: 1.0  # factor of the value that makes it linear
    begin: str = ""  # before the line, in words
    place: Callable[[float], float] = float  # position of a value on the x axis
    log: bool = False  # whether the x axis is logarithmic


_BODY = Part("step", "ms an image", "ms", 0.68, only=lambda series: series != "feature")
_HEAD = Part("step", "µs an image", "µs", 0.32, scale=1e3, only=lambda series: series == "feature")
_STEP = (
    "Time of a training step divided by its images: forward, backward and optimiser. The feature extractor has "
    "separate axes: it trains its head on features that were computed once."
)

KINDS = {
    "width": Kind(
        title="Training step against width",
        axis="width of the ResNet-26 (log)",
        per="width",
        caption=_STEP,
        parts=(dataclasses.replace(_BODY, power=True), _HEAD),
        log=True,
    ),
    "size": Kind(
        title="Training step against image size",
        axis="side of the image in pixels, spaced by its area",
        per="1,000 px",
        caption=_STEP,
        parts=(_BODY, _HEAD),
        drive=lambda at: at**2 / 1e3,
        place=lambda at: at**2,
    ),
    "batch": Kind(
        title="Training step against batch",
        axis="images in a batch (log)",
        per="an image",
        caption=_STEP,
        parts=(_BODY, _HEAD),
        whole=float,
        begin="a step ",
        log=True,
    ),
    "classes": Kind(
        title="Training step against classes",
        axis="classes",
        per="1,000 classes",
        caption=_STEP,
        parts=(_BODY, _HEAD),
        drive=lambda at: at / 1e3,
    ),
    "packing": Kind(
        title="Packing against number of images",
        axis="images",
        per="1,000 images",
        caption="Decoding a split once into its pack: seconds, and the peak memory of a process that does nothing "
        "else, including Python and its libraries.",
        parts=(
            Part("time", "seconds", "s", 0.6, label="time"),
            Part("peak", "peak memory, MB", "MB", 0.4, label="peak memory"),
        ),
        drive=lambda at: at / 1e3,
    ),
    "methods": Kind(
        title="A bench against number of methods",
        axis="methods",
        per="a method",
        caption="Wall seconds of the command of a bench, with pixels and backbone in the cache, and the training "
        "seconds in the records of those runs, divided by the processes that shared them. The lines differ in their "
        "start by work that is done once, and in their slope by the work of each run other than training: evaluation, "
        "merging, counting of multiply-adds.",
        parts=(
            Part("bench", "seconds", "s", 1.0, label="the command"),
            Part("training", "seconds", "s", 1.0, label="the training in its records"),
        ),
    ),
}
"""Studies whose figure `_one` draws; the memory of domains has its own."""


def draw(rows: Sequence[dict]) -> Iterator[Drawn]:
    """A figure for each study in the rows, in the order of their first rows."""
    for grows in dict.fromkeys(row["grows"] for row in rows):
        of_study = [row for row in rows if row["grows"] == grows]
        yield _domains(of_study) if grows == "domains" else _one(grows, of_study)


def _one(grows: str, rows: Sequence[dict]) -> Drawn:
    """The figure of one study."""
    kind = KINDS[grows]
    lines = list(_series(kind, rows))
    parts = {part.name: part for part, *_ in lines}  # parts with the same y axis share their axes
    foot = 0.62 + 0.19 * -(-len(lines) // 2)
    plot = 3.9 if len(parts) > 1 else 3.2
    figure = canvas(TOP + plot + foot, kind.title, _where(rows))
    room, up, panels = plot - GAP * (len(parts) - 1), plot, {}
    for name, part in parts.items():
        up -= part.share * room
        panels[name] = axes(figure, 0.74, foot + up, 0.2, TOP + plot - up - part.share * room)
        up -= GAP
    handles, fits = [], []
    for i, (part, label, series) in enumerate(lines):
        fit, handle = _draw(panels[part.name], kind, part, series, i)
        text = f"{label}: {fit}" if fit else label
        handle.set_label(fitting(text, 3.75, 8))
        handles.append(handle)
        fits += [text] * bool(fit)
    for name, ax in panels.items():
        ax.set_ylabel(name)
        _dress(ax, kind, parts[name], rows, last=name == list(panels)[-1])
    figure.align_ylabels(list(panels.values()))
    figure.legend(
        handles=handles, ncols=2, loc="lower left", bbox_to_anchor=(0.05, 0.0), handlelength=2.6, columnspacing=1
    )
    caption = " ".join([kind.caption, _about(rows), *(["; ".join(fits) + "."] if fits else [])])
    return Drawn(f"growth-{grows}", figure, kind.title, caption)


def _series(kind: Kind, rows: Sequence[dict]) -> Iterator[tuple[Part, str, list[dict]]]:
    """(part, label, rows in the order of the x axis) of each series of points."""
    for part in kind.parts:
        of_part = [row for row in rows if row["what"] == part.what and part.only(row["series"])]
        for series in dict.fromkeys(row["series"] for row in of_part):
            points = sorted((row for row in of_part if row["series"] == series), key=lambda row: row["at"])
            yield part, part.label or _label(series), points


def _label(series: str) -> str:
    """The method's label in tables."""
    (method,) = select(series)
    return method.label


def _draw(ax: Axes, kind: Kind, part: Part, rows: Sequence[dict], index: int) -> tuple[str, Line2D]:
    """Draw points with spreads, and their line where they have one; return (text of the line, legend handle)."""
    colour, _, mark = LINES[index]
    at = [row["at"] for row in rows]
    xs, values = [kind.place(x) for x in at], [row["value"] * part.scale for row in rows]
    spread = [[part.scale * abs(row["value"] - row[end]) for row in rows] for end in ("least", "largest")]
    ax.errorbar(xs, values, spread, **SPREAD)
    style = {"color": colour, "marker": mark, **MARKED}
    whole = [value * kind.whole(x) for x, value in zip(at, values, strict=True)]
    line = fitted([kind.drive(x) for x in at], whole)
    if part.power or line is None or not line.linear:
        ax.plot(xs, values, linewidth=1, linestyle=SHORT, zorder=3, **style)
        style |= {"linewidth": 1, "linestyle": SHORT}
        text = _exponent(at, values, kind.per) if part.power else ""
    else:
        dense = [at[0] + (at[-1] - at[0]) * i / 200 for i in range(201)]
        curve = [(line.start + line.slope * kind.drive(x)) / kind.whole(x) for x in dense]
        ax.plot([kind.place(x) for x in dense], curve, color=colour, linewidth=1.2)
        ax.plot(xs, values, linestyle="none", zorder=3, **style)
        style |= {"linewidth": 1.2, "linestyle": "-"}
        text = f"{kind.begin}{number(line.start)} + {number(line.slope)} {part.unit} {_a(kind.per)}"
        text += f" (±{math.ceil(100 * line.off)} %)"
    if not kind.begin and not part.power and max(values) <= FLAT * min(values):
        text = f"{number(statistics.median(values))} {part.unit}, no growth"
    return text, Line2D([], [], **style)


def _a(per: str) -> str:
    """The unit with its article: `a method`, `per 1,000 px`."""
    return per if per.startswith(("a ", "an ")) else f"per {per}"


def _exponent(at: Sequence[float], values: Sequence[float], name: str) -> str:
    """The exponent between the last two points, in words: at small values overhead dominates."""
    if len(at) < 2:
        return ""
    power = math.log(values[-1] / values[-2]) / math.log(at[-1] / at[-2])
    return f"∝ {name}^{number(power)} from {at[-2]:g} to {at[-1]:g}"


def _dress(ax: Axes, kind: Kind, part: Part, rows: Sequence[dict], last: bool) -> None:
    """Set ticks at the measured values; the y axis starts at 0 or is logarithmic."""
    values = sorted({row["at"] for row in rows})
    places = [kind.place(value) for value in values]
    if kind.log:
        ax.set_xscale("log")
        spread = max(1.1, (places[-1] / places[0]) ** 0.04)
        ax.set_xlim(places[0] / spread, places[-1] * spread)
    else:
        ax.set_xlim(0, places[-1] * 1.04)
    ax.xaxis.set_major_locator(FixedLocator(places))
    ax.xaxis.set_minor_locator(NullLocator())
    names = {place: f"{value:,g}" if value < 1e6 else f"{value:,.0f}" for place, value in zip(places, values)}
    ax.xaxis.set_major_formatter(FuncFormatter(lambda place, _: names[place]))
    ax.tick_params(labelbottom=last)
    if last:
        ax.set_xlabel(kind.axis)
    if part.power:
        ax.set_yscale("log")
        low, high = ax.get_ylim()
        ax.set_ylim(low, high)
        round_ticks(ax.yaxis, low, high)
    else:
        ax.set_ylim(0, ax.get_ylim()[1] * 1.04)


def _domains(rows: Sequence[dict]) -> Drawn:
    """Memory in addition to the backbone's: axes for each method, since sizes differ by orders of magnitude."""
    title = "Memory of domains held at once, in addition to the backbone's"
    methods = list(dict.fromkeys(row["series"] for row in rows))
    figure = canvas(TOP + 3.1 + 0.85, title, _where(rows))
    between = 0.45
    wide = (WIDTH - 0.68 - 0.2 + between) / len(methods) - between
    increments = []
    for i, method in enumerate(methods):
        left = 0.68 + i * (wide + between)
        ax = axes(figure, left, 0.85, WIDTH - left - wide, TOP + 0.2)
        each = _method_memory(ax, method, sorted((r for r in rows if r["series"] == method), key=lambda r: r["at"]))
        if i == 0:
            ax.set_ylabel("MB")
        increments.append(f"{_label(method)} {', '.join(each)}")
    handles = [Line2D([], [], **look, label=_MEMORY_LABELS[what]) for what, look in _MEMORY_STYLES.items()]
    figure.legend(
        handles=handles, ncols=3, loc="lower left", bbox_to_anchor=(0.05, 0.0), handlelength=3, columnspacing=1.5
    )
    caption = (
        "Domains on one backbone, each used once, as MultiDomain holds them: all tensors of the process, a shared "
        "storage counted once, and its resident memory, both minus those with the backbone alone, compared with the "
        "stored size of the domains. Freed blocks that malloc keeps are given back first. The memory of a further "
        "domain outside its tensors is mostly that of Python's modules. "
        f"{_about(rows)} A further domain: {'; '.join(increments)}."
    )
    return Drawn("growth-domains", figure, title, caption)


def _method_memory(ax: Axes, method: str, rows: Sequence[dict]) -> list[str]:
    """Draw the memory of one method; return what a further domain adds, by kind of memory."""
    increments = []
    for what, look in _MEMORY_STYLES.items():
        of_kind = [row for row in rows if row["what"] == what]
        xs, values = [row["at"] for row in of_kind], [row["value"] for row in of_kind]
        spread = [[abs(row["value"] - row[end]) for row in of_kind] for end in ("least", "largest")]
        ax.errorbar(xs, values, spread, **SPREAD)
        ax.plot(xs, values, zorder=3, **look)
        if len(of_kind) > 1:
            increments.append(f"{number((values[-1] - values[0]) / (xs[-1] - xs[0]))} MB {what}")
    ax.set_ylim(0, 1.5 * max(row["largest"] for row in rows))
    ax.set_xlim(0, rows[-1]["at"] * 1.06)
    ax.xaxis.set_major_locator(FixedLocator(sorted({row["at"] for row in rows})))
    ax.set_title(_label(method), color=QUIET)
    ax.text(0.05, 0.98, "\n".join(["a further domain:", *increments]), size=8, va="top", transform=ax.transAxes)
    ax.set_xlabel("domains held")
    return increments


_MEMORY_STYLES = {
    "stored": {"color": BLACK, "linewidth": 1.2, "marker": "none"},
    "tensors": {"color": BLUE, "linestyle": "none", "marker": "o", **MARKED},
    "resident": {"color": VERMILLION, "linewidth": 1, "linestyle": SHORT, "marker": "s", "markersize": 5.5,
                 "markerfacecolor": "none"},
}  # fmt: skip
_MEMORY_LABELS = {
    "stored": "stored size of the domains",
    "tensors": "their tensors in memory",
    "resident": "resident memory of the process",
}


def _where(rows: Sequence[dict]) -> str:
    """Setting, machine and number of rounds, in one line."""
    row = rows[0]
    n = sorted({row["rounds"] for row in rows})
    rounds = f"{n[0]} to {n[-1]} rounds" if len(n) > 1 else f"{n[0]} round{'s' * (n[0] > 1)}"
    return f"{row['setting']}; {row['machine']}, {row['cores']} cores; {rounds}"


def _about(rows: Sequence[dict]) -> str:
    """The sentences of every caption."""
    dropped = max(row["dropped"] for row in rows)
    busy = f" {dropped} rounds disturbed by other programs are left out." if dropped else ""
    return (
        f"{_where(rows)}. Median of the rounds; bars: the least and the largest.{busy} A line and its formula are "
        f"given where no point is farther than {100 * LINEAR:.0f} % of its value from it, with the largest distance in "
        "brackets."
    )


def number(value: float) -> str:
    """The value with three significant digits."""
    text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return text.replace("-", "−")
