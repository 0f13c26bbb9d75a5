"""Stand-in for FGVC Aircraft: one aeroplane from the side fills the width, in the air or on the ground.

Classes differ by proportions, engines (number and place), tail, wing height and rows of windows: small parts of similar
shapes. Livery, light, sky, ground and heading are independent of the class.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image

from visual_decathlon.datasets.standin.canvas import (
    Colour,
    Pen,
    colour,
    finish,
    grid,
    light,
    mixed,
    noise,
    smoothstep,
    tint,
)


class _Type(NamedTuple):
    length: float  # of the fuselage
    depth: float
    under_wing: int  # engines
    at_tail: int  # engines
    propellers: int  # on the wing; 3: one at the nose
    tail: str
    high: int  # the wing is above the fuselage
    rows: int  # of windows
    hump: int


_TYPES = {
    "A318": (0.74, 0.15, 1, 0, 0, "low", 0, 1, 0),
    "A320": (0.86, 0.13, 1, 0, 0, "low", 0, 1, 0),
    "A321": (0.97, 0.115, 1, 0, 0, "low", 0, 1, 0),
    "A340": (0.97, 0.125, 2, 0, 0, "low", 0, 1, 0),
    "A380": (0.95, 0.19, 2, 0, 0, "low", 0, 2, 0),
    "747": (0.97, 0.15, 2, 0, 0, "low", 0, 1, 1),
    "727": (0.9, 0.125, 0, 2, 0, "tee", 0, 1, 0),
    "MD-80": (0.97, 0.105, 0, 1, 0, "tee", 0, 1, 0),
    "MD-11": (0.95, 0.135, 1, 0, 0, "fin engine", 0, 1, 0),
    "Fokker 70": (0.76, 0.13, 0, 1, 0, "tee", 0, 1, 0),
    "Global Express": (0.72, 0.11, 0, 1, 0, "tee", 0, 0, 0),
    "BAE 146": (0.8, 0.14, 2, 0, 0, "tee", 1, 1, 0),
    "ATR-72": (0.86, 0.12, 0, 0, 1, "tee", 1, 1, 0),
    "DHC-8": (0.94, 0.1, 0, 0, 1, "tee", 1, 1, 0),
    "Saab 340": (0.74, 0.12, 0, 0, 1, "low", 0, 1, 0),
    "C-130": (0.85, 0.17, 0, 0, 2, "low", 1, 0, 0),
    "DC-3": (0.78, 0.14, 0, 0, 1, "round", 0, 1, 0),
    "Cessna 172": (0.6, 0.13, 0, 0, 3, "low", 1, 0, 0),
    "PA-28": (0.6, 0.13, 0, 0, 3, "low", 0, 0, 0),
    "Il-76": (0.92, 0.155, 2, 0, 0, "tee", 1, 0, 0),
}

CLASSES = tuple(_TYPES)
COUNTS = {"train": (25,) * len(CLASSES), "val": (15,) * len(CLASSES), "test": (15,) * len(CLASSES)}
TRACK = 1
_WIDTH, _HEIGHT = 107, 72


def draw(label: int, rng: np.random.Generator, track: np.random.Generator) -> Image.Image:
    """One image of class `label`: an aeroplane in front of sky and land."""
    ground = _ground(rng)
    pen = Pen(_WIDTH, _HEIGHT)
    pen.place(
        rng.uniform(-0.12, 0.12),
        rng.uniform(-0.25, 0.25),
        rng.uniform(1.15, 1.45),
        rng.normal(0, 0.07),
        rng.uniform(0.9, 1.1),
        0,
        rng.random() < 0.5,
    )
    _aeroplane(pen, rng, _Type(*_TYPES[CLASSES[label]]))
    image = pen.over(ground, light(rng, _WIDTH, _HEIGHT, 0.2))
    return finish(rng, image, blur=rng.uniform(0, 0.8), grain=rng.uniform(0, 6), gain=(0.7, 1.05), lift=20)


def _ground(rng: np.random.Generator) -> np.ndarray:
    _, y = grid(_WIDTH, _HEIGHT)
    sky = tint(
        smoothstep(y, 2.5),
        colour(rng, (0.53, 0.62), (0.1, 0.7), (0.5, 0.95)),
        colour(rng, (0.5, 0.62), (0, 0.35), (0.7, 1)),
    )
    sky += np.clip(noise(rng, _WIDTH, _HEIGHT, 3), 0, 1)[..., None] * np.float32(rng.uniform(0, 60))
    if rng.random() < 0.6:
        land = tint(
            noise(rng, _WIDTH, _HEIGHT, 8) * 0.5 + 0.5,
            colour(rng, (0.08, 0.35), (0.05, 0.5), (0.2, 0.5)),
            colour(rng, value=(0.3, 0.7), saturation=(0, 0.3)),
        )
        line = smoothstep(y + noise(rng, _WIDTH, _HEIGHT, 6) * np.float32(0.08) - rng.uniform(0.05, 0.7), 0.05)
        sky = sky + line[..., None] * (land - sky)
    return sky


def _aeroplane(pen: Pen, rng: np.random.Generator, kind: _Type) -> None:
    paint = _paint(rng)
    _tail(pen, kind, paint)
    _fuselage(pen, rng, kind, paint)
    _windows(pen, kind, paint)
    _tail_engines(pen, kind, paint)
    wing = -kind.depth * 0.95 if kind.high else kind.depth * 0.55
    if kind.propellers == 3:
        _nose_propeller(pen, kind, paint, wing)
    else:
        drop = 0.1 if kind.high else 0.22
        pen.polygon([(-0.22, wing), (0.12, wing), (0.42, wing + drop), (0.3, wing + drop + 0.015)], paint.metal)
    _wing_engines(pen, kind, paint, wing)


class _Paint(NamedTuple):
    skin: Colour
    livery: Colour
    metal: Colour
    dark: Colour
    fin: Colour


def _paint(rng: np.random.Generator) -> _Paint:
    skin = colour(rng, saturation=(0, 0.15), value=(0.65, 1))
    livery = colour(rng, saturation=(0.4, 1), value=(0.2, 0.9))
    fin = livery if rng.random() < 0.6 else skin
    return _Paint(skin, livery, mixed(skin, (60, 65, 75), 0.5), (35, 38, 48), fin)


def _tail(pen: Pen, kind: _Type, paint: _Paint) -> None:
    tip, depth = kind.length, kind.depth
    if kind.tail == "round":
        pen.ellipse(tip - 0.12, -0.2, 0.13, 0.24, paint.fin)
        pen.ellipse(tip - 0.05, -0.02, 0.17, 0.03, paint.metal)
        return
    top, root = 0.4 + 0.3 * depth, tip - 0.32
    pen.polygon([(root, -depth * 0.6), (tip - 0.1, -top), (tip + 0.03, -top), (tip - 0.04, -depth * 0.3)], paint.fin)
    if kind.tail == "tee":
        upper, lower = -top - 0.03, -top + 0.025
        pen.polygon([(tip - 0.17, upper), (tip + 0.14, upper), (tip + 0.14, lower), (tip - 0.14, lower)], paint.metal)
    else:
        pen.polygon([(tip - 0.2, -0.03), (tip - 0.02, -0.03), (tip + 0.12, 0.05), (tip + 0.02, 0.06)], paint.metal)


def _fuselage(pen: Pen, rng: np.random.Generator, kind: _Type, paint: _Paint) -> None:
    """Draws a tube with a blunt nose and a tapering tail, maybe a hump and a band of livery, and the cockpit window."""
    nose, tip, depth = -kind.length, kind.length, kind.depth
    pen.polygon(
        [
            (nose, depth * 0.15),
            (nose + 0.05, -depth * 0.45),
            (nose + 0.2, -depth),
            (tip - 0.35, -depth),
            (tip, -depth * 0.75),
            (tip + 0.02, -depth * 0.45),
            (tip - 0.4, depth),
            (nose + 0.2, depth),
            (nose + 0.05, depth * 0.7),
        ],
        paint.skin,
    )
    if kind.hump:
        pen.polygon(
            [
                (nose + 0.08, -depth * 0.6),
                (nose + 0.2, -depth * 1.45),
                (nose + 0.55, -depth * 1.4),
                (nose + 0.75, -depth * 0.9),
            ],
            paint.skin,
        )
    if rng.random() < 0.6:
        band = rng.uniform(0.05, 0.6)
        pen.polygon(
            [
                (nose + 0.04, depth * band),
                (tip - 0.3, depth * band),
                (tip - 0.35, depth * min(1, band + rng.uniform(0.15, 0.5))),
                (nose + 0.1, depth * min(1, band + 0.3)),
            ],
            paint.livery,
        )
    pen.polygon([(nose + 0.06, -depth * 0.5), (nose + 0.17, -depth * 0.85), (nose + 0.2, -depth * 0.5)], paint.dark)


def _windows(pen: Pen, kind: _Type, paint: _Paint) -> None:
    nose, tip = -kind.length, kind.length
    rows = [(-kind.depth * (0.3 if row == 0 else 0.7), nose + 0.3, tip - 0.4) for row in range(kind.rows)]
    if kind.hump:
        rows.append((-kind.depth * 1.15, nose + 0.28, nose + 0.6))
    for y, start, stop in rows:
        for x in np.arange(start, stop, 0.075):
            pen.polygon([(x, y), (x + 0.035, y), (x + 0.035, y + 0.035), (x, y + 0.035)], paint.dark)


def _tail_engines(pen: Pen, kind: _Type, paint: _Paint) -> None:
    tip, depth = kind.length, kind.depth
    if kind.tail == "fin engine":
        pen.ellipse(tip - 0.13, -depth - 0.08, 0.16, 0.065, paint.metal)
    for engine in range(kind.at_tail):
        pen.ellipse(tip - 0.42 + 0.05 * engine, -depth * (0.5 + 0.55 * engine), 0.15, 0.055, paint.metal)
        pen.ellipse(tip - 0.55 + 0.05 * engine, -depth * (0.5 + 0.55 * engine), 0.025, 0.05, paint.dark)


def _nose_propeller(pen: Pen, kind: _Type, paint: _Paint, wing: float) -> None:
    """Draws the propeller, the cabin and the wing of a small aeroplane."""
    nose, depth = -kind.length, kind.depth
    pen.ellipse(nose - 0.01, 0, 0.018, 0.2, paint.dark)
    cabin = [(0.25, -depth * 0.4), (0.35, -depth * 0.95), (0.65, -depth * 0.95), (0.7, -depth * 0.4)]
    pen.polygon([(nose + x, y) for x, y in cabin], paint.dark)
    pen.polygon([(-0.3, wing), (0.05, wing), (0.08, wing + 0.05), (-0.32, wing + 0.05)], paint.livery)


def _wing_engines(pen: Pen, kind: _Type, paint: _Paint, wing: float) -> None:
    for engine in range(kind.under_wing):
        x, y = -0.12 + 0.27 * engine, wing + 0.09 + 0.09 * engine * (not kind.high)
        pen.ellipse(x, y, 0.13, 0.062, paint.metal)
        pen.ellipse(x - 0.11, y, 0.025, 0.055, paint.dark)
    for engine in range(kind.propellers if kind.propellers < 3 else 0):
        x, y = -0.22 + 0.25 * engine, wing + 0.02 + 0.03 * engine
        pen.ellipse(x + 0.12, y, 0.15, 0.045, paint.metal)
        pen.ellipse(x - 0.05, y, 0.014, 0.17, paint.dark)
