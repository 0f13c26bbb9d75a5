"""Stand-in for SVHN: house numbers cut to 32 pixels and enlarged; the digit in the middle is the class.

Neighbouring digits on both sides are independent of the class; contrast is low, colours and light vary; small digits
are more frequent, as on houses.
"""

import numpy as np
from PIL import Image

from visual_decathlon.datasets.standin.canvas import Pen, colour, finish, light, noise
from visual_decathlon.datasets.standin.strokes import digit

CLASSES = tuple("0123456789")
_SHARE = np.array((0.068, 0.189, 0.144, 0.116, 0.102, 0.094, 0.078, 0.076, 0.069, 0.064))
COUNTS = {
    split: tuple(int(c) for c in np.round(_SHARE * total))
    for split, total in (("train", 500), ("val", 350), ("test", 350))
}
TRACK = 1


def draw(label: int, rng: np.random.Generator, track: np.random.Generator) -> Image.Image:
    """One image of class `label`: a digit with neighbouring digits, enlarged from 32 × 32 pixels."""
    ground, ink = _two_tones(rng)
    image = np.array(ground, np.float32) + noise(rng, 32, 32, rng.integers(2, 6), 3) * np.float32(rng.uniform(3, 20))
    pen = Pen(32, 32, oversample=3)
    pen.place(
        rng.normal(0, 0.08),
        rng.normal(0, 0.08),
        rng.uniform(0.65, 1),
        rng.normal(0, 0.16),
        rng.uniform(0.8, 1.2),
        rng.normal(0, 0.18),
    )
    width, size, gap = rng.uniform(0.13, 0.28), 0.8, rng.uniform(0.75, 1.05)
    bend = np.eye(2) * (rng.uniform(0.75, 1.1), 1)
    places = [0] + [side for side in (-1, 1) if rng.random() < 0.75]
    for place in places:
        value = label if place == 0 else int(rng.choice(10, p=_SHARE / _SHARE.sum()))
        digit(pen, value, place * gap, rng.normal(0, 0.06), size, width, ink, bend + rng.normal(0, 0.1, (2, 2)))
    image = pen.over(image, light(rng, 32, 32, 0.25))
    return finish(rng, image, (72, 72), blur=rng.uniform(0.5, 1.3), grain=rng.uniform(0, 12), gain=(0.7, 1), lift=15)


def _two_tones(rng: np.random.Generator):
    """The colours of wall and digit; one is brighter than the other by 33 to 128 levels."""
    value = rng.uniform(0.15, 0.85)
    step = rng.uniform(0.13, 0.5) * (1 if value < 0.5 else -1)
    other = value + step
    return colour(rng, saturation=(0, 0.5), value=(value, value)), colour(
        rng, saturation=(0, 0.4), value=(other, other)
    )
