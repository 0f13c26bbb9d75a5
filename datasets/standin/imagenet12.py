"""Stand-in for ImageNet, the backbone's domain: things and surfaces in colour, in several aspect ratios.

Classes differ by shape, surface and arrangement of parts; fruits and blossoms differ by colour; some classes are
surfaces only, such as ImageNet's honeycomb and stone wall. The cluttered ground, pose, size, light and most colours
vary independently of the class.
"""

import numpy as np
from PIL import Image

from visual_decathlon.datasets.standin.canvas import (
    backdrop,
    colour,
    finish,
    grid,
    light,
    noise,
    smoothstep,
    tint,
    turned,
)
from visual_decathlon.datasets.standin.objects import scene

# Name: (surfaces, hue range of the body): surfaces and hues that are common for the class but not certain.
_THINGS = {
    "fish": (("dots", "stripes", "plain"), (0, 1)),
    "bird": (("plain", "grain"), (0, 1)),
    "butterfly": (("dots", "rings", "waves"), (0, 1)),
    "snail": (("rings", "grain"), (0.04, 0.15)),
    "turtle": (("checks",), (0.1, 0.4)),
    "spider": (("grain",), (0, 0.1)),
    "ladybug": (("plain",), (0.97, 1.06)),
    "house": (("plain", "stripes"), (0, 1)),
    "car": (("plain",), (0, 1)),
    "sailboat": (("plain", "stripes"), (0, 1)),
    "airliner": (("plain",), (0.5, 0.7)),
    "mug": (("plain", "checks", "dots"), (0, 1)),
    "bottle": (("plain", "grain"), (0.1, 0.5)),
    "clock": (("plain",), (0, 1)),
    "umbrella": (("plain", "stripes"), (0, 1)),
    "mushroom": (("plain", "grain"), (0, 0.1)),
    "tree": (("grain",), (0.2, 0.4)),
    "daisy": (("plain", "grain"), (0, 1)),
    "tulip": (("plain", "stripes"), (0.8, 1.15)),
    "dog": (("grain", "dots"), (0.04, 0.12)),
    "elephant": (("grain",), (0.5, 0.7)),
    "bicycle": (("plain",), (0, 1)),
    "ballplayer": (("plain", "stripes"), (0, 1)),
    "street sign": (("plain",), (0, 1)),
    "orange": (("plain", "grain"), (0.05, 0.09)),
    "lemon": (("plain", "grain"), (0.14, 0.17)),
    "lime": (("plain", "grain"), (0.25, 0.33)),
    "plum": (("plain", "grain"), (0.75, 0.85)),
    "cosmos": (("plain",), (0.88, 0.95)),
    "marigold": (("plain",), (0.05, 0.09)),
    "buttercup": (("plain",), (0.14, 0.17)),
    "aster": (("plain",), (0.68, 0.77)),
}
# Classes of equal shape, which differ only by colour.
_SHAPES = dict.fromkeys(("orange", "lemon", "lime", "plum"), "fruit") | dict.fromkeys(
    ("cosmos", "marigold", "buttercup", "aster"), "blossom"
)
_SURFACES = (
    "zebra",
    "leopard",
    "honeycomb",
    "stone wall",
    "picket fence",
    "chessboard",
    "shower curtain",
    "window screen",
    "tile roof",
    "wool",
    "washboard",
    "dry mud",
)
_ASPECTS = (1.0, 1.0, 1.33, 1.33, 1.33, 1.5, 0.75, 0.67)

CLASSES = (*_THINGS, *_SURFACES)
COUNTS = {"train": (57,) * len(CLASSES), "val": (8,) * len(CLASSES), "test": (8,) * len(CLASSES)}
TRACK = 1


