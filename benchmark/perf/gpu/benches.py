"""Benches as a user types them, each in its own process with an empty cache."""

import os
import subprocess
import sys
import tempfile
import time

from visual_decathlon.benchmark.config.folders import HOME
from visual_decathlon.benchmark.perf.gpu.effort import Effort
from visual_decathlon.benchmark.perf.gpu.rows import Keep, row
from visual_decathlon.datasets.errors import InputError

# The imports of the command, and those of its worker processes.
_IMPORTS = (
    "import visual_decathlon.benchmark.runs.bench",
    "import visual_decathlon.benchmark.runs.execute, fvcore.nn, torch; torch.cuda.is_available()",
)


def bench(effort: Effort, keep: Keep) -> None:
    """`make bench METHOD=res_adapter` from empty caches, and its imports alone from a warm disk."""
    imports = sum(_seconds([sys.executable, "-c", code]) for code in _IMPORTS)
    keep(row("bench", "imports of the command and of a worker", "alone", [imports], unit="s", goal="imports"))
    seconds = _bench(effort, "res_adapter")
    keep(row("bench", "make bench METHOD=res_adapter, caches empty", "default", [seconds], unit="s", goal="bench"))


def every_method(effort: Effort, keep: Keep) -> None:
    """`make bench METHOD=all`: all methods, all ten stand-ins, seed 0."""
    seconds = _bench(effort, "all") / 60
    keep(row("all", "make bench METHOD=all, one seed", "default", [seconds], unit="min", goal="all methods"))


def _bench(effort: Effort, method: str) -> float:
    """Seconds of the command until its tables are written. Raises InputError where it wrote none."""
    results = effort.work / method / "results"
    folders = ("--results", str(results), "--cache", str(effort.work / method / "cache"))
    device = effort.device.partition(":")[0]
    words = [sys.executable, "-m", "benchmark", "run", "--method", method, "--device", device, *folders]
    seconds = _seconds(words)
    if not (results / "table1.md").is_file():
        raise InputError(f"the bench of METHOD={method} ended without a table in {results}")
    return seconds


def _seconds(words: list[str]) -> float:
    """Seconds of a process, whose output goes to the screen. Raises InputError where it fails."""
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as compiled:  # nor a compiled kernel
        code = subprocess.run(words, cwd=HOME, env={**os.environ, "TRITON_CACHE_DIR": compiled}).returncode
    if code:
        raise InputError(f"`{' '.join(['python', *words[1:4]])} …` ended with {code}; its output is above")
    return time.perf_counter() - begin
