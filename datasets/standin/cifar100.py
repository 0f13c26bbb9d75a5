"""Stand-in for CIFAR-100: one thing fills a 32-pixel picture that is enlarged to 72 pixels, so everything is blurred.

Classes are things with their shape and parts; blur, colours, ground and pose vary independently of the class.
"""

import numpy as np
from PIL import Image

from visual_decathlon.datasets.standin.canvas import colour, finish
from visual_decathlon.datasets.standin.objects import scene

# Name: hue range of the body. Some things are also classes of the ImageNet stand-in, as with the real data.
_THINGS = {
    "apple": (0.9, 1.3),
    "bicycle": (0, 1),
    "bottle": (0, 1),
    "bridge": (0, 1),
    "bus": (0, 1),
    "castle": (0.02, 0.15),
    "cat": (0.03, 0.12),
    "crab": (0.9, 1.1),
    "fir": (0.2, 0.4),
    "giraffe": (0, 1),
    "key": (0, 1),
    "pear": (0.12, 0.3),
    "rabbit": (0, 0.15),
    "rocket": (0, 1),
    "rose": (0.85, 1.1),
    "skyscraper": (0, 1),
    "sunflower": (0, 1),
    "telephone": (0, 1),
    "television": (0, 1),
    "worm": (0.9, 1.1),
}

CLASSES = tuple(_THINGS)
COUNTS = {"train": (28,) * len(CLASSES), "val": (15,) * len(CLASSES), "test": (15,) * len(CLASSES)}
TRACK = 1


def draw(label: int, rng: np.random.Generator, track: np.random.Generator) -> Image.Image:
    """One image of class `label`: a thing drawn at 32 × 32 pixels and enlarged."""
    name = CLASSES[label]
    body = colour(rng, _THINGS[name], (0.2, 0.95), (0.3, 0.95))
    surface = ("plain", "plain", "grain", "stripes")[rng.integers(4)]
    image = scene(rng, name, 32, 32, body, surface, size=(0.6, 1.05), turn=0.25)
    return finish(rng, image, (72, 72), blur=rng.uniform(0.5, 1.0), grain=rng.uniform(0, 6), gain=(0.7, 1.1), lift=25)
