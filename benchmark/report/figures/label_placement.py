"""Labels beside points that touch no other label and no mark: a small greedy search, the same every time."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.font_manager import FontProperties

from visual_decathlon.benchmark.report.figures.style import MOST

SIZE = 8.0  # of the letters, points
MARK = 4.5  # half the side of a mark's box, points
GAP = 2.0  # kept free around a label, points
REACH = (5.0, 9.0, 14.0, 20.0, 27.0, 36.0, 48.0)  # of a label from its point, points
SIDES = [math.radians(a) for a in (0, 180, 90, 270, 45, 315, 135, 225, 22, 338, 158, 202, 68, 112, 248, 292)]
FAR = 80.0  # cost above which a label that is not bold is left out: it would stand by other points than its own
LEADER = 10.0  # from this distance on a thin line leads to the point


@dataclass(frozen=True)
class Label:
    """A text for the point (x, y) of the data; bold ones are placed first."""

    text: str
    x: float
    y: float
    bold: bool = False


def write_labels(ax: Axes, labels: Sequence[Label], lines: Sequence[Sequence[tuple[float, float]]] = ()) -> list[Label]:
    """Write what finds a place inside the axes, whose limits must be final; return the labels that found none.

    `labels` has every point that has a mark; of more than MOST the bold ones alone are tried. `lines` are
    polylines of the data that labels should rather not cover.
    """
    if not labels:
        return []
    renderer = FigureCanvasAgg(ax.figure).get_renderer()
    points = 72 / ax.figure.dpi
    to_points = lambda pairs: ax.transData.transform(np.asarray(pairs, float).reshape(-1, 2)) * points
    frame = ax.get_window_extent(renderer).extents * points
    spots = to_points([(label.x, label.y) for label in labels])
    marks = np.hstack([spots - MARK, spots + MARK])
    covered = np.vstack([np.empty((0, 2)), *(_along(to_points(line)) for line in lines)])
    texts, leaders = np.empty((0, 4)), np.empty((0, 2))
    unplaced = []
    order = sorted(range(len(labels)), key=lambda i: (not labels[i].bold, -spots[i][1], spots[i][0]))
    tried = order if len(labels) <= MOST else [i for i in order if labels[i].bold][:MOST]
    for i in tried:
        label, spot = labels[i], spots[i]
        font = FontProperties(size=SIZE, weight="bold" if label.bold else "normal")
        width, height, _ = renderer.get_text_width_height_descent(label.text, font, ismath=False)
        half = np.array([width, height]) * points / 2 + GAP / 2
        others = np.delete(marks, i, axis=0)
        best = None
        for reach in REACH:
            if best is not None and reach >= best[0]:
                break  # what is farther costs more
            for side in SIDES:
                way = np.array([math.cos(side), math.sin(side)])
                middle = spot + way * (reach + half)
                box = np.concatenate([middle - half, middle + half])
                if (box[:2] < frame[:2] + 1).any() or (box[2:] > frame[2:] - 1).any():
                    continue
                if _touch(box, texts) or _touch(box, marks) or _inside(leaders, box):
                    continue
                end = np.clip(spot, box[:2], box[2:])
                leader = _along(np.array([spot, end])) if reach >= LEADER else np.empty((0, 2))
                if any(_inside(leader, other) for other in texts):
                    continue
                cost = reach + 60 * bool(_inside(covered, box)) + 6 * sum(_inside(leader, other) for other in others)
                cost += 3 * abs(way[1])
                if best is None or cost < best[0]:
                    best = cost, box, middle, end, leader
        if best is None or (best[0] > FAR and not label.bold):
            unplaced.append(label)
            continue
        _, box, middle, end, leader = best
        texts, leaders = np.vstack([texts, box]), np.vstack([leaders, leader])
        ax.annotate(
            label.text,
            (label.x, label.y),
            tuple(middle - spot),
            textcoords="offset points",
            ha="center",
            va="center",
            size=SIZE,
            weight="bold" if label.bold else "normal",
            zorder=6,
            bbox={"facecolor": "#FFFFFF", "alpha": 0.75, "edgecolor": "none", "pad": 0.3},
        )
        if len(leader):
            ax.annotate(
                "",
                (label.x, label.y),
                tuple(end - spot),
                textcoords="offset points",
                arrowprops={"arrowstyle": "-", "color": "#8C8C8C", "linewidth": 0.6, "shrinkA": 0, "shrinkB": MARK},
                zorder=2,
            )
    return unplaced + [labels[i] for i in order if i not in tried]


def _along(corners: np.ndarray) -> np.ndarray:
    """Points on a polyline, two points (of length) apart."""
    pieces = [
        a + (b - a) * np.linspace(0, 1, 2 + int(np.hypot(*(b - a)) / 2))[:, None] for a, b in zip(corners, corners[1:])
    ]
    return np.vstack(pieces) if pieces else np.empty((0, 2))


def _touch(box: np.ndarray, boxes: np.ndarray) -> bool:
    return bool(((boxes[:, :2] < box[2:]) & (boxes[:, 2:] > box[:2])).all(axis=1).any())


def _inside(spots: np.ndarray, box: np.ndarray) -> bool:
    return bool(((spots > box[:2]) & (spots < box[2:])).all(axis=1).any())
