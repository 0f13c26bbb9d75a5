"""Stand-in for UCF101: a clip is summed into one "dynamic image", mid-grey and embossed, with trails of the motion.

A figure moves through seven frames, which are added with weights that rise from negative to positive. Everything still
cancels out; everything moving is dark where it was and bright where it is now. Classes are motions; place, size, speed,
phase, the figure's habits and camera shake are independent of the class.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from visual_decathlon.datasets.standin.canvas import Pen, finish, noise

CLASSES = (
    "archery",
    "biking",
    "boxing",
    "diving",
    "golf swing",
    "hula hoop",
    "javelin",
    "jumping jack",
    "juggling",
    "lunges",
    "pull ups",
    "rowing",
    "skating",
    "swing",
    "tai chi",
)
COUNTS = {"train": (33,) * len(CLASSES), "val": (20,) * len(CLASSES), "test": (20,) * len(CLASSES)}
TRACK = 1
_WIDTH, _HEIGHT, _FRAMES = 96, 72, 7


def draw(label: int, rng: np.random.Generator, track: np.random.Generator) -> Image.Image:
    """One image of class `label`: the frames of a motion summed with rising weights."""
    x, y, size, mirror = rng.uniform(-0.3, 0.3), rng.uniform(-0.1, 0.1), rng.uniform(0.55, 0.85), rng.random() < 0.5
    phase, speed, tones = rng.uniform(0, 1), rng.uniform(0.7, 1.3), rng.uniform(0.4, 1, 2)
    drift, habit = rng.normal(0, 0.015, 2), rng.normal(0, 0.15, 8)
    total = np.zeros((_HEIGHT, _WIDTH), np.float32)
    for frame in range(_FRAMES):
        pen = Pen(_WIDTH, _HEIGHT, oversample=1, mode="L")
        pen.place(x + drift[0] * frame, y + drift[1] * frame, size, mirror=mirror)
        _figure(pen, CLASSES[label], frame / (_FRAMES - 1), phase, speed, tones, habit)
        total += np.asarray(pen.layer(), np.float32) * np.float32(2 * frame / (_FRAMES - 1) - 1)
    still = noise(rng, _WIDTH, _HEIGHT, 10)
    shake = np.roll(still, (rng.integers(-1, 2), rng.integers(-1, 2)), (0, 1)) - still
    total = total * np.float32(rng.uniform(22, 40) / max(total.std(), 5)) + shake * np.float32(rng.uniform(10, 40))
    image = 128 + total[..., None] + rng.normal(0, 4, (1, 1, 3)).astype(np.float32)
    return finish(rng, image, blur=rng.uniform(0.4, 1.0), grain=rng.uniform(2, 8))


def _limb(pen: Pen, start, angle, length, tone, width=0.12):
    """Draws a limb from `start` at `angle` (0 is down, turning to the front) and returns where it ends."""
    end = (start[0] + length * np.sin(angle), start[1] + length * np.cos(angle))
    pen.line([start, end], width, tone)
    return end


@dataclass
class _Pose:
    """A figure at one moment: angles in radians from straight down, forward positive; pairs are (front, back)."""

    hip: tuple[float, float] = (0.0, 0.25)
    lean: float = 0.0
    arms: tuple[float, float] = (0.3, -0.3)
    elbows: tuple[float, float] = (0.2, -0.2)  # angle of the forearm relative to the upper arm
    legs: tuple[float, float] = (0.25, -0.25)
    knees: tuple[float, float] = (0.0, 0.0)


def _pose(motion: str, t: float, phase: float, speed: float) -> _Pose:
    """The pose at time `t` (0..1) of a motion; periodic motions start at `phase`."""
    turn = 2 * np.pi * (speed * t + phase)
    s, c = np.sin(turn), np.cos(turn)
    up = 0.5 + 0.5 * s
    match motion:
        case "archery":
            return _Pose(arms=(1.57, -1.57), elbows=(0, -2.6 + 0.9 * t))
        case "biking":
            return _Pose(lean=0.6, arms=(1.1, 1.0), legs=(1 + 0.5 * s, 1 - 0.5 * s), knees=(-1 + 0.5 * c, -1 - 0.5 * c))
        case "boxing":
            return _Pose(arms=(1.4, 1.2), elbows=(0.2 + 1.2 * max(0, s), 0.2 + 1.2 * max(0, -s)))
        case "diving":
            arms, legs = (3.0, 2.9), (-1.4 - 1.2 * t, -1.4 - 1.2 * t)
            return _Pose((-0.6 + 1.1 * t, -0.25 + 1.2 * t * t), 1.2 + 1.2 * t, arms, legs=legs)
        case "golf swing":
            angle = -1.8 + 3.6 * ((t * speed + 0.2 * phase) % 1.2)
            return _Pose(lean=0.25, arms=(angle, angle - 0.15), elbows=(0, 0))
        case "hula hoop":
            return _Pose((0.12 * s, 0.25), -0.12 * s, (1.9, -1.9), (0.5, -0.5))
        case "javelin":
            return _Pose((-0.6 + 1.2 * t, 0.25), arms=(2.2 - 1.6 * t, -0.6), legs=(0.7 * s, -0.7 * s))
        case "jumping jack":
            spread = 0.1 + 0.6 * up
            return _Pose((0, 0.25 - 0.15 * up), 0, (0.3 + 2.5 * up, -0.3 - 2.5 * up), (0, 0), (spread, -spread))
        case "juggling":
            return _Pose(elbows=(1.6 + 0.4 * s, -1.6 + 0.4 * s))
        case "lunges":
            return _Pose((0, 0.25 + 0.3 * up), legs=(0.3 + 0.9 * up, -0.3 - 0.5 * up), knees=(-1.1 * up, -0.6 * up))
        case "pull ups":
            return _Pose((0, 0.25 + 0.3 * s), 0, (2.7 - 0.5 * s, -2.7 + 0.5 * s), (0.9 - 0.9 * s, -0.9 + 0.9 * s))
        case "rowing":
            bend, knee = -0.5 + 0.4 * s, -0.5 - 0.5 * s
            return _Pose((0.15 * s, 0.55), 0.6 * s, (1.5, 1.4), (bend, bend), (1.5, 1.4), (knee, knee))
        case "skating":
            return _Pose((0.7 * s, 0.25), 0.5, (-0.9 * c, 0.9 * c), legs=(0.6 * c, -0.8 * c))
        case "swing":
            seat = (0.8 * np.sin(0.8 * s), -0.75 + 0.95 * np.cos(0.8 * s))
            return _Pose(seat, 0, (2.9, -2.9), (0, 0), (1.2, 1.1), (-0.8, -0.8))
        case "tai chi":
            return _Pose((0, 0.25), 0.05 * s, (1.3 + 0.5 * s, -1.3 - 0.5 * c), (0.6 * c, -0.6 * s), (0.5, -0.5))
    raise ValueError(motion)


def _figure(pen: Pen, motion: str, t: float, phase: float, speed: float, tones, habit) -> None:
    """Draws one frame at time `t` (0..1): body, limbs (changed by the figure's `habit`) and equipment."""
    body, prop = int(255 * tones[0]), int(255 * tones[1])
    pose = _pose(motion, t, phase, speed)
    shoulder = _limb(pen, pose.hip, np.pi - pose.lean, 0.55, body, 0.24)
    _limb(pen, shoulder, np.pi - pose.lean, 0.12, body)
    pen.ellipse(shoulder[0] + 0.2 * np.sin(pose.lean), shoulder[1] - 0.2 * np.cos(pose.lean), 0.13, 0.15, body)
    for arm, bend in np.add((pose.arms, pose.elbows), habit[:4].reshape(2, 2)).T:
        hand = _limb(pen, _limb(pen, shoulder, arm, 0.3, body, 0.1), arm + bend, 0.28, body, 0.09)
    for leg, bend in np.add((pose.legs, pose.knees), habit[4:].reshape(2, 2)).T:
        _limb(pen, _limb(pen, pose.hip, leg, 0.36, body, 0.14), leg + bend, 0.36, body, 0.11)
    _equipment(pen, motion, t, 2 * np.pi * (speed * t + phase), pose, shoulder, hand, prop)


def _equipment(pen: Pen, motion: str, t: float, turn: float, pose: _Pose, shoulder, hand, tone: int) -> None:
    """Draws the objects that the figure holds or rides."""
    (hip_x, hip_y), swing = pose.hip, np.sin(turn)
    circle = np.stack([np.cos(np.linspace(0, 6.3, 14)), np.sin(np.linspace(0, 6.3, 14))], 1)
    match motion:
        case "archery":
            pen.line([(0.6, -0.75), (0.75, -0.3), (0.6, 0.15)], 0.05, tone)
            pen.line([(0.6, -0.75), (0.1 - 0.4 * t, -0.3), (0.6, 0.15)], 0.03, tone)
        case "biking":
            spoke = 0.3 * np.array([np.cos(1.3 * turn), np.sin(1.3 * turn)])
            for hub in ((-0.3, 0.85), (0.75, 0.85)):
                pen.line(hub + 0.3 * circle, 0.05, tone)
                pen.line([hub - spoke, hub + spoke], 0.04, tone)
        case "boxing":
            pen.ellipse(0.85 + 0.06 * max(0, swing), -0.3, 0.14, 0.35, tone)
        case "golf swing":
            pen.line([hand, (hand[0] + 0.5 * np.sin(pose.arms[0]), hand[1] + 0.5 * np.cos(pose.arms[0]))], 0.05, tone)
        case "hula hoop":
            pen.line((hip_x - 0.25 * swing, hip_y - 0.05) + circle * (0.5, 0.14), 0.06, tone)
        case "javelin":
            x = shoulder[0] + 0.3 + 0.9 * max(0, t - 0.5)
            pen.line([(x - 0.5, shoulder[1] - 0.25), (x + 0.5, shoulder[1] - 0.45)], 0.05, tone)
        case "juggling":
            for ball in turn + np.arange(3) * 2 * np.pi / 3:
                pen.ellipse(0.3 * np.cos(ball), -0.75 + 0.35 * np.sin(ball), 0.09, 0.09, tone)
        case "rowing":
            pen.line([hand, (hand[0] + 0.5 * np.cos(turn), 0.95)], 0.05, tone)
        case "swing":
            pen.line([(0, -1.1), pose.hip], 0.04, tone)
