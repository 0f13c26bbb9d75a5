"""Digits as strokes: polylines in the square -1..1 (x is half as wide), for house numbers and traffic signs."""

import numpy as np

from visual_decathlon.datasets.standin.canvas import Pen


def _arc(x, y, rx, ry, start, stop, points=10):
    """Points of an elliptic arc; angles in degrees, clockwise from the right (y down)."""
    t = np.radians(np.linspace(start, stop, points))
    return [(x + rx * np.cos(a), y + ry * np.sin(a)) for a in t]


DIGITS: tuple[list[list[tuple[float, float]]], ...] = (
    [_arc(0, 0, 0.5, 0.9, 0, 360, 20)],
    [[(-0.3, -0.55), (0.08, -0.9), (0.08, 0.9)]],
    [[*_arc(0, -0.4, 0.48, 0.5, -170, 30, 9), (-0.5, 0.9), (0.52, 0.9)]],
    [[*_arc(-0.05, -0.45, 0.48, 0.45, -150, 90, 9), *_arc(-0.05, 0.43, 0.52, 0.47, -90, 150, 9)]],
    [[(0.3, 0.9), (0.3, -0.9), (-0.55, 0.35), (0.6, 0.35)]],
    [[(0.45, -0.9), (-0.35, -0.9), (-0.42, -0.1), *_arc(-0.02, 0.33, 0.5, 0.55, -120, 140, 11)]],
    [[(0.35, -0.85), (-0.1, -0.65), *_arc(0, 0.35, 0.5, 0.55, -180, 180, 16)]],
    [[(-0.5, -0.9), (0.5, -0.9), (-0.1, 0.9)]],
    [_arc(0, -0.45, 0.42, 0.43, 0, 360, 16), _arc(0, 0.43, 0.5, 0.47, 0, 360, 16)],
    [[*_arc(0, -0.35, 0.5, 0.55, 0, 360, 16), (0.42, 0.2), (0.1, 0.9)]],
)


def digit(pen: Pen, value: int, x: float, y: float, size: float, width: float, fill, jitter=None) -> None:
    """Draws a digit of half height `size` centred at (x, y); `jitter` is a 2×2 matrix applied to all its points."""
    for stroke in DIGITS[value]:
        points = np.asarray(stroke) * size
        pen.line((points if jitter is None else points @ jitter) + (x, y), width, fill)
