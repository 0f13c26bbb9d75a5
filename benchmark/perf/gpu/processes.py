"""The throughput of simultaneous trainings on one device: the same small run in 1, 2, 4 and 8 processes."""

import dataclasses
import multiprocessing
import time

from visual_decathlon.benchmark.config.profiles import Profile
from visual_decathlon.benchmark.perf.gpu.effort import Effort
from visual_decathlon.benchmark.perf.gpu.rows import Keep, row

_BARRIERS: dict = {}  # in a child: number of processes -> the barrier at which they wait for each other


def processes(effort: Effort, keep: Keep) -> None:
    """Images per second of all processes together, at the stand-ins' size and at the paper's, compared with one."""
    spawn = multiprocessing.get_context("spawn")
    barriers = {n: spawn.Barrier(n) for n in effort.processes}
    with spawn.Pool(max(effort.processes), _init_worker, (barriers,)) as pool:
        for what, chosen, epochs in (
            ("at the stand-ins' size, fp32", effort.standin.profile(), effort.epochs[0]),
            ("at width 1, 64 px, bf16", effort.paper.profile("precision=bf16"), effort.epochs[1]),
        ):
            alone: list[float] = []
            run = dataclasses.replace(effort, rounds=epochs - 1)
            for n in effort.processes:
                spans = pool.starmap(_train, [(n, chosen, run)] * n, chunksize=1)
                images = sum(images for images, _, _ in spans)
                seconds = max(end for _, _, end in spans) - min(begin for _, begin, _ in spans)
                against = ("1 alone", alone) if alone else ()
                keep(row("processes", f"par_adapter {what}", f"{n} side by side", [images / seconds], *against))
                alone = alone or [images / seconds]


def _init_worker(barriers: dict) -> None:
    """Keep the barriers in the child."""
    _BARRIERS.update(barriers)


def _train(n: int, chosen: Profile, effort: Effort) -> tuple[int, float, float]:
    """(images, begin, end) of a training whose `n` processes begin together, after each has warmed up.

    Start and graph capture are included, as in a run. The times are of the system's monotonic clock, which all
    processes share.
    """
    from visual_decathlon.benchmark.perf.gpu.steps import ours

    try:
        ours("par_adapter", chosen, dataclasses.replace(effort, rounds=1))  # for the work that a process does once
    except BaseException:
        _BARRIERS[n].abort()  # so that no other process waits for this one
        raise
    _BARRIERS[n].wait()
    begin = time.monotonic()
    trained = ours("par_adapter", chosen, effort)
    return trained.images * len(trained.history), begin, time.monotonic()
