"""Stand-in for Describable Textures: one texture fills the frame.

Classes are attributes (banded, dotted, cracked, ...); colours, scale, rotation, bending and light are independent of
the class.
"""

import numpy as np
from PIL import Image

from visual_decathlon.datasets.standin.canvas import colour, finish, grid, light, noise, smoothstep, tint, turned

CLASSES = (
    "banded",
    "bubbly",
    "chequered",
    "cracked",
    "dotted",
    "fibrous",
    "grid",
    "honeycombed",
    "lined",
    "marbled",
    "scaly",
    "spiralled",
    "sprinkled",
    "woven",
    "wrinkled",
    "zigzagged",
)
COUNTS = {"train": (30,) * len(CLASSES), "val": (20,) * len(CLASSES), "test": (20,) * len(CLASSES)}
TRACK = 1
_ASPECTS = (1.0, 1.0, 1.33, 1.5, 0.8)


def draw(label: int, rng: np.random.Generator, track: np.random.Generator) -> Image.Image:
    """One image of class `label`: a texture that fills the frame."""
    aspect = _ASPECTS[rng.integers(len(_ASPECTS))]
    width, height = (round(72 * aspect), 72) if aspect >= 1 else (72, round(72 / aspect))
    x, y = turned(*grid(width, height), rng.uniform(0, 2 * np.pi), rng.uniform(0.75, 1.6))
    bend = rng.uniform(0.02, 0.15)
    x, y = x + noise(rng, width, height, 3) * np.float32(bend), y + noise(rng, width, height, 3) * np.float32(bend)
    share = _share(CLASSES[label], rng, x + rng.uniform(0, 1), y + rng.uniform(0, 1), width, height)
    if rng.random() < 0.5:
        share = 1 - share
    low = colour(rng, saturation=(0, 0.9), value=(0.05, 0.55))
    high = colour(rng, saturation=(0, 0.7), value=(0.6, 1))
    image = tint(share, low, high) * light(rng, width, height)[..., None]
    image += noise(rng, width, height, rng.integers(6, 20), 3) * np.float32(rng.uniform(5, 30))
    return finish(rng, image, blur=rng.uniform(0, 0.9), grain=rng.uniform(0, 10), gain=(0.6, 1.1), lift=25)


def _share(kind: str, rng: np.random.Generator, x, y, width: int, height: int) -> np.ndarray:
    """The texture (H, W) as the share, 0..1, of the second of two colours."""
    if kind == "banded":  # few, broad, uneven
        return smoothstep(np.sin(y * 7 + 1.5 * np.sin(y * 2.3)), 0.4)
    if kind == "lined":  # thin lines, wide gaps
        return smoothstep(np.cos(y * 20) - 0.75, 0.3)
    if kind == "zigzagged":
        return smoothstep(np.sin(14 * (y + 0.35 * np.abs((x * 2.2) % 2 - 1))), 0.5)
    if kind == "chequered":
        return smoothstep(np.sin(x * 9) * np.sin(y * 9), 0.2)
    if kind == "grid":
        return smoothstep(np.maximum(np.cos(x * 12), np.cos(y * 12)) - 0.82, 0.2)
    if kind == "woven":
        over = np.sin(x * 9) * np.sin(y * 9) > 0
        return np.where(over, 0.5 + 0.5 * np.cos(x * 36), 0.5 + 0.5 * np.cos(y * 36)) * (
            0.6 + 0.4 * np.abs(np.sin(x * 9) * np.sin(y * 9))
        )
    if kind == "dotted":
        return smoothstep(np.cos(x * 12) + np.cos(y * 12) - 1.0, 0.3)
    if kind == "honeycombed":
        return smoothstep(np.cos(x * 13) + np.cos(x * 6.5 + y * 11.26) + np.cos(x * 6.5 - y * 11.26) + 1.0, 0.4)
    if kind == "scaly":
        row = np.floor(y * 3.5)
        return np.clip(np.hypot(((x * 2.5 + row * 0.5) % 1 - 0.5) * 1.3, (y * 3.5) % 1 - 0.1), 0, 1)
    if kind == "spiralled":
        u, v = (x * 0.9) % 1.6 - 0.8, (y * 0.9) % 1.6 - 0.8
        return smoothstep(np.sin(np.hypot(u, v) * 22 + np.arctan2(v, u)), 0.6)
    if kind == "bubbly":
        bumps = noise(rng, width, height, rng.integers(6, 9))
        return smoothstep(0.12 - np.abs(bumps - 0.3), 0.15)
    if kind == "sprinkled":
        return smoothstep(noise(rng, width, height, rng.integers(14, 20)) - 0.5, 0.3)
    if kind == "cracked":
        paths = np.minimum(np.abs(noise(rng, width, height, 4)), np.abs(noise(rng, width, height, 5)))
        return smoothstep(paths - 0.06, 0.06)
    if kind == "marbled":
        return 0.5 + 0.5 * np.sin(x * 5 + 4 * noise(rng, width, height, 3) + 1.5 * noise(rng, width, height, 8))
    if kind == "fibrous":
        strands = noise(rng, height, height, 26)[:, : max(2, height // 12)]
        long = np.asarray(
            Image.fromarray(((strands + 1) * 127).clip(0, 255).astype(np.uint8)).resize((width, height), 2), np.float32
        )
        return (
            long / 255
            if rng.random() < 0.5
            else np.ascontiguousarray(np.asarray(Image.fromarray(long).rotate(90).resize((width, height))) / 255)
        )
    folds = noise(rng, width, height, 5) + 0.5 * noise(rng, width, height, 9)  # wrinkled
    return 0.5 + 2.2 * np.gradient(folds, axis=0)
