"""`python -m benchmark run`: trains what is missing, then writes and shows the tables."""

import dataclasses
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from visual_decathlon.benchmark.backbones.bundled import install_bundled_backbones
from visual_decathlon.benchmark.cli.common import command, ready
from visual_decathlon.benchmark.cli.request import able, requested
from visual_decathlon.benchmark.config.folders import SHIPPED
from visual_decathlon.benchmark.config.profiles import spelling_notes
from visual_decathlon.benchmark.config.specs import Run
from visual_decathlon.benchmark.records.build import check_known
from visual_decathlon.benchmark.records.files import Fault, describe_faults
from visual_decathlon.benchmark.records.folder import ResultsFolder
from visual_decathlon.benchmark.records.predictions import has_predictions
from visual_decathlon.benchmark.records.provenance import Provenance
from visual_decathlon.benchmark.records.store import read_frame
from visual_decathlon.benchmark.report import files
from visual_decathlon.benchmark.report.screen import Screen
from visual_decathlon.benchmark.runs.data import DECODING, Data, ProgressCallback, open_data
from visual_decathlon.benchmark.runs.engines.local import LocalEngine
from visual_decathlon.benchmark.runs.failures import print_failures_at_end
from visual_decathlon.benchmark.runs.finished import make_current, move_conflicting_files, readable_records
from visual_decathlon.benchmark.runs.plan import plan_baseline_runs, plan_runs
from visual_decathlon.benchmark.runs.request import Request
from visual_decathlon.benchmark.runs.scheduler import run_jobs
from visual_decathlon.benchmark.runs.worker_count import default_workers
from visual_decathlon.benchmark.runtime.devices import device_of, on_cpu
from visual_decathlon.benchmark.tables import superseded, table1
from visual_decathlon.datasets.catalogue import DOMAINS
from visual_decathlon.datasets.cores import cores
from visual_decathlon.datasets.io import write_all
from visual_decathlon.methods.registry import select_named


def run(args: Namespace) -> int:
    """0: every run has its record; 2: some run could not be run (its sentence is on stderr)."""
    device = device_of(args.device)
    request = dataclasses.replace(requested(args), predictions=args.predictions)
    ready(args.results, request.cache)
    with print_failures_at_end() as faults:
        _run(args, request, device, faults)
        return 2 if faults else 0


def _run(args: Namespace, request: Request, device: str, faults: list[str]) -> None:
    results = args.results
    with Screen() as screen, LocalEngine(args.workers or cores(), device) as pool:
        for note in spelling_notes(args.set):
            screen.say(note)
        for sentence in request.user_backbone.notes if request.user_backbone else ():
            screen.say(sentence)
        if args.data is not None and request.profile.name == "standin":
            screen.say("profile standin: a slim network on small crops; the paper's recipe is PROFILE=decathlon")
        request = able(request, select_named(args.method), screen)
        data = open_data(request, _preparing(request, screen, pool), screen.say)
        asked = plan_runs(request, data, request.methods, request.seeds)
        with screen.busy("reading the records"):
            finished = readable_records(results, screen.say)
            at_hand = pd.concat([finished[finished["top1"].notna()], shipped(screen.say)])
        helping, lent = _baseline(request, data, asked, at_hand, screen)
        todo = _unfinished(asked, asked + helping, finished, results, screen)
        if todo:
            install_bundled_backbones((run.backbone for run in todo), ResultsFolder(SHIPPED).backbones, screen.say)
            pool.count = args.workers or default_workers(device, todo)
            provenance = Provenance.here(data, pool.count, command())
            check_known(todo, provenance)
            run_jobs(todo, results, provenance, pool, screen, faults)
        shown = [run.hash for run in asked + helping]
        with screen.busy("making the tables of all records"):
            frame = make_current(results, shown)
            as_cut = frame["limit"].isna() | (frame["limit"] == args.limit)
            found = table1.tables(frame[as_cut], lent)
            paths = write_all(files.contents(found, results)) if found else []
    mine = table1.tables(frame[frame["hash"].isin(shown)], lent)
    for table in mine:
        screen.table(table)
    for table in found:  # of all records: what these runs replace in the files' tables
        if table.group in [other.group for other in mine]:
            for sentence in superseded.note(table):
                screen.console.print(sentence, style="dim")
    if any(ResultsFolder(results).predictions(run.hash).is_file() for run in asked if run.predictions):
        paths.append(ResultsFolder(results).predictions_folder)
    if paths:
        screen.files(paths)
    if kept_back := dict.fromkeys(run.domain.name for run in asked if not run.evaluate.labelled):
        names = "all ten domains" if len(kept_back) == len(DOMAINS) else ", ".join(kept_back)
        screen.console.print(
            f"Without labels, so predicted and in no table: the test split of {names}. `make submit` packs it.",
            markup=False,
        )


