"""A bench against the number of its methods."""

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from visual_decathlon.benchmark.perf.growth.child import printed
from visual_decathlon.benchmark.perf.growth.point import Point
from visual_decathlon.benchmark.perf.rounds import Variant, run_interleaved
from visual_decathlon.benchmark.records.store import read_frame
from visual_decathlon.benchmark.runtime.progress import ProgressCallback, silent
from visual_decathlon.benchmark.tables.costs import training_seconds

# Of nearly one cost, each of another file, so that their number grows and little else.
METHODS = ("par_adapter", "lora", "houlsby", "dora", "hira", "finetune", "loha", "lora_tkd")
TINY = ("--domains", "svhn", "dtd", "--set", "width=0.125", "epochs=1", "pretrain.epochs=1", "--device", "cpu")


def measured(
    counts: Sequence[int], cache: Path, words: Sequence[str] = TINY, rounds: int = 2, told: ProgressCallback = silent
) -> list[Point]:
    """Seconds of `python -m benchmark run` with the first so many METHODS, from nothing but the cache.

    Beside it the training in their records, shared by the processes that did it. The first round, which counts
    nothing, leaves stand-ins, packs and the backbone in the cache.
    """
    training: dict[int, list[float]] = {count: [] for count in counts}

    def work(count: int) -> int:
        with tempfile.TemporaryDirectory() as results:
            folders = ("--results", results, "--cache", str(cache.resolve()))
            printed(["benchmark", "run", "--method", ",".join(METHODS[:count]), *words, *folders])
            runs = read_frame([Path(results, "records")])
        training[count].append(training_seconds(runs).sum() / runs["workers"].max())
        return 1

    found = run_interleaved([Variant(str(count), partial(work, count)) for count in counts], rounds, told, "methods")
    points = []
    for count in counts:
        of = {"grows": "methods", "setting": " ".join(words), "at": count, "series": ""}
        wall = [1 / speed for speed in found.speeds[str(count)]]
        points.append(Point.of("bench", "s", wall, found.dropped, **of))
        points.append(Point.of("training", "s", training[count][-rounds:], found.dropped, **of))
    return points
