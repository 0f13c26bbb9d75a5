"""Drawing primitives of the stand-in domains: smooth noise, a pen with an affine map, patterns, finishing.

Arrays are (H, W, 3) or (H, W) float32 in 0..255; x points right, y points down; a pen's unit square is -1..1.
"""

import colorsys
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Colour = tuple[int, int, int]

_CIRCLE = np.stack([np.cos(np.linspace(0, 2 * np.pi, 25)[:-1]), np.sin(np.linspace(0, 2 * np.pi, 25)[:-1])], 1)


def colour(rng: np.random.Generator, hue=(0.0, 1.0), saturation=(0.2, 1.0), value=(0.3, 1.0)) -> Colour:
    """A random RGB colour with hue, saturation and value drawn from the given ranges (each 0..1)."""
    rgb = colorsys.hsv_to_rgb(rng.uniform(*hue) % 1.0, rng.uniform(*saturation), rng.uniform(*value))
    return tuple(int(255 * c) for c in rgb)


def mixed(a: Colour, b: Colour, share: float) -> Colour:
    """The mixture of two colours with the part `share` of `b` (0: `a`, 1: `b`)."""
    return tuple(int(x + (y - x) * share) for x, y in zip(a, b, strict=True))


def noise(rng: np.random.Generator, width: int, height: int, cells: int, channels: int = 1) -> np.ndarray:
    """Smooth noise in -1..1 with about `cells` bumps along the shorter side, (H, W) or (H, W, 3)."""
    unit = min(width, height) / cells
    shape = (max(2, round(height / unit)) + 1, max(2, round(width / unit)) + 1)
    small = rng.integers(0, 256, shape if channels == 1 else (*shape, channels), dtype=np.uint8)
    large = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(large, dtype=np.float32) * np.float32(1 / 127.5) - 1


def grid(width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates (x, y), each (H, W) float32: 0 in the centre, and the shorter side has length 2."""
    half = min(width, height) / 2
    x = (np.arange(width, dtype=np.float32) + 0.5 - width / 2) / half
    y = (np.arange(height, dtype=np.float32) + 0.5 - height / 2) / half
    return np.broadcast_to(x, (height, width)), np.broadcast_to(y[:, None], (height, width))


def turned(x: np.ndarray, y: np.ndarray, angle: float, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates rotated by `angle` (radians) and multiplied by `scale`."""
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    return x * np.float32(c) + y * np.float32(s), y * np.float32(c) - x * np.float32(s)


def smoothstep(values: np.ndarray, softness: float) -> np.ndarray:
    """Maps values below 0 to 0 and values above 0 to 1, with a linear ramp of width `softness`."""
    return np.clip(values / np.float32(softness) + np.float32(0.5), 0, 1)


def tint(share: np.ndarray, low: Sequence[float], high: Sequence[float]) -> np.ndarray:
    """Maps (H, W) shares in 0..1 to colours between `low` and `high`, (H, W, 3)."""
    low, high = np.asarray(low, np.float32), np.asarray(high, np.float32)
    return low + share[..., None] * (high - low)


def backdrop(rng: np.random.Generator, width: int, height: int, clutter: int = 4, **ranges) -> np.ndarray:
    """A natural-looking ground (H, W, 3): two tones, maybe a horizon, up to `clutter` blobs, and grain."""
    ranges.setdefault("saturation", (0.05, 0.6))
    x, y = grid(width, height)
    if rng.random() < 0.5:
        share = smoothstep(y + rng.uniform(-0.2, 0.2) * x + rng.uniform(-0.5, 0.5), rng.uniform(0.05, 1.5))
    else:
        share = noise(rng, width, height, rng.integers(2, 5)) * np.float32(0.5) + np.float32(0.5)
    ground = tint(share, colour(rng, **ranges), colour(rng, **ranges))
    if clutter:
        pen = Pen(width, height)
        for _ in range(rng.integers(0, clutter + 1)):
            pen.place(*rng.uniform(-1.2, 1.2, 2), rng.uniform(0.1, 0.5), rng.uniform(0, 6.3), rng.uniform(0.3, 1))
            fill = colour(rng, **ranges)
            if rng.random() < 0.5:
                pen.polygon(rng.uniform(-1, 1, (rng.integers(3, 6), 2)), fill)
            else:
                pen.ellipse(0, 0, 1, rng.uniform(0.3, 1), fill)
        ground = pen.over(ground, opacity=rng.uniform(0.4, 1))
    ground += noise(rng, width, height, rng.integers(5, 12), 3) * np.float32(rng.uniform(4, 22))
    return ground


class Pen:
    """Draws anti-aliased shapes on a transparent layer through an affine map of the square -1..1.

    Shapes are drawn at `oversample` times the size and then reduced, which is fast and smooth enough.
    """

    def __init__(self, width: int, height: int, oversample: int = 2, mode: str = "RGBA"):
        self.size, self.oversample = (width, height), oversample
        self._image = Image.new(mode, (width * oversample, height * oversample))
        self._draw = ImageDraw.Draw(self._image)
        self.place()

    def place(self, x=0.0, y=0.0, size=1.0, angle=0.0, aspect=1.0, slant=0.0, mirror=False) -> "Pen":
        """Places the unit square: centre (x, y), scale `size` (1 fills the shorter side), rotated by `angle` radians.

        `aspect` multiplies heights, `slant` shears, `mirror` swaps left and right.
        """
        half = min(self.size) / 2 * self.oversample
        c, s = np.cos(angle), np.sin(angle)
        inner = np.array([[-1.0 if mirror else 1.0, slant], [0.0, aspect]])
        self._matrix = (np.array([[c, -s], [s, c]]) @ inner).T * (size * half)
        self._offset = np.array(self._image.size) / 2 + half * np.array([x, y])
        self._unit = size * half * np.sqrt(abs(aspect))
        return self

    def polygon(self, points, fill) -> None:
        """Draws a filled polygon with (N, 2) points."""
        self._draw.polygon((np.asarray(points) @ self._matrix + self._offset).ravel().tolist(), fill=fill)

    def ellipse(self, x, y, rx, ry, fill, angle=0.0) -> None:
        """Draws a filled ellipse, rotated by `angle`."""
        points = _CIRCLE * (rx, ry)
        if angle:
            c, s = np.cos(angle), np.sin(angle)
            points = points @ np.array([[c, s], [-s, c]])
        self.polygon(points + (x, y), fill)

    def line(self, points, width, fill) -> None:
        """Draws a polyline with round joints and ends; `width` is in units of the square."""
        xy = np.asarray(points) @ self._matrix + self._offset
        pixels = max(1.0, width * self._unit)
        self._draw.line(xy.ravel().tolist(), fill=fill, width=round(pixels))
        if pixels > 2.5:
            radius = (pixels - 1) / 2
            for x, y in xy.tolist():
                self._draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)

    def layer(self) -> Image.Image:
        """The drawing at its final size."""
        return self._image.reduce(self.oversample) if self.oversample > 1 else self._image

    def over(self, ground: np.ndarray, shade: np.ndarray | None = None, opacity: float = 1.0) -> np.ndarray:
        """The drawing over `ground` (H, W, 3); `shade` (H, W) or (H, W, 3) multiplies the drawing's colours."""
        layer = np.asarray(self.layer(), dtype=np.float32)
        paint, alpha = layer[..., :3], layer[..., 3:] * np.float32(opacity / 255)
        if shade is not None:
            paint = paint * (shade if shade.ndim == 3 else shade[..., None])
        return ground + (paint - ground) * alpha


