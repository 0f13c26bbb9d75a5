"""What grows, by the name that ONLY= takes: each is measured at a few values."""

from collections.abc import Callable
from pathlib import Path

from visual_decathlon.benchmark.perf.growth import bench, domains, packing, step
from visual_decathlon.benchmark.perf.growth.point import Point
from visual_decathlon.benchmark.runtime.progress import ProgressCallback

GROWTHS: dict[str, Callable[[Path, ProgressCallback], list[Point]]] = {
    "width": lambda cache, told: step.measured("width", (0.125, 0.25, 0.5, 1.0), told=told),
    "size": lambda cache, told: step.measured("size", (16, 32, 64, 96), told=told),
    "batch": lambda cache, told: step.measured("batch", (4, 8, 16, 32, 64, 128), told=told),
    "classes": lambda cache, told: step.measured("classes", (10, 100, 1000, 1623), told=told),  # 1,623: omniglot's
    "domains": lambda cache, told: domains.measured((1, 2, 4, 8, 16), told=told),
    "packing": lambda cache, told: packing.measured((1000, 2000, 4000, 8000), told=told),  # two chunks and more
    "methods": lambda cache, told: bench.measured((1, 2, 4, 8), cache, told=told),
}
"""`measure(cache, told)` gives the points, and tells how far it is."""
