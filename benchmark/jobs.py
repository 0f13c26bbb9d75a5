"""Runs cells and what they stand on: backbones and joint trainings first, nothing waiting for what it does not need."""

from concurrent.futures import Future
from pathlib import Path

from benchmark.cells import Backbone, Cell, Joint
from benchmark.precision import warning
from benchmark.profiles import Profile
from benchmark.provenance import Provenance
from benchmark.screen import Screen
from benchmark.workers import Workers, outcome
from datasets.errors import BadInput


def work(
    todo: list[Cell], results: Path, provenance: Provenance, device: str, workers: int, screen: Screen
) -> list[str]:
    """Train each backbone and joint training that is missing once, then the cells that stand on it, the longest first.

    Nothing waits for what it does not need. Returns the faults; what stands on a fault is not run.
    """
    bases = {c.backbone.hash: c.backbone for c in todo if not c.backbone.path.is_file()}
    joints = {c.joint.hash: c.joint for c in todo if c.joint is not None and not c.joint.path.is_file()}
    waiting: dict[str, Backbone | Joint | Cell] = bases | joints
    waiting |= {c.hash: c for c in sorted(todo, key=lambda cell: -cell.work)}
    epochs = {h: (j.profile.pretrain if h in bases else _profile(j).adapt).epochs for h, j in waiting.items()}
    per_epoch = {h: job.work / epochs[h] for h, job in waiting.items()}
    screen.expect(sum(job.work for job in waiting.values()))
    unmade = set(bases) | set(joints)
    faults: list[str] = []
    jobs: dict[Future, Backbone | Joint | Cell] = {}
    running: set[Future] = set()

    def told(key: str, row: dict) -> None:
        if "doing" in row:
            screen.doing(key, row["doing"], row["done"], row["of"])
        else:
            screen.epoch(key, row, per_epoch[key])

    if text := warning(todo[0].profile.precision, device):  # of one command, one profile
        screen.say(text)
    with Workers(workers, device) as pool:

        def start_ready() -> None:
            for key, job in list(waiting.items()):
                if not _needs(job) & unmade:
                    del waiting[key]
                    future = _submit(pool, job, results, provenance)
                    jobs[future] = job
                    running.add(future)
                    screen.begin(key, _doing(job), epochs[key])

        start_ready()
        for future in pool.finished(running, told):
            job = jobs[future]
            try:
                done = outcome(future, _doing(job))
                screen.end(job.hash, _done(job, done))
                unmade.discard(job.hash)
                start_ready()
            except BadInput as fault:
                faults.append(str(fault))
                screen.end(job.hash, f"{_doing(job)}: not done")
    return list(dict.fromkeys(faults))


def _profile(job: Backbone | Joint | Cell) -> Profile:
    return job.backbone.profile if isinstance(job, Joint) else job.profile


def _needs(job: Backbone | Joint | Cell) -> set[str]:
    if isinstance(job, Backbone):
        return set()
    joint = {job.joint.hash} if isinstance(job, Cell) and job.joint is not None else set()
    return {job.backbone.hash} | joint


def _submit(pool: Workers, job: Backbone | Joint | Cell, results: Path, provenance: Provenance) -> Future:
    if isinstance(job, Backbone):
        return pool.pretrain(job)
    return pool.together(job) if isinstance(job, Joint) else pool.cell(job, results, provenance)


def _doing(job: Backbone | Joint | Cell) -> str:
    if isinstance(job, Backbone):
        wide = f" of width {job.network_profile.width:g}" if job.widen != 1 else ""
        return f"pretraining the {job.structure} backbone{wide}"
    name = job.method.partition("(")[0]
    return f"{name} over all domains" if isinstance(job, Joint) else f"{name} {job.domain.name}"


def _done(job: Backbone | Joint | Cell, record: dict | None) -> str:
    if not isinstance(job, Cell):
        return _doing(job).replace("pretraining", "pretrained")
    what = f"{job.method.partition('(')[0]:12} {job.domain.name:14} seed {job.seed}"
    return f"{what}  predicted" if record["top1"] is None else f"{what}  {record['top1']:6.2f} %"
