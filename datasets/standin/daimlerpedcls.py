"""Stand-in for Daimler Pedestrian: grey, twice as high as wide; a standing person or another upright object.

A person has a head, shoulders, arms and two legs; the objects are poles, trunks, doorways, signs and corners of about
the same size and contrast. Blur, low contrast, street clutter and objects in front are independent of the class.
"""

import numpy as np
from PIL import Image

from visual_decathlon.datasets.standin.canvas import Pen, finish, light, noise

CLASSES = ("non-pedestrian", "pedestrian")
COUNTS = {"train": (300, 300), "val": (150, 150), "test": (150, 150)}
TRACK = 1
_WIDTH, _HEIGHT = 72, 144


def draw(label: int, rng: np.random.Generator, track: np.random.Generator) -> Image.Image:
    """One grey image of class `label`: a person, or an object of about the same shape."""
    base = rng.uniform(60, 190)
    image = (
        base + noise(rng, _WIDTH, _HEIGHT, 2) * rng.uniform(5, 25) + noise(rng, _WIDTH, _HEIGHT, 7) * rng.uniform(3, 12)
    )
    image = np.repeat(image.astype(np.float32)[..., None], 3, 2)
    pen = Pen(_WIDTH, _HEIGHT, oversample=1)
    for _ in range(rng.integers(2, 6)):  # street furniture behind
        pen.place(rng.uniform(-1.2, 1.2), rng.uniform(-2, 2), 1, rng.normal(0, 0.08))
        _box(pen, 0, 0, rng.uniform(0.05, 0.6), rng.uniform(0.2, 2), _grey(base + rng.normal(0, 45)))
    image = pen.over(image, opacity=rng.uniform(0.2, 0.5))
    pen = Pen(_WIDTH, _HEIGHT)
    pen.place(
        rng.uniform(-0.15, 0.15),
        rng.uniform(-0.1, 0.1),
        rng.uniform(0.75, 1.0),
        rng.normal(0, 0.04),
        rng.uniform(0.95, 1.15),
        0,
        rng.random() < 0.5,
    )
    contrast = rng.choice((-1, 1), p=(0.8, 0.2)) * rng.uniform(30, 90)

    def tone(spread: float = 15) -> tuple[int, int, int]:
        return _grey(base + contrast + rng.normal(0, spread))

    (_person if label else _structure)(pen, rng, tone)
    if rng.random() < 0.25:  # an object in front
        pen.place()
        _box(pen, rng.choice((-0.7, 0.7)), rng.uniform(-1, 1), rng.uniform(0.4, 0.7), rng.uniform(0.4, 1.5), tone(40))
    image = pen.over(image, light(rng, _WIDTH, _HEIGHT, 0.2))
    return finish(rng, image[..., 0], blur=rng.uniform(0.6, 1.8), grain=rng.uniform(2, 12), gain=(0.7, 1.1), lift=15)


def _grey(value: float) -> tuple[int, int, int]:
    return (int(np.clip(value, 8, 247)),) * 3


def _box(pen: Pen, x, y, rx, ry, fill) -> None:
    pen.polygon([(x - rx, y - ry), (x + rx, y - ry), (x + rx, y + ry), (x - rx, y + ry)], fill)


def _person(pen: Pen, rng: np.random.Generator, tone) -> None:
    coat, trousers, skin = tone(), tone(30), tone(40)
    stride, bend = rng.uniform(-0.3, 0.3), rng.uniform(0, 0.12)
    for side in (-1, 1):
        foot = side * stride + rng.normal(0, 0.03)
        pen.line(
            [(side * 0.1, 0.15), (side * (0.1 + bend) + foot * 0.5, 0.75), (foot + side * 0.08, 1.4)], 0.19, trousers
        )
        pen.ellipse(foot + side * 0.08 - 0.05, 1.43, 0.13, 0.06, trousers)
    pen.polygon([(-0.3, -0.8), (0.3, -0.8), (0.22 + bend, 0.3), (-0.22 - bend, 0.3)], coat)
    for side in (-1, 1):
        swing = rng.uniform(-0.2, 0.2)
        pen.line([(side * 0.28, -0.72), (side * 0.36, -0.25), (side * 0.3 + swing, 0.15)], 0.13, coat)
    pen.line([(0, -0.8), (0, -0.95)], 0.14, skin)
    pen.ellipse(rng.normal(0, 0.02), -1.1, 0.15, 0.2, skin)
    if rng.random() < 0.4:
        pen.ellipse(0, -1.2, 0.17, 0.13, tone(40))
    if rng.random() < 0.3:
        _box(pen, 0.42, 0.1, 0.12, 0.2, tone(40))


def _structure(pen: Pen, rng: np.random.Generator, tone) -> None:
    kind = rng.integers(6)
    if kind == 0:  # pole with a sign
        _box(pen, 0, 0.2, rng.uniform(0.04, 0.1), 1.6, tone())
        pen.ellipse(0, -1.1, rng.uniform(0.15, 0.35), rng.uniform(0.2, 0.35), tone(30))
    elif kind == 1:  # tree trunk with a crown
        pen.polygon([(-0.14, -1.3), (0.12, -1.3), (0.22, 1.5), (-0.22, 1.5)], tone())
        for _ in range(4):
            pen.ellipse(
                rng.normal(0, 0.25), rng.uniform(-1.6, -0.7), rng.uniform(0.2, 0.4), rng.uniform(0.15, 0.4), tone(20)
            )
    elif kind == 2:  # doorway
        _box(pen, 0, 0.1, rng.uniform(0.3, 0.42), 1.3, tone())
        _box(pen, 0, 0.15, 0.22, 1.15, tone(40))
        _box(pen, rng.uniform(-0.1, 0.1), -0.6, 0.14, rng.uniform(0.1, 0.3), tone(40))
    elif kind == 3:  # two posts and a box
        for side in (-1, 1):
            _box(pen, side * rng.uniform(0.12, 0.3), 0.7, 0.07, 0.8, tone())
        _box(pen, 0, -0.4, rng.uniform(0.25, 0.4), rng.uniform(0.3, 0.6), tone())
    elif kind == 4:  # corner of a house, windows
        _box(pen, rng.uniform(-0.1, 0.1), 0, rng.uniform(0.3, 0.45), 1.5, tone())
        for y in np.arange(-1.2, 1.2, rng.uniform(0.4, 0.7)):
            _box(pen, rng.normal(0, 0.05), y, 0.15, 0.14, tone(40))
    else:  # bollard or bin
        pen.polygon([(-0.25, -0.6), (0.25, -0.6), (0.32, 1.4), (-0.32, 1.4)], tone())
        pen.ellipse(0, -0.65, 0.3, rng.uniform(0.1, 0.3), tone(30))
        _box(pen, 0, rng.uniform(-0.3, 0.3), 0.28, 0.08, tone(40))
