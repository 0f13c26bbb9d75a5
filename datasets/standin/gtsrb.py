"""Stand-in for GTSRB: traffic signs cut out of dark street pictures, nearly square, in tracks of near-copies.

Classes differ by rim, plate shape and pictogram, some only by left and right. Exposure, motion blur, size, tilt and
street are independent of the class; class counts are as uneven as the real ones (12.5 to 1).
"""

import numpy as np
from PIL import Image

from visual_decathlon.datasets.standin.canvas import Pen, backdrop, finish, motion_blur
from visual_decathlon.datasets.standin.strokes import digit

# name: (plate, pictogram)
_SIGNS = {
    "speed 20": ("limit", "20"),
    "speed 30": ("limit", "30"),
    "speed 50": ("limit", "50"),
    "speed 60": ("limit", "60"),
    "speed 70": ("limit", "70"),
    "speed 80": ("limit", "80"),
    "no overtaking": ("limit", "cars"),
    "no vehicles": ("limit", ""),
    "no entry": ("red", "bar"),
    "stop": ("octagon", "bar"),
    "yield": ("yield", ""),
    "priority road": ("diamond", ""),
    "bend left": ("warning", "left"),
    "bend right": ("warning", "right"),
    "crossroads": ("warning", "cross"),
    "danger": ("warning", "mark"),
    "turn left": ("blue", "left"),
    "turn right": ("blue", "right"),
    "ahead only": ("blue", "ahead"),
    "roundabout": ("blue", "ring"),
}

CLASSES = tuple(_SIGNS)
TRACK = 5
_TRACKS = (2, 25, 25, 15, 20, 18, 15, 6, 10, 8, 20, 20, 3, 4, 10, 12, 4, 8, 12, 4)
COUNTS = {
    "train": tuple(3 * t for t in _TRACKS),
    "val": tuple(max(5, round(1.3 * t)) for t in _TRACKS),
    "test": tuple(max(5, round(1.3 * t)) for t in _TRACKS),
}
_RED, _BLUE, _WHITE, _BLACK, _YELLOW = (190, 25, 35), (20, 70, 170), (235, 235, 230), (20, 20, 22), (240, 190, 20)


def draw(label: int, rng: np.random.Generator, track: np.random.Generator) -> Image.Image:
    """One image of class `label`: `track` decides street, light and tilt, `rng` the small changes within a track."""
    width = 72 + int(track.integers(0, 8))
    small = round(72 / track.uniform(1.5, 3))  # the camera's own resolution
    w, h = round(small * width / 72), small
    ground = backdrop(track, w, h, 3, value=(0.1, 0.5), saturation=(0, 0.5))
    pen = Pen(w, h, oversample=3)
    x, y, size, angle = (
        track.uniform(-0.06, 0.06),
        track.uniform(-0.06, 0.06),
        track.uniform(0.68, 0.85),
        track.normal(0, 0.06),
    )
    slant, aspect = track.normal(0, 0.06), track.uniform(0.9, 1.1)
    exposure, contrast, blur, turn = (
        track.uniform(0.3, 1.1),
        track.uniform(0.5, 1),
        track.integers(1, 4),
        track.uniform(0, np.pi),
    )
    pen.place(
        x + rng.normal(0, 0.02),
        y + rng.normal(0, 0.02),
        size * rng.uniform(0.95, 1.05),
        angle + rng.normal(0, 0.01),
        aspect,
        slant,
    )
    _sign(pen, *_SIGNS[CLASSES[label]])
    image = motion_blur(pen.over(ground), int(blur), turn)
    image = ((image - 110) * np.float32(contrast) + 110) * np.float32(exposure * rng.uniform(0.9, 1.1))
    return finish(rng, image, (width, 72), blur=rng.uniform(0, 0.6), grain=rng.uniform(0, 5))


def _disc(pen: Pen, radius: float, fill) -> None:
    pen.ellipse(0, 0, radius, radius, fill)