def _preparing(request: Request, screen: Screen, pool: LocalEngine) -> ProgressCallback:
    """Shows what is prepared; while images are decoded, which one core does, a CPU's workers start on the others."""
    runs = len(request.methods) * len(request.seeds) * len(request.domains or DOMAINS)

    def told(what: str, domain: str, done: int, of: int) -> None:
        if what == DECODING and on_cpu(pool.device):
            pool.prepare(runs)
        screen.preparing(what, domain, done, of)

    return told


def shipped(say: Callable[[str], None]) -> pd.DataFrame:
    """The records that come with the suite; one that cannot be read is told and left out."""
    faults: list[Fault] = []
    frame = read_frame([SHIPPED], faults=faults)
    if faults:
        say(f"left out: {describe_faults(faults, ' (`git checkout` brings it back)')}")
    return frame


def _unfinished(asked: list[Run], runs: list[Run], finished: pd.DataFrame, results: Path, screen: Screen) -> list[Run]:
    """The runs to train, and the finished ones to evaluate again for their predictions; says which are reused."""
    done = dict(zip(finished["hash"], finished["eval_images"], strict=True))
    lost = {name for name, there in zip(finished["hash"], finished["stored"], strict=True) if not there}
    todo = list({run.hash: run for run in runs if run.hash not in done or run.hash in lost}.values())
    reused = len({run.hash for run in asked} - {run.hash for run in todo})
    if reused:
        screen.say(f"{reused} of {len(asked)} runs are finished already and are not repeated")
    if again := sum(run.hash in lost for run in todo):
        screen.say(f"{again} have a record, but the file of their adapters is gone or cut off: trained again")
    for line in move_conflicting_files(todo, results):
        screen.say(line)
    lacking = {
        run.hash: dataclasses.replace(run, finished=True)
        for run in asked
        if run.predictions and run.hash in done.keys() - lost and not has_predictions(results, run.hash, done[run.hash])
    }
    if lacking:
        screen.say(f"{len(lacking)} of them: evaluated again for their predictions, not trained")
    return [*todo, *lacking.values()]


def _baseline(
    request: Request, data: Data, asked: list[Run], at_hand: pd.DataFrame, screen: Screen
) -> tuple[list[Run], pd.DataFrame | None]:
    """What S still needs: (fine-tune runs to run, fine-tune records at hand that fit to the hash)."""
    names = {run.domain.name for run in asked if run.domain.official and run.evaluate.labelled}
    if len(names) < 10 or (request.split == "test" and data.complete and not data.standin):
        return [], None
    seeds = sorted({*at_hand["seed"].tolist(), *request.seeds})
    wanted = plan_baseline_runs(request, data, seeds)
    if not wanted:
        screen.say("S stays empty: its fine-tune baseline needs a plain network, and BACKBONE= holds none")
        return [], None
    if {run.hash for run in wanted} & {run.hash for run in asked}:
        return [], None
    lent = at_hand[at_hand["hash"].isin([run.hash for run in wanted])].drop_duplicates("hash")
    if set(lent["domain"]) == names:
        return [], lent
    screen.say(
        "S needs the fine-tune baseline, and no records of these data and settings come with the suite: "
        f"it is run too (seed {request.seeds[0]})"
    )
    return plan_baseline_runs(request, data, request.seeds[:1]), lent
