"""UCF101's stand-in: a clip summed into one dynamic image, mid-grey, embossed, with ghost trails.

A figure moves through eight frames; the frames are added with weights that rise from negative to
positive, so what stays still cancels and what moves leaves a dark past and a bright present.
Classes are motions; place, size, speed, phase, build and camera shake are nuisance.
"""

import numpy as np
from PIL import Image

from datasets.standin.canvas import Pen, finish, noise

CLASSES = (
    "archery", "biking", "boxing", "diving", "golf swing", "hula hoop", "javelin", "jumping jack",
    "juggling", "lunges", "pull ups", "rowing", "skating", "swing", "tai chi",
)  # fmt: skip
COUNTS = {"train": (33,) * len(CLASSES), "val": (20,) * len(CLASSES), "test": (20,) * len(CLASSES)}
TRACK = 1
_WIDTH, _HEIGHT, _FRAMES = 96, 72, 7


def draw(label: int, rng: np.random.Generator, track: np.random.Generator) -> Image.Image:
    x, y, size, mirror = rng.uniform(-0.3, 0.3), rng.uniform(-0.1, 0.1), rng.uniform(0.55, 0.85), rng.random() < 0.5
    phase, speed, tones = rng.uniform(0, 1), rng.uniform(0.7, 1.3), rng.uniform(0.4, 1, 2)
    drift = rng.normal(0, 0.01, 2)
    total = np.zeros((_HEIGHT, _WIDTH), np.float32)
    for frame in range(_FRAMES):
        pen = Pen(_WIDTH, _HEIGHT, oversample=1, mode="L")
        pen.place(x + drift[0] * frame, y + drift[1] * frame, size, mirror=mirror)
        _figure(pen, CLASSES[label], frame / (_FRAMES - 1), phase, speed, tones)
        total += np.asarray(pen.layer(), np.float32) * np.float32(2 * frame / (_FRAMES - 1) - 1)
    still = noise(rng, _WIDTH, _HEIGHT, 10)
    shake = np.roll(still, (rng.integers(-1, 2), rng.integers(-1, 2)), (0, 1)) - still
    total = total * np.float32(55 / max(30, np.abs(total).max() * 0.6)) + shake * np.float32(rng.uniform(5, 25))
    image = 128 + total[..., None] + rng.normal(0, 4, (1, 1, 3)).astype(np.float32)
    return finish(rng, image, blur=rng.uniform(0.4, 1.0), grain=rng.uniform(2, 8))


def _limb(pen: Pen, start, angle, length, tone, width=0.12):
    """Draws a limb from `start` at `angle` (0 is down, turning to the front) and returns where it ends."""
    end = (start[0] + length * np.sin(angle), start[1] + length * np.cos(angle))
    pen.line([start, end], width, tone)
    return end