def pattern(rng: np.random.Generator, kind: str, width: int, height: int) -> np.ndarray:
    """The brightness (H, W) of a surface, about 0.4..1.2: plain, stripes, dots, checks, rings, grain or waves."""
    x, y = turned(*grid(width, height), rng.uniform(0, np.pi), rng.uniform(8, 18))
    strength = np.float32(rng.uniform(0.35, 0.7))
    if kind == "stripes":
        mark = smoothstep(np.sin(x), 0.8)
    elif kind == "dots":
        mark = smoothstep(np.sin(x) * np.sin(y) - 0.25, 0.4)
    elif kind == "checks":
        mark = smoothstep(np.sin(x) * np.sin(y), 0.3)
    elif kind == "rings":
        mark = smoothstep(np.sin(np.hypot(x, y) * 1.3), 0.8)
    elif kind == "waves":
        mark = smoothstep(np.sin(x + 1.5 * np.sin(y * 0.5)), 0.8)
    elif kind == "grain":
        mark = noise(rng, width, height, 24) * np.float32(0.8)
    else:
        mark = np.zeros((height, width), np.float32)
        strength = np.float32(0)
    return np.float32(1.1) - strength * mark


def light(rng: np.random.Generator, width: int, height: int, strength: float = 0.3) -> np.ndarray:
    """A slow change of brightness over the frame, (H, W), about 1 ± strength."""
    x, _ = turned(*grid(width, height), rng.uniform(0, 2 * np.pi))
    return 1 + x * np.float32(rng.uniform(0, strength))


def motion_blur(image: np.ndarray, steps: int, angle: float) -> np.ndarray:
    """The mean of `steps` copies, each shifted by one more pixel in the direction `angle` (radians)."""
    total = np.zeros_like(image)
    for step in range(steps):
        shift = step - (steps - 1) / 2
        total += np.roll(image, (round(shift * np.sin(angle)), round(shift * np.cos(angle))), (0, 1))
    return total / steps


def finish(
    rng: np.random.Generator,
    image: np.ndarray,
    size: tuple[int, int] | None = None,
    blur: float = 0.0,
    grain: float = 0.0,
    gain: tuple[float, float] = (1.0, 1.0),
    lift: float = 0.0,
) -> Image.Image:
    """Imitates a camera and makes the picture: contrast `gain` about mid-grey, brightness ± `lift`, noise with standard
    deviation `grain`, blur in pixels, then a resize to `size` (width, height).
    """
    image = (image - 128) * np.float32(rng.uniform(*gain)) + np.float32(128 + rng.uniform(-lift, lift))
    if grain:
        image = image + rng.standard_normal(image.shape, dtype=np.float32) * np.float32(grain)
    picture = Image.fromarray(np.clip(image, 0, 255).astype(np.uint8))
    if blur > 0.2:
        picture = picture.filter(ImageFilter.GaussianBlur(blur))
    return picture if size is None else picture.resize(size, Image.Resampling.BICUBIC)