def _regular(pen: Pen, corners: int, radius: float, turn: float, fill, y=0.0) -> None:
    t = turn + np.arange(corners) * 2 * np.pi / corners
    pen.polygon(np.stack([radius * np.cos(t), radius * np.sin(t) + y], 1), fill)


def _sign(pen: Pen, plate: str, pictogram: str) -> None:
    ink = _BLACK
    if plate == "limit":
        _disc(pen, 1, _RED)
        _disc(pen, 0.76, _WHITE)
    elif plate == "blue":
        _disc(pen, 1, _WHITE)
        _disc(pen, 0.93, _BLUE)
        ink = _WHITE
    elif plate == "red":
        _disc(pen, 1, _WHITE)
        _disc(pen, 0.94, _RED)
        ink = _WHITE
    elif plate == "octagon":
        _regular(pen, 8, 1.05, np.pi / 8, _WHITE)
        _regular(pen, 8, 0.97, np.pi / 8, _RED)
        ink = _WHITE
    elif plate == "diamond":
        _regular(pen, 4, 1.15, 0, _WHITE)
        _regular(pen, 4, 0.8, 0, _YELLOW)
    else:
        up = -np.pi / 2 if plate == "warning" else np.pi / 2
        shift = 0.2 if plate == "warning" else -0.2
        _regular(pen, 3, 1.2, up, _RED, shift)
        _regular(pen, 3, 0.78, up, _WHITE, shift)
    _pictogram(pen, pictogram, ink, 0.25 if plate == "warning" else 0.0, 0.6 if plate == "warning" else 1.0)


def _pictogram(pen: Pen, kind: str, ink, y: float, size: float) -> None:
    def line(points, width=0.16):
        pen.line([(px * size, py * size + y) for px, py in points], width * size, ink)

    if kind[:1].isdigit():
        for place, value in enumerate(kind):
            digit(pen, int(value), -0.3 + 0.6 * place, 0, 0.42, 0.14, ink)
    elif kind == "bar":
        pen.polygon([(-0.7, -0.17), (0.7, -0.17), (0.7, 0.17), (-0.7, 0.17)], ink)
    elif kind == "cars":
        for x, fill in ((-0.28, _RED), (0.3, ink)):
            pen.polygon(
                [(x - 0.2, 0.1), (x - 0.1, -0.2), (x + 0.1, -0.2), (x + 0.2, 0.1), (x + 0.2, 0.25), (x - 0.2, 0.25)],
                fill,
            )
    elif kind in ("left", "right"):
        side = -1 if kind == "left" else 1
        line([(-side * 0.25, 0.55), (-side * 0.25, -0.1), (side * 0.3, -0.1)], 0.2)
        pen.polygon(
            [
                (side * 0.25 * size, (-0.4) * size + y),
                (side * 0.62 * size, -0.1 * size + y),
                (side * 0.25 * size, 0.2 * size + y),
            ],
            ink,
        )
    elif kind == "ahead":
        line([(0, 0.6), (0, -0.2)], 0.2)
        pen.polygon([(-0.32, -0.15), (0, -0.65), (0.32, -0.15)], ink)
    elif kind == "cross":
        line([(-0.45, -0.45), (0.45, 0.45)])
        line([(0.45, -0.45), (-0.45, 0.45)])
    elif kind == "mark":
        line([(0, -0.6), (0, 0.15)], 0.2)
        pen.ellipse(0, 0.5 * size + y, 0.14 * size, 0.14 * size, ink)
    elif kind == "ring":
        for start in np.arange(3) * 2 * np.pi / 3:
            t = start + np.linspace(0.2, 1.5, 6)
            line(0.5 * np.stack([np.cos(t), np.sin(t)], 1))
            end = t[-1] + 0.15
            pen.polygon([(r * np.cos(a), r * np.sin(a)) for r, a in ((0.3, end), (0.75, end), (0.5, end + 0.55))], ink)