def draw(label: int, rng: np.random.Generator, track: np.random.Generator) -> Image.Image:
    """One image of class `label`: a thing in front of a ground, or a surface."""
    aspect = _ASPECTS[rng.integers(len(_ASPECTS))]
    width, height = (round(72 * aspect), 72) if aspect >= 1 else (72, round(72 / aspect))
    name = CLASSES[label]
    if name in _THINGS:
        surfaces, hue = _THINGS[name]
        vivid = name in _SHAPES
        body = colour(rng, hue, (0.6 if vivid else 0.25, 0.95), (0.6 if vivid else 0.35, 0.95))
        image = scene(rng, _SHAPES.get(name, name), width, height, body, surfaces[rng.integers(len(surfaces))])
    else:
        image = _surface(rng, name, width, height)
    if rng.random() < 0.15 and name not in _SHAPES:  # a black-and-white photograph
        image = np.repeat(image.mean(2, keepdims=True), 3, 2)
    return finish(rng, image, blur=rng.uniform(0, 0.9), grain=rng.uniform(0, 8), gain=(0.7, 1.1), lift=25)


def _surface(rng: np.random.Generator, name: str, width: int, height: int) -> np.ndarray:
    """A surface that fills the frame, in its usual colours, (H, W, 3)."""
    x, y = turned(*grid(width, height), rng.normal(0, 0.4), rng.uniform(0.7, 1.5))
    x, y = x + noise(rng, width, height, 3) * np.float32(0.1), y + noise(rng, width, height, 3) * np.float32(0.1)
    low, high = colour(rng, saturation=(0, 0.7), value=(0.05, 0.45)), colour(rng, saturation=(0, 0.5), value=(0.65, 1))
    if name == "picket fence":
        pales = smoothstep(np.abs(x * 2.6 % 1 - 0.5) - 0.17, 0.1) * smoothstep(y + 0.55, 0.1)
        share = np.maximum(pales, smoothstep(0.07 - np.abs(y - 0.3), 0.06))[..., None]
        behind = backdrop(rng, width, height)
        return behind + share * (np.array(high, np.float32) - behind)
    if name == "zebra":
        share = smoothstep(np.sin(x * 11 + 2.5 * noise(rng, width, height, 3)), 0.5)
    elif name == "leopard":
        share = smoothstep(np.abs(noise(rng, width, height, rng.integers(8, 12)) - 0.35) - 0.17, 0.25)
        high = colour(rng, (0.07, 0.13), (0.4, 0.8), (0.65, 0.95))
    elif name == "honeycomb":
        share = smoothstep(np.cos(x * 10) + np.cos(x * 5 + y * 8.66) + np.cos(x * 5 - y * 8.66) + 0.7, 0.8)
        high = colour(rng, (0.05, 0.15), (0.3, 0.9), (0.7, 1))
    elif name in ("stone wall", "tile roof"):
        row = np.floor(y * 3.2)
        u, v = (x * 1.8 + row * 0.5) % 1 - 0.5, y * 3.2 % 1 - 0.5
        if name == "stone wall":
            share = smoothstep(0.42 - np.maximum(np.abs(u), np.abs(v)), 0.08) * (
                0.8 + 0.2 * noise(rng, width, height, 7)
            )
        else:
            share = np.clip(1.1 - np.hypot(u, v + 0.5), 0, 1)
    elif name == "shower curtain":
        share = smoothstep(np.cos(x * 10) * np.cos(y * 10) - rng.uniform(0.2, 0.6), 0.3)
    elif name == "window screen":
        share = smoothstep(np.maximum(np.cos(x * 13), np.cos(y * 13)) - rng.uniform(0.6, 0.85), 0.25)
    elif name == "wool":
        share = 0.5 + 0.5 * np.cos(y * 16 + 2.5 * np.abs((x * 3) % 2 - 1) * 3)
    elif name == "washboard":
        share = smoothstep(np.cos(y * rng.uniform(12, 24)) - rng.uniform(-0.3, 0.6), 0.6)
    elif name == "dry mud":
        share = smoothstep(
            np.minimum(np.abs(noise(rng, width, height, 4)), np.abs(noise(rng, width, height, 6))) - 0.07, 0.08
        )
    else:
        share = smoothstep(np.sin(x * 7) * np.sin(y * 7), 0.2)
    return tint(share, low, high) * light(rng, width, height)[..., None] + noise(
        rng, width, height, 10, 3
    ) * np.float32(12)