def _figure(pen: Pen, motion: str, t: float, phase: float, speed: float, tones) -> None:
    """One frame at time `t` (0..1): a pose of torso, head, arms and legs, and what it holds."""
    body, prop = int(255 * tones[0]), int(255 * tones[1])
    swing = np.sin(2 * np.pi * (speed * t + phase))
    turn = np.cos(2 * np.pi * (speed * t + phase))
    hip, lean = [0.0, 0.25], 0.0
    arms, legs, bends = [0.3, -0.3], [0.25, -0.25], [0.0, 0.0]
    elbow = [0.2, -0.2]
    if motion == "jumping jack":
        spread = 0.5 + 0.5 * swing
        arms, legs, elbow = [0.3 + 2.5 * spread, -0.3 - 2.5 * spread], [0.1 + 0.6 * spread, -0.1 - 0.6 * spread], [0, 0]
        hip[1] -= 0.15 * spread
    elif motion == "boxing":
        arms, elbow = [1.4, 1.2], [0.2 + 1.2 * max(0, swing), 0.2 + 1.2 * max(0, -swing)]
    elif motion == "golf swing":
        angle = -1.8 + 3.6 * ((t * speed + 0.2 * phase) % 1.2)
        arms, elbow, lean = [angle, angle - 0.15], [0, 0], 0.25
    elif motion == "javelin":
        hip[0] += -0.6 + 1.2 * t
        arms, legs = [2.2 - 1.6 * t, -0.6], [0.7 * swing, -0.7 * swing]
    elif motion == "lunges":
        down = 0.5 + 0.5 * swing
        hip[1] += 0.3 * down
        legs, bends = [0.3 + 0.9 * down, -0.3 - 0.5 * down], [-1.1 * down, -0.6 * down]
    elif motion == "pull ups":
        hip[1] += 0.3 * swing
        arms, elbow = [2.7 - 0.5 * swing, -2.7 + 0.5 * swing], [0.9 - 0.9 * swing, -0.9 + 0.9 * swing]
    elif motion == "rowing":
        hip[0] += 0.15 * swing
        lean, arms, legs, bends, elbow = (
            0.6 * swing,
            [1.5, 1.4],
            [1.5, 1.4],
            [-0.5 * (1 + swing)] * 2,
            [-0.5 + 0.4 * swing] * 2,
        )
        hip[1] = 0.55
    elif motion == "skating":
        hip[0] += 0.7 * swing
        lean, legs, arms = 0.5, [0.6 * turn, -0.8 * turn], [-0.9 * turn, 0.9 * turn]
    elif motion == "diving":
        hip[0] += -0.6 + 1.1 * t
        hip[1] += -0.5 + 1.2 * t * t
        lean, arms, legs = 1.2 + 1.2 * t, [3.0, 2.9], [-1.4 - 1.2 * t] * 2
    elif motion == "hula hoop":
        hip[0] += 0.12 * swing
        lean, arms, elbow = -0.12 * swing, [1.9, -1.9], [0.5, -0.5]
    elif motion == "tai chi":
        arms, elbow, lean = [1.3 + 0.5 * swing, -1.3 - 0.5 * turn], [0.6 * turn, -0.6 * swing], 0.05 * swing
        legs = [0.5, -0.5]
    elif motion == "archery":
        arms, elbow = [1.57, -1.57], [0, -2.6 + 0.9 * t]
    elif motion == "juggling":
        arms, elbow = [0.3, -0.3], [1.6 + 0.4 * swing, -1.6 + 0.4 * swing]
    elif motion == "biking":
        lean, arms, legs, bends = (
            0.6,
            [1.1, 1.0],
            [1.0 + 0.5 * swing, 1.0 - 0.5 * swing],
            [-1.0 + 0.5 * turn, -1.0 - 0.5 * turn],
        )
    elif motion == "swing":
        arms, elbow, legs, bends = [2.9, -2.9], [0, 0], [1.2, 1.1], [-0.8, -0.8]
        hip = [0.8 * np.sin(0.8 * swing), -0.75 + 0.95 * np.cos(0.8 * swing)]
    shoulder = _limb(pen, hip, np.pi + lean * -1, 0.55, body, 0.24)
    _limb(pen, shoulder, np.pi - lean, 0.12, body)
    pen.ellipse(shoulder[0] + 0.2 * np.sin(lean), shoulder[1] - 0.2 * np.cos(lean), 0.13, 0.15, body)
    for arm, bend in zip(arms, elbow, strict=True):
        hand = _limb(pen, _limb(pen, shoulder, arm, 0.3, body, 0.1), arm + bend, 0.28, body, 0.09)
    for leg, bend in zip(legs, bends, strict=True):
        _limb(pen, _limb(pen, hip, leg, 0.36, body, 0.14), leg + bend, 0.36, body, 0.11)
    if motion == "golf swing":
        pen.line([hand, (hand[0] + 0.5 * np.sin(arms[0]), hand[1] + 0.5 * np.cos(arms[0]))], 0.05, prop)
    elif motion == "javelin":
        x = shoulder[0] + 0.3 + 0.9 * max(0, t - 0.5)
        pen.line([(x - 0.5, shoulder[1] - 0.25), (x + 0.5, shoulder[1] - 0.45)], 0.05, prop)
    elif motion == "hula hoop":
        pen.line(
            [
                (hip[0] + 0.5 * np.cos(a) - 0.25 * swing, hip[1] - 0.05 + 0.14 * np.sin(a))
                for a in np.linspace(0, 6.3, 14)
            ],
            0.06,
            prop,
        )
    elif motion == "juggling":
        for ball in range(3):
            a = 2 * np.pi * (speed * t + phase + ball / 3)
            pen.ellipse(0.3 * np.cos(a), -0.75 + 0.35 * np.sin(a), 0.09, 0.09, prop)
    elif motion == "archery":
        pen.line([(0.6, -0.75), (0.75, -0.3), (0.6, 0.15)], 0.05, prop)
        pen.line([(0.6, -0.75), (0.1 - 0.4 * t, -0.3), (0.6, 0.15)], 0.03, prop)
    elif motion == "biking":
        for wheel in (-0.3, 0.75):
            pen.line([(wheel + 0.3 * np.cos(a), 0.85 + 0.3 * np.sin(a)) for a in np.linspace(0, 6.3, 14)], 0.05, prop)
            a = 2 * np.pi * (speed * t * 1.3 + phase)
            pen.line(
                [(wheel - 0.3 * np.cos(a), 0.85 - 0.3 * np.sin(a)), (wheel + 0.3 * np.cos(a), 0.85 + 0.3 * np.sin(a))],
                0.04,
                prop,
            )
    elif motion == "rowing":
        pen.line([(hand[0], hand[1]), (hand[0] + 0.5 * turn, 0.95)], 0.05, prop)
    elif motion == "swing":
        pen.line([(0, -1.1), hip], 0.04, prop)
    elif motion == "boxing":
        pen.ellipse(0.85 + 0.06 * max(0, swing), -0.3, 0.14, 0.35, prop)
