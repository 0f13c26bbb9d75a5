"""Packing against the number of images: `python -m …perf.growth.packing FOLDER COUNT` tells its peak memory."""

import json
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from visual_decathlon.benchmark.perf.growth.child import printed
from visual_decathlon.benchmark.perf.growth.point import Point
from visual_decathlon.benchmark.perf.rounds import Variant, run_interleaved
from visual_decathlon.benchmark.runtime.memory import peak_resident
from visual_decathlon.benchmark.runtime.progress import ProgressCallback, silent
from visual_decathlon.datasets.annotations import Split
from visual_decathlon.datasets.catalogue import DOMAINS
from visual_decathlon.datasets.pack import pack

SHORTER, LONGER = 72, 96  # pixels: as the release has them, so nothing is resized
DRAWN = 500  # files: the same come again


def measured(counts: Sequence[int], rounds: int = 3, told: ProgressCallback = silent) -> list[Point]:
    """Seconds of packing so many drawn images, and the peak memory of a process that does nothing else, in MB."""
    setting, points = f"JPEG of {LONGER} × {SHORTER} pixels", []
    with tempfile.TemporaryDirectory() as folder:
        draw(Path(folder))
        found = run_interleaved([Variant(str(n), partial(packed, Path(folder), n)) for n in counts], rounds, told)
        for n in counts:
            of = {"grows": "packing", "setting": setting, "at": n, "series": ""}
            seconds = [n / speed for speed in found.speeds[str(n)]]
            points.append(Point.of("time", "s", seconds, found.dropped, **of))
            told(f"peak memory of {n:,}", counts.index(n), len(counts))
            peaks = [
                json.loads(printed(["visual_decathlon.benchmark.perf.growth.packing", folder, str(n)]))
                for _ in range(rounds)
            ]
            if None not in peaks:
                points.append(Point.of("peak", "MB", peaks, **of))
    return points


def draw(folder: Path) -> None:
    """DRAWN images of smooth noise, JPEG."""
    from PIL import Image

    from visual_decathlon.datasets.standin.canvas import noise

    for i in range(DRAWN):
        pixels = 127.5 + 127.5 * noise(np.random.default_rng(i), LONGER, SHORTER, 8, 3)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{i}.jpg")


def packed(folder: Path, count: int) -> int:
    """Pack `count` of them, and remove the pack; returns how many were packed."""
    files, ids = [f"{i % DRAWN}.jpg" for i in range(count)], np.arange(count)
    split = Split(DOMAINS["imagenet12"], "train", folder, files, ids, ids % 2, ("a", "b"), "drawn", folder)
    with tempfile.TemporaryDirectory(dir=folder) as made:
        return len(pack(split, Path(made), SHORTER))


if __name__ == "__main__":
    packed(Path(sys.argv[1]), int(sys.argv[2]))
    most = peak_resident()
    print(json.dumps(most and most / 1e6))
