"""Stand-in for Oxford Flowers: blooms in front of leaves, ten training images per class.

Classes differ by number, shape and colours of the petals and by the centre; leaves, number of blooms, tilt, size and
light are independent of the class.
"""

import numpy as np
from PIL import Image

from visual_decathlon.datasets.standin.canvas import Pen, backdrop, colour, finish, light, mixed, noise

# petals, petal width, pointedness, hue, saturation, value, centre radius, centre hue, rows
_KINDS = {
    "daffodil": (6, 0.3, 0.5, 0.15, 0.8, 0.95, 0.34, 0.1, 1),
    "sunflower": (16, 0.13, 1, 0.13, 0.95, 0.95, 0.42, 0.07, 2),
    "oxeye daisy": (13, 0.12, 0, 0.15, 0.05, 1, 0.25, 0.14, 1),
    "fire lily": (6, 0.2, 1, 0.05, 0.9, 0.95, 0.12, 0.1, 1),
    "buttercup": (5, 0.4, 0, 0.16, 0.9, 0.95, 0.2, 0.2, 1),
    "rose": (9, 0.45, 0, 0.96, 0.7, 0.85, 0.15, 0.96, 3),
    "poppy": (4, 0.55, 0, 0.01, 0.9, 0.9, 0.2, 0.4, 1),
    "bluebell": (5, 0.22, 1, 0.65, 0.6, 0.8, 0.1, 0.15, 1),
    "columbine": (5, 0.28, 1, 0.72, 0.45, 0.85, 0.25, 0.15, 2),
    "windflower": (7, 0.28, 0.3, 0.75, 0.25, 0.95, 0.22, 0.17, 1),
    "magnolia": (8, 0.3, 0.6, 0.9, 0.2, 1, 0.14, 0.13, 1),
    "hibiscus": (5, 0.45, 0, 0.93, 0.75, 0.95, 0.1, 0.14, 1),
    "frangipani": (5, 0.33, 0.4, 0.14, 0.15, 1, 0.28, 0.14, 1),
    "passion flower": (10, 0.18, 0.8, 0.7, 0.2, 0.95, 0.36, 0.75, 2),
    "gazania": (12, 0.18, 0.7, 0.08, 0.95, 1, 0.22, 0.04, 1),
    "petunia": (5, 0.5, 0, 0.85, 0.6, 0.8, 0.16, 0.8, 1),
    "thistle": (26, 0.05, 1, 0.82, 0.55, 0.8, 0.3, 0.85, 2),
    "orchid": (3, 0.45, 0.3, 0.86, 0.45, 0.95, 0.18, 0.95, 2),
    "clematis": (8, 0.24, 1, 0.74, 0.65, 0.75, 0.15, 0.16, 1),
    "dahlia": (12, 0.2, 0.5, 0.98, 0.75, 0.8, 0.1, 0.12, 3),
}

CLASSES = tuple(_KINDS)
COUNTS = {"train": (10,) * len(CLASSES), "val": (15,) * len(CLASSES), "test": (15,) * len(CLASSES)}
TRACK = 1


def draw(label: int, rng: np.random.Generator, track: np.random.Generator) -> Image.Image:
    """One image of class `label`: one or more blooms in front of leaves."""
    aspect = rng.uniform(1, 1.4)
    width, height = (72, round(72 * aspect)) if rng.random() < 0.4 else (round(72 * aspect), 72)
    image = backdrop(rng, width, height, 2, hue=(0.2, 0.42), saturation=(0.2, 0.8), value=(0.1, 0.5))
    pen = Pen(width, height)
    for _ in range(rng.integers(2, 7)):  # leaves and stalks
        pen.place(*rng.uniform(-1.2, 1.2, 2), rng.uniform(0.3, 0.8), rng.uniform(0, 6.3))
        pen.ellipse(0, 0, 1, rng.uniform(0.1, 0.3), colour(rng, (0.2, 0.4), (0.3, 0.9), (0.15, 0.6)))
    kind = _KINDS[CLASSES[label]]
    for bloom in range(rng.choice((1, 1, 1, 2, 3))):
        size = rng.uniform(0.6, 0.95) if bloom == 0 else rng.uniform(0.35, 0.6)
        reach = 0.25 if bloom == 0 else 0.9
        pen.place(*rng.uniform(-reach, reach, 2), size, rng.uniform(0, 6.3), rng.uniform(0.65, 1), rng.normal(0, 0.1))
        _bloom(pen, rng, *kind)
    image = pen.over(image, light(rng, width, height, 0.35) * (1 + 0.12 * noise(rng, width, height, 12)))
    return finish(rng, image, blur=rng.uniform(0, 0.8), grain=rng.uniform(0, 6), gain=(0.75, 1.15), lift=20)


def _bloom(
    pen: Pen, rng: np.random.Generator, petals, wide, pointed, hue, saturation, value, centre, centre_hue, rows
) -> None:
    hue = rng.normal(hue, 0.02)
    base = colour(rng, (hue, hue), (saturation * 0.8, min(1, saturation * 1.15)), (value * 0.8, min(1, value * 1.05)))
    for row in range(rows):
        reach = 1 - 0.28 * row
        shade = mixed(base, (0, 0, 0), 0.12 * (rows - 1 - row))
        for petal in range(petals):
            t = (petal + 0.5 * row) * 2 * np.pi / petals + rng.normal(0, 0.05)
            c, s = np.cos(t), np.sin(t)
            w = wide * reach * rng.uniform(0.9, 1.1)
            r = reach * rng.uniform(0.92, 1.08)
            outline = [
                (0.05, 0),
                (0.35 * r, -w * 0.7),
                (0.7 * r, -w * (1 - 0.35 * pointed)),
                (r * (0.93 - 0.05 * pointed), -w * 0.5 * (1 - pointed)),
                (r, 0),
                (r * (0.93 - 0.05 * pointed), w * 0.5 * (1 - pointed)),
                (0.7 * r, w * (1 - 0.35 * pointed)),
                (0.35 * r, w * 0.7),
            ]
            tone = mixed(shade, (0, 0, 0), 0.22) if petal % 2 else shade
            pen.polygon(np.array(outline) @ np.array([[c, s], [-s, c]]), tone)
    heart = colour(rng, (centre_hue, centre_hue), (0.6, 0.95), (0.45, 0.9))
    pen.ellipse(0, 0, centre, centre, heart)
    for t in np.arange(7) * 2 * np.pi / 7:
        pen.ellipse(
            centre * 0.6 * np.cos(t),
            centre * 0.6 * np.sin(t),
            centre * 0.18,
            centre * 0.18,
            mixed(heart, (40, 20, 0), 0.5),
        )
