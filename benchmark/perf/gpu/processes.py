"""How many trainings side by side on one device pay: the same small run in 1, 2, 4 and 8 processes."""

import multiprocessing
import time

from benchmark.perf.gpu.effort import Effort
from benchmark.perf.gpu.rows import Keep, row

_BARRIERS: dict = {}  # in a child: number of processes -> where they wait for each other


def processes(effort: Effort, keep: Keep) -> None:
    """Images per second of all processes together, at the stand-ins' size and at the paper's, against one process."""
    spawn = multiprocessing.get_context("spawn")
    barriers = {n: spawn.Barrier(n) for n in effort.processes}
    with spawn.Pool(max(effort.processes), _begin, (barriers,)) as pool:
        for what, size, precision in (
            ("at the stand-ins' size, fp32", effort.standin, "fp32"),
            ("bf16", effort.paper, "bf16"),
        ):
            alone: list[float] = []
            for n in effort.processes:
                asked = [(n, size.profile(f"precision={precision}"), effort)] * n
                spans = pool.starmap(_train, asked, chunksize=1)
                images = sum(images for images, _, _ in spans)
                seconds = max(end for _, _, end in spans) - min(begin for _, begin, _ in spans)
                found = [images / seconds]
                alone = alone or found
                keep(row("processes", f"par_adapter {what}", f"{n} side by side", found, "1 alone", alone))


def _begin(barriers: dict) -> None:
    _BARRIERS.update(barriers)


def _train(n: int, chosen, effort: Effort) -> tuple[int, float, float]:
    """(images, begin, end) of a training whose `n` processes begin together, once each of them is warm.

    The times are of the system's monotonic clock, which all processes share.
    """
    from benchmark.perf.gpu.steps import ours

    ours("par_adapter", chosen, effort)  # kernels are loaded, chosen and captured
    _BARRIERS[n].wait()
    begin = time.monotonic()
    found = ours("par_adapter", chosen, effort)
    return found.images * len(found.history), begin, time.monotonic()
