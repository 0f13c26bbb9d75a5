"""The time of a bench against its number of methods."""

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from visual_decathlon.benchmark.perf.growth.child import output_of
from visual_decathlon.benchmark.perf.growth.point import Point
from visual_decathlon.benchmark.perf.rounds import Variant, run_interleaved
from visual_decathlon.benchmark.records.folder import ResultsFolder
from visual_decathlon.benchmark.records.store import read_frame
from visual_decathlon.benchmark.runtime.progress import ProgressCallback, silent
from visual_decathlon.benchmark.tables.costs import training_seconds

# Methods of nearly equal cost, each from another file, so that little changes but their number.
METHODS = ("par_adapter", "lora", "houlsby", "dora", "hira", "finetune", "loha", "lora_tkd")
TINY = ("--domains", "svhn", "dtd", "--set", "width=0.125", "epochs=1", "pretrain.epochs=1", "--device", "cpu")


def measured(
    counts: Sequence[int],
    cache: Path,
    words: Sequence[str] = TINY,
    rounds: int = 2,
    progress: ProgressCallback = silent,
) -> list[Point]:
    """Seconds of `python -m benchmark run` with the first `count` METHODS, starting from the cache alone.

    Also the training seconds in their records, divided by the processes that shared them. The first round does not
    count: it leaves stand-ins, packs and the backbone in the cache.
    """
    training: dict[int, list[float]] = {count: [] for count in counts}

    def work(count: int) -> int:
        with tempfile.TemporaryDirectory() as results:
            folders = ("--results", results, "--cache", str(cache.resolve()))
            output_of(["benchmark", "run", "--method", ",".join(METHODS[:count]), *words, *folders])
            runs = read_frame([ResultsFolder(Path(results)).records])
        training[count].append(training_seconds(runs).sum() / runs["workers"].max())
        return 1

    variants = [Variant(str(count), partial(work, count)) for count in counts]
    timed = run_interleaved(variants, rounds, progress, "methods")
    points = []
    for count in counts:
        about = {"grows": "methods", "setting": " ".join(words), "at": count, "series": ""}
        wall = [1 / speed for speed in timed.speeds[str(count)]]
        points.append(Point.of("bench", "s", wall, timed.dropped, **about))
        points.append(Point.of("training", "s", training[count][-rounds:], timed.dropped, **about))
    return points
