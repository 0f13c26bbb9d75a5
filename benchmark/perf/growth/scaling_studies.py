"""The scaling studies by the name that ONLY= takes: each is measured at a few values."""

from collections.abc import Callable
from pathlib import Path

from visual_decathlon.benchmark.perf.growth import bench, domains, packing, step
from visual_decathlon.benchmark.perf.growth.point import Point
from visual_decathlon.benchmark.runtime.progress import ProgressCallback

STUDIES: dict[str, Callable[[Path, ProgressCallback], list[Point]]] = {
    "width": lambda cache, progress: step.measured("width", (0.125, 0.25, 0.5, 1.0), progress=progress),
    "size": lambda cache, progress: step.measured("size", (16, 32, 64, 96), progress=progress),
    "batch": lambda cache, progress: step.measured("batch", (4, 8, 16, 32, 64, 128), progress=progress),
    "classes": lambda cache, progress: step.measured(
        "classes", (10, 100, 1000, 1623), progress=progress
    ),  # 1,623: omniglot's
    "domains": lambda cache, progress: domains.measured((1, 2, 4, 8, 16), progress=progress),
    "packing": lambda cache, progress: packing.measured(
        (1000, 2000, 4000, 8000), progress=progress
    ),  # two chunks and more
    "methods": lambda cache, progress: bench.measured((1, 2, 4, 8), cache, progress=progress),
}
"""`STUDIES[name](cache, progress)` measures the points and reports its progress."""
