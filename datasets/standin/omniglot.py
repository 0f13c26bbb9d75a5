"""Stand-in for Omniglot: white strokes on black, many classes with few examples each.

A class is a character: three or four strokes between points of a small grid, the same for every seed. Each example
imitates another writer by slant, size, proportion and a jitter of every point.
"""

import numpy as np
from PIL import Image

from visual_decathlon.datasets.standin.canvas import Pen

_CHARACTERS = 50
CLASSES = tuple(f"character{number:02d}" for number in range(1, _CHARACTERS + 1))
COUNTS = {"train": (12,) * _CHARACTERS, "val": (7,) * _CHARACTERS, "test": (7,) * _CHARACTERS}
TRACK = 1
_KNOTS = np.stack(np.meshgrid((-0.7, 0, 0.7), (-0.75, 0, 0.75)), -1).reshape(-1, 2)


def _stroke(rng: np.random.Generator, start: int) -> tuple[np.ndarray, int]:
    """(control points (3, 2): start, bend and end; index of the end knot) of a stroke from the knot `start`."""
    end = int(rng.choice([knot for knot in range(9) if knot != start]))
    bend = (_KNOTS[start] + _KNOTS[end]) / 2 + rng.choice((0, 0, 0.6, 1)) * rng.uniform(-1, 1, 2)
    return np.stack([_KNOTS[start], bend, _KNOTS[end]]), end


def _character(number: int) -> list[np.ndarray]:
    """The strokes of a character; pairs of characters differ only in their last stroke."""
    rng = np.random.Generator(np.random.SFC64([2015, number // 2]))
    strokes, end = [], int(rng.integers(9))
    for _ in range(rng.integers(3, 5)):
        stroke, end = _stroke(rng, end if rng.random() < 0.5 else int(rng.integers(9)))
        strokes.append(stroke)
    if number % 2:
        strokes[-1] = _stroke(rng, int(rng.integers(9)))[0]
    points = np.concatenate(strokes)  # every character fills its frame
    low, high = points.min(0), points.max(0)
    return [(stroke - (low + high) / 2) * (1.5 / (high - low).max()) for stroke in strokes]


_STROKES = [_character(number) for number in range(_CHARACTERS)]
_T = np.linspace(0, 1, 9)[:, None]


def draw(label: int, rng: np.random.Generator, track: np.random.Generator) -> Image.Image:
    """One image of class `label`: a character as another person might write it."""
    pen = Pen(72, 72, mode="L")
    pen.place(
        *rng.normal(0, 0.08, 2), rng.uniform(0.55, 0.88), rng.normal(0, 0.16), rng.uniform(0.8, 1.2), rng.normal(0, 0.2)
    )
    wobble = rng.uniform(0.04, 0.11)
    for stroke in _STROKES[label]:
        a, b, c = stroke + rng.normal(0, wobble, (3, 2))
        pen.line((1 - _T) ** 2 * a + 2 * _T * (1 - _T) * b + _T**2 * c, 0.14, 255)
    return pen.layer()
