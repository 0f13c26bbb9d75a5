"""The common style of all figures: size, font, colours with marks and dashes, and the writing of a figure to bytes.

The colours are those of Okabe and Ito (2008, "Color Universal Design"); colour is never the only distinction.
"""

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

WIDTH = 8.4  # inches: at the 800 pixels of a README the smallest letters are still 10 pixels high

BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILLION, PURPLE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip
MOST = 80  # methods of one group that are drawn, labelled or given a file: more cannot be read

INK, QUIET = "#1A1A1A", "#5C5C5C"

RC = {
    "font.family": ["DejaVu Sans"],  # comes with matplotlib: the same font on every machine
    "font.size": 9,
    "text.parse_math": False,  # a $ in a method's name stays a $
    "text.color": INK,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.unicode_minus": True,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.7,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "hatch.linewidth": 0.6,
    "savefig.dpi": 160,
    "svg.fonttype": "path",  # looks the same where this font is not installed
    "svg.hashsalt": "decathlon",
}

# Every family has its own mark; the colour is an additional help.
FAMILIES = {
    "own network": ("s", BLACK),
    "frozen": ("o", YELLOW),
    "read-out": ((8, 1, 0), VERMILLION),
    "batch norm": ("v", SKY),
    "residual adapters": ("D", VERMILLION),
    "adapter grid": ("^", ORANGE),
    "convolutional adapters": ("P", GREEN),
    "low rank": ("o", BLUE),
    "products": ("X", PURPLE),
    "orthogonal": ("p", GREEN),
    "Householder": ("h", ORANGE),
    "shared projections": ("<", VERMILLION),
    "sparse": (">", BLUE),
    "filter combinations": ("d", PURPLE),
    "spectral": ((3, 1, 0), GREEN),
    "masks": ((4, 1, 0), YELLOW),
    "prompts": ("*", SKY),
}
OTHER = ((6, 1, 0), "#FFFFFF")  # a family of an external package

LONG, SHORT = (0, (4, 1.5)), (0, (1.2, 1.2))
# Of several curves in one figure: (colour, dashes, mark). The marks alone distinguish the ten domains.
LINES = [
    (BLACK, "-", "o"),
    (ORANGE, "-", "s"),
    (SKY, "-", "^"),
    (GREEN, "-", "v"),
    (BLUE, "-", "D"),
    (VERMILLION, LONG, "P"),
    (PURPLE, LONG, "X"),
    (BLACK, LONG, "<"),
    (ORANGE, SHORT, ">"),
    (BLUE, SHORT, "p"),
    (GREEN, SHORT, "h"),
    (VERMILLION, SHORT, "d"),
    (SKY, LONG, "*"),
    (PURPLE, SHORT, "8"),
]

# White at 0. Printed in grey, the side below falls to near black and the side above only to a middle grey.
BELOW_ABOVE = LinearSegmentedColormap.from_list(
    "below-above", ["#08306B", "#2F74B5", "#A9CBE6", "#FFFFFF", "#FDD9B0", "#F2A65A", "#DD7A1B"]
)


@dataclass(frozen=True)
class Drawn:
    """A figure ready to be written: its path below the folder without extension, its title and caption."""

    name: str
    figure: Figure
    title: str
    caption: str


class NotDrawn(Exception):
    """A group has no figure, or not all of them; the message is the reason in half a sentence."""


def family(name: str) -> tuple[str | tuple[int, int, int], str]:
    """(mark, colour) of a family."""
    return FAMILIES.get(name, OTHER)


def luminance(colour: str | tuple) -> float:
    """Relative luminance of an sRGB colour, 0 to 1 (WCAG 2.1, "relative luminance")."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def ink_on(colour: str | tuple) -> str:
    """Black or white, whichever has more contrast to the colour."""
    light = luminance(colour)
    return "#FFFFFF" if 1.05 / (light + 0.05) > (light + 0.05) / 0.05 else "#000000"


def width_of(text: str, size: float, bold: bool = False) -> float:
    """Width of a line of text in inches."""
    font = FontProperties(size=size, weight="bold" if bold else "normal")
    return FigureCanvasAgg(Figure()).get_renderer().get_text_width_height_descent(text, font, ismath=False)[0] / 100


def fitting(text: str, inches: float, size: float, bold: bool = False) -> str:
    """The text, or as much of it as fits with an ellipsis; captions have the whole text."""
    if width_of(text, size, bold) <= inches:
        return text
    while text and width_of(f"{text}…", size, bold) > inches:
        text = text[:-1]
    return f"{text.rstrip()}…"


def canvas(height: float, title: str, where: str) -> Figure:
    """An empty figure, `height` inches high, with its title and below it data, split, profile and n."""
    figure = Figure(figsize=(WIDTH, height))
    room = WIDTH - 0.2
    figure.text(0.1 / WIDTH, 1 - 0.09 / height, fitting(title, room, 11, bold=True), size=11, weight="bold", va="top")
    figure.text(0.1 / WIDTH, 1 - 0.33 / height, fitting(where, room, 8), size=8, color=QUIET, va="top")
    return figure


def axes(figure: Figure, left: float, bottom: float, right: float, top: float, **more) -> Axes:
    """Axes with margins in inches to the edges of the figure."""
    width, height = figure.get_size_inches()
    box = (left / width, bottom / height, (width - left - right) / width, (height - bottom - top) / height)
    return figure.add_axes(box, **more)


def round_ticks(axis: Axis, low: float, high: float) -> None:
    """Put ticks at round numbers on a log axis, as many as can be read."""
    tens = range(-6, 9)
    choices = [
        [step * 10.0**ten for ten in tens for step in steps] for steps in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 5, 7))
    ]
    choices += [[round(1 + i * step, 4) for i in range(200)] for step in (0.1, 0.02, 0.005)]
    inside = [[tick for tick in ticks if low <= tick <= high] for ticks in choices]
    axis.set_major_locator(FixedLocator(next((ticks for ticks in inside if len(ticks) >= 4), inside[2])))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))


def as_bytes(drawn: Drawn) -> dict[str, bytes]:
    """Content by file extension, the same at any time and place: it has no date and no version."""
    metadata = {"Title": drawn.title, "Description": drawn.caption}
    removed = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}
    out = {}
    for ending, empty in removed.items():
        drawn.figure.savefig(sink := io.BytesIO(), format=ending, metadata=metadata | empty)
        out[ending] = sink.getvalue()
    return out


@contextlib.contextmanager
def shielded() -> Iterator[None]:
    """Within, matplotlib has this style, independent of a user's matplotlibrc; afterwards the old settings return."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(RC)
        yield
