"""The engines by name, as ENGINE= gives it. Only the chosen one is imported."""

from pathlib import Path

from visual_decathlon.benchmark.runs.engines import Engine
from visual_decathlon.benchmark.runs.engines.local import LocalEngine


def open_engine(name: str, count: int | None, device: str, results: Path, cache: Path) -> Engine:
    """The engine `local` or `ray`, with up to `count` jobs at a time (None: as many as the device has room for).

    `device` is one of this machine, as torch names it; for `ray` it is auto, cpu or cuda.
    """
    if name == "ray":
        from visual_decathlon.benchmark.runs.engines.ray import RayEngine

        return RayEngine(count, device, results, cache)
    return LocalEngine(count, device)
