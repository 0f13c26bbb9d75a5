"""Places labels next to points so that they touch no other label and no mark: a greedy search, deterministic."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.font_manager import FontProperties

from visual_decathlon.benchmark.report.figures.style import MOST

SIZE = 8.0  # of the letters, points
MARK = 4.5  # half the side of a mark's box, points
GAP = 2.0  # kept free around a label, points
REACH = (5.0, 9.0, 14.0, 20.0, 27.0, 36.0, 48.0)  # distances of a label from its point, points
SIDES = [math.radians(a) for a in (0, 180, 90, 270, 45, 315, 135, 225, 22, 338, 158, 202, 68, 112, 248, 292)]
FAR = 80.0  # cost above which a label that is not bold is left out: it would be closer to other points than to its own
LEADER = 10.0  # from this distance on, a thin line leads to the point
_NO_POINTS = np.empty((0, 2))


@dataclass(frozen=True)
class Label:
    """A text for the point (x, y) of the data; bold ones are placed first."""

    text: str
    x: float
    y: float
    bold: bool = False


@dataclass(frozen=True)
class _Candidate:
    """A possible place of a label; all positions in points of the figure."""

    cost: float
    box: np.ndarray  # left, bottom, right, top
    middle: np.ndarray
    end: np.ndarray  # of the leader, at the label
    leader: np.ndarray  # points on the leader, none where the label is close


def write_labels(ax: Axes, labels: Sequence[Label], lines: Sequence[Sequence[tuple[float, float]]] = ()) -> list[Label]:
    """Write the labels that fit inside the axes, whose limits must be final; return those that do not.

    `labels` has every point that has a mark; of more than MOST only the bold ones are tried. `lines` are polylines of
    the data that labels should preferably not cover.
    """
    if not labels:
        return []
    renderer = FigureCanvasAgg(ax.figure).get_renderer()
    points = 72 / ax.figure.dpi  # of a pixel
    to_points = lambda pairs: ax.transData.transform(np.asarray(pairs, float).reshape(-1, 2)) * points
    spots = to_points([(label.x, label.y) for label in labels])
    canvas = _Canvas(ax.get_window_extent(renderer).extents * points, spots, [to_points(line) for line in lines])
    order = sorted(range(len(labels)), key=lambda i: (not labels[i].bold, -spots[i][1], spots[i][0]))
    tried = order if len(labels) <= MOST else [i for i in order if labels[i].bold][:MOST]
    unplaced = []
    for i in tried:
        best = canvas.best_place(i, _half_size(labels[i], renderer, points))
        if best is None or (best.cost > FAR and not labels[i].bold):
            unplaced.append(labels[i])
        else:
            canvas.occupy(best)
            _draw(ax, labels[i], spots[i], best)
    return unplaced + [labels[i] for i in order if i not in tried]


def _half_size(label: Label, renderer: RendererAgg, points: float) -> np.ndarray:
    """Half of width and height of the label with the gap around it."""
    font = FontProperties(size=SIZE, weight="bold" if label.bold else "normal")
    width, height, _ = renderer.get_text_width_height_descent(label.text, font, ismath=False)
    return np.array([width, height]) * points / 2 + GAP / 2


class _Canvas:
    """The marks and lines of the axes, and the labels that are placed so far."""

    def __init__(self, frame: np.ndarray, spots: np.ndarray, lines: Sequence[np.ndarray]):
        """`frame` is the box of the axes, `spots` (n, 2) the points with a mark, `lines` the corners of polylines."""
        self._frame, self._spots = frame, spots
        self._marks = np.hstack([spots - MARK, spots + MARK])
        self._covered = np.vstack([_NO_POINTS, *map(_along, lines)])
        self._texts, self._leaders = np.empty((0, 4)), _NO_POINTS

    def occupy(self, place: _Candidate) -> None:
        """Keep the place free from later labels."""
        self._texts = np.vstack([self._texts, place.box])
        self._leaders = np.vstack([self._leaders, place.leader])

    def best_place(self, index: int, half: np.ndarray) -> _Candidate | None:
        """The cheapest place of a label of this half size for the point; None where there is none."""
        best = None
        for reach in REACH:
            if best is not None and reach >= best.cost:
                break  # places farther away cost more
            for candidate in self._candidates(index, half, reach):
                if best is None or candidate.cost < best.cost:
                    best = candidate
        return best

    def _candidates(self, index: int, half: np.ndarray, reach: float) -> Iterator[_Candidate]:
        """The places at one distance from the point that touch nothing."""
        spot, others = self._spots[index], np.delete(self._marks, index, axis=0)
        for side in SIDES:
            direction = np.array([math.cos(side), math.sin(side)])
            middle = spot + direction * (reach + half)
            box = np.concatenate([middle - half, middle + half])
            if not self._is_free(box):
                continue
            end = np.clip(spot, box[:2], box[2:])
            leader = _along(np.array([spot, end])) if reach >= LEADER else _NO_POINTS
            if any(_inside(leader, text) for text in self._texts):
                continue
            cost = reach + 60 * bool(_inside(self._covered, box)) + 6 * sum(_inside(leader, mark) for mark in others)
            cost += 3 * abs(direction[1])
            yield _Candidate(cost, box, middle, end, leader)

    def _is_free(self, box: np.ndarray) -> bool:
        """Whether the box is inside the axes and touches no label, no mark and no leader."""
        if (box[:2] < self._frame[:2] + 1).any() or (box[2:] > self._frame[2:] - 1).any():
            return False
        return not (_touch(box, self._texts) or _touch(box, self._marks) or _inside(self._leaders, box))


def _draw(ax: Axes, label: Label, spot: np.ndarray, place: _Candidate) -> None:
    """Write the label at its place, with the leader where it has one."""
    ax.annotate(
        label.text,
        (label.x, label.y),
        tuple(place.middle - spot),
        textcoords="offset points",
        ha="center",
        va="center",
        size=SIZE,
        weight="bold" if label.bold else "normal",
        zorder=6,
        bbox={"facecolor": "#FFFFFF", "alpha": 0.75, "edgecolor": "none", "pad": 0.3},
    )
    if len(place.leader):
        ax.annotate(
            "",
            (label.x, label.y),
            tuple(place.end - spot),
            textcoords="offset points",
            arrowprops={"arrowstyle": "-", "color": "#8C8C8C", "linewidth": 0.6, "shrinkA": 0, "shrinkB": MARK},
            zorder=2,
        )


def _along(corners: np.ndarray) -> np.ndarray:
    """(n, 2) points on a polyline, at most two points of length apart."""
    pieces = [
        a + (b - a) * np.linspace(0, 1, 2 + int(np.hypot(*(b - a)) / 2))[:, None] for a, b in zip(corners, corners[1:])
    ]
    return np.vstack(pieces) if pieces else _NO_POINTS


def _touch(box: np.ndarray, boxes: np.ndarray) -> bool:
    """Whether the box overlaps any of the boxes."""
    return bool(((boxes[:, :2] < box[2:]) & (boxes[:, 2:] > box[:2])).all(axis=1).any())


def _inside(spots: np.ndarray, box: np.ndarray) -> bool:
    """Whether any of the spots is inside the box."""
    return bool(((spots > box[:2]) & (spots < box[2:])).all(axis=1).any())
