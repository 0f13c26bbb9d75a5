"""What grows, by the name that ONLY= takes: each is measured at a few values."""

from collections.abc import Callable
from pathlib import Path

from benchmark.growth import bench, domains, packing, step
from benchmark.growth.point import Point

GROWTHS: dict[str, Callable[[Path], list[Point]]] = {
    "width": lambda cache: step.measured("width", (0.125, 0.25, 0.5, 1.0)),
    "size": lambda cache: step.measured("size", (16, 32, 64, 96)),
    "batch": lambda cache: step.measured("batch", (4, 8, 16, 32, 64, 128)),
    "classes": lambda cache: step.measured("classes", (10, 100, 1000, 1623)),  # 1,623: omniglot's
    "domains": lambda cache: domains.measured((1, 2, 4, 8, 16)),
    "packing": lambda cache: packing.measured((1000, 2000, 4000, 8000)),  # two chunks and more
    "methods": lambda cache: bench.measured((1, 2, 4, 8), cache),
}
"""`measure(cache)` gives the points."""
