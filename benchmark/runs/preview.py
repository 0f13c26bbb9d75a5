"""What a bench would do, for PLAN=1: finished runs, what is made first, time, memory, disk. Writes nothing."""

from collections import Counter
from collections.abc import Collection
from pathlib import Path

import pandas as pd

from visual_decathlon.benchmark.config.folders import SHIPPED
from visual_decathlon.benchmark.config.specs import Run
from visual_decathlon.benchmark.records.folder import ResultsFolder
from visual_decathlon.benchmark.records.provenance import Provenance
from visual_decathlon.benchmark.report.planned import Planned, PlannedMethod
from visual_decathlon.benchmark.report.screen import Screen
from visual_decathlon.benchmark.runs.bench import baseline, runnable, shipped, without_predictions
from visual_decathlon.benchmark.runs.data import Data, open_data
from visual_decathlon.benchmark.runs.estimate import Estimates, together
from visual_decathlon.benchmark.runs.finished import readable_records
from visual_decathlon.benchmark.runs.job import JointTrainingJob, PretrainingJob, RunJob, jobs_for
from visual_decathlon.benchmark.runs.plan import plan_runs
from visual_decathlon.benchmark.runs.request import Request
from visual_decathlon.benchmark.runs.worker_count import default_workers
from visual_decathlon.methods.registry import select

SIDES = 4 / 3
"""Assumed of images that are not decoded yet: the longer side, relative to the shorter one."""


def preview(
    request: Request, results: Path, *, named: Collection[str] = (), device: str = "cpu", workers: int | None = None
) -> Planned:
    """Show what `bench` would do with the same arguments, and return it. Raises InputError as `bench` does."""
    with Screen() as screen:
        request = runnable(request, named, screen.say)
        data = open_data(request, screen.preparing, screen.say, write=False)
        asked = plan_runs(request, data, request.methods, request.seeds)
        with screen.busy("reading the records"):
            finished = readable_records(results, screen.say, move=False)
            at_hand = pd.concat([finished[finished["top1"].notna()], shipped(screen.say)])
        extra, _ = baseline(request, data, asked, at_hand, screen)
        whole = finished[finished["stored"].astype(bool)]  # of no record at all, the column has no type
        done = dict(zip(whole["hash"], whole["eval_images"], strict=True))
        again = len(without_predictions(asked, done, results))
        estimates = Estimates(at_hand, request.profile, device)
        count = workers or default_workers(device, asked)
        plan = _planned(request, data, asked + extra, set(done), again, estimates, count)
    plan.show(screen.console)
    return plan


def _planned(
    request: Request, data: Data, runs: list[Run], done: set[str], again: int, estimates: Estimates, workers: int
) -> Planned:
    todo = list({run.hash: run for run in runs if run.hash not in done}.values())
    everything = jobs_for(todo, Path(), Provenance.here(data, workers, ""))
    jobs = [job for job in everything if not (isinstance(job, PretrainingJob) and _at_hand(job))]
    seconds = {job.key: estimates.seconds(job) for job in jobs}
    workers = max(1, min(workers, len(jobs)))
    kinds = (PretrainingJob, JointTrainingJob, RunJob)
    stages = [[seconds[job.key] for job in jobs if isinstance(job, kind)] for kind in kinds]
    known = None not in seconds.values()
    packs = data.undecoded * 3 * request.profile.resize**2 * SIDES
    stored = estimates.stored_bytes(job for job in jobs if isinstance(job, RunJob))
    return Planned(
        methods=[_method(method, runs, done, seconds) for method in dict.fromkeys(run.method for run in runs)],
        first=_first(data, everything, jobs),
        again=again,
        workers=workers,
        seconds=sum(together(stage, workers) for stage in stages) if known else None,
        one_after_the_other=sum(seconds.values()) if known else None,
        of_other_machines=estimates.of_other_machines,
        memory_mb=estimates.memory_mb(),
        disk_bytes=None if stored is None else packs + stored,
    )


def _method(method: str, runs: list[Run], done: set[str], seconds: dict[str, float | None]) -> PlannedMethod:
    mine = list(dict.fromkeys(run.hash for run in runs if run.method == method))
    left = [hash for hash in mine if hash not in done]
    times = [seconds[hash] for hash in left]
    return PlannedMethod(
        select(method)[0].spec, len(mine), len(mine) - len(left), None if None in times else sum(times)
    )


def _at_hand(job: PretrainingJob) -> bool:
    """Whether the backbone is not trained here: it is the user's, or comes with the suite."""
    return job.backbone.images is None or (ResultsFolder(SHIPPED).backbones / job.backbone.path.name).is_file()


def _first(data: Data, everything: list, jobs: list) -> list[str]:
    """What is made before the runs, in sentences."""
    made = ["drawing the stand-in domains"] if data.undrawn else []
    if data.undecoded:
        made.append(f"decoding {data.undecoded:,} images")
    for job in everything:
        if isinstance(job, PretrainingJob) and job.backbone.images is not None:
            made.append(job.describe() + (" (at hand: it comes with the suite)" if job not in jobs else ""))
    joint = Counter(job.describe() for job in everything if isinstance(job, JointTrainingJob))
    return made + [f"training {name}" + f", {seeds} seeds" * (seeds > 1) for name, seeds in joint.items()]
