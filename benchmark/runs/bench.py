"""A bench: trains the runs of a request that are missing in a results folder, then writes and shows the tables."""

import dataclasses
from collections.abc import Callable, Collection
from pathlib import Path

import pandas as pd

from visual_decathlon.benchmark.backbones.bundled import install_bundled_backbones
from visual_decathlon.benchmark.config.folders import SHIPPED, SHIPPED_RECORDS
from visual_decathlon.benchmark.config.rates import rate_note
from visual_decathlon.benchmark.config.specs import Run
from visual_decathlon.benchmark.records.build import check_known
from visual_decathlon.benchmark.records.files import Fault, describe_faults
from visual_decathlon.benchmark.records.folder import ResultsFolder
from visual_decathlon.benchmark.records.predictions import has_predictions
from visual_decathlon.benchmark.records.provenance import Provenance
from visual_decathlon.benchmark.records.store import read_frame
from visual_decathlon.benchmark.records.writable import prepare_folders
from visual_decathlon.benchmark.report import files
from visual_decathlon.benchmark.report.screen import Screen
from visual_decathlon.benchmark.runs.backbones import lower_rates
from visual_decathlon.benchmark.runs.data import DECODING, Data, PreparationProgress, open_data
from visual_decathlon.benchmark.runs.engines import Engine
from visual_decathlon.benchmark.runs.engines.names import open_engine
from visual_decathlon.benchmark.runs.failures import print_failures_at_end
from visual_decathlon.benchmark.runs.finished import make_current, move_conflicting_files, readable_records
from visual_decathlon.benchmark.runs.plan import plan_baseline_runs, plan_runs
from visual_decathlon.benchmark.runs.request import Request
from visual_decathlon.benchmark.runs.runnable import keep_runnable
from visual_decathlon.benchmark.runs.scheduler import run_jobs
from visual_decathlon.benchmark.tables import superseded, table1
from visual_decathlon.datasets.catalogue import DOMAINS
from visual_decathlon.datasets.errors import option
from visual_decathlon.datasets.io import write_all


def bench(
    request: Request,
    results: Path,
    *,
    named: Collection[str] = (),
    device: str = "cpu",
    workers: int | None = None,
    engine: str = "local",
    command: str = "",
) -> list[str]:
    """Train the missing runs of `request`, write the tables of all records in `results`, and print those of these runs.

    Returns a sentence for each run that failed; they are printed on stderr, too. `named` are the methods that raise
    InputError if they cannot run; others are left out. `device` is as torch names it, for ray auto, cpu or cuda.
    `workers` is the number of processes, by default as many as the device has room for. `engine` is local, or ray for
    a cluster. `command` is recorded. Raises InputError before anything is trained.
    """
    prepare_folders(results, request.cache)
    with print_failures_at_end() as faults:
        with Screen() as screen, open_engine(engine, workers, device, results, request.cache) as pool:
            request = runnable(request, named, screen.say)
            data = open_data(request, _preparing(request, screen, pool), screen.say)
            asked = plan_runs(request, data, request.methods, request.seeds)
            with screen.busy("reading the records"):
                finished = readable_records(results, screen.say)
                at_hand = pd.concat([finished[finished["top1"].notna()], shipped(screen.say)])
            extra, shipped_baseline = baseline(request, data, asked, at_hand, screen)
            if todo := _unfinished(asked, asked + extra, finished, results, screen):
                install_bundled_backbones((run.backbone for run in todo), ResultsFolder(SHIPPED).backbones, screen.say)
                pool.begin(todo)
                provenance = Provenance.here(data, pool.count, command)
                check_known(todo, provenance)
                run_jobs(todo, results, provenance, pool, screen, faults)
            shown = [run.hash for run in asked + extra]
            with screen.busy("making the tables of all records"):
                frame = make_current(results, shown)
                as_cut = frame["limit"].isna() | (frame["limit"] == request.limit)
                tables = table1.tables(frame[as_cut], shipped_baseline)
                paths = write_all(files.contents(tables, results)) if tables else []
        mine = table1.tables(frame[frame["hash"].isin(shown)], shipped_baseline)
        if any(ResultsFolder(results).predictions(run.hash).is_file() for run in asked if run.predictions):
            paths.append(ResultsFolder(results).predictions_folder)
        _show(mine, tables, paths, asked, screen)
    return faults


def runnable(request: Request, named: Collection[str], say: Callable[[str], None]) -> Request:
    """The request without methods that cannot run; `say` gets sentences on it. Raises InputError as `bench` does."""
    for sentence in request.notes:
        say(sentence)
    if request.data is not None and request.profile.name == "standin":
        say(f"profile standin: a slim network on small crops; the paper's recipe is {option('profile')}decathlon")
    request = keep_runnable(request, named, say)
    if sentence := rate_note(request.profile.adapt, request.methods, lower_rates(request.profile)):
        say(sentence)
    return request


def _show(
    mine: list[table1.Table], tables: list[table1.Table], paths: list[Path], asked: list[Run], screen: Screen
) -> None:
    """Print the tables of these runs, the files, and which domains have no labels; `tables` are of all records."""
    for table in mine:
        screen.table(table)
    for table in tables:  # which records these runs replace in the files' tables
        if table.group in [other.group for other in mine]:
            for sentence in superseded.note(table):
                screen.console.print(sentence, style="dim")
    if paths:
        screen.files(paths)
    if unlabelled := dict.fromkeys(run.domain.name for run in asked if not run.evaluate.labelled):
        names = "all ten domains" if len(unlabelled) == len(DOMAINS) else ", ".join(unlabelled)
        screen.console.print(
            f"Without labels, so predicted and in no table: the test split of {names}. `make submit` packs it.",
            markup=False,
        )


def _preparing(request: Request, screen: Screen, pool: Engine) -> PreparationProgress:
    """Shows the progress of preparing data; while one core decodes images, the CPU's workers start on the others."""
    runs = len(request.methods) * len(request.seeds) * len(request.domains or DOMAINS)

    def progress(task: str, domain: str, done: int, of: int) -> None:
        if task == DECODING:
            pool.prepare(runs)
        screen.preparing(task, domain, done, of)

    return progress


def shipped(report: Callable[[str], None]) -> pd.DataFrame:
    """The records that come with the suite; `report` gets a sentence about those that cannot be read."""
    faults: list[Fault] = []
    frame = read_frame(SHIPPED_RECORDS, faults=faults)
    if faults:
        report(f"left out: {describe_faults(faults, ' (`git checkout` brings it back)')}")
    return frame


def _unfinished(asked: list[Run], runs: list[Run], finished: pd.DataFrame, results: Path, screen: Screen) -> list[Run]:
    """The runs to train, and the finished runs to evaluate again for their predictions; prints how many are reused."""
    done = dict(zip(finished["hash"], finished["eval_images"], strict=True))
    lost = {name for name, stored in zip(finished["hash"], finished["stored"], strict=True) if not stored}
    todo = list({run.hash: run for run in runs if run.hash not in done or run.hash in lost}.values())
    reused = len({run.hash for run in asked} - {run.hash for run in todo})
    if reused:
        screen.say(f"{reused} of {len(asked)} runs are finished already and are not repeated")
    if again := sum(run.hash in lost for run in todo):
        screen.say(f"{again} have a record, but the file of their adapters is gone or cut off: trained again")
    for line in move_conflicting_files(todo, results):
        screen.say(line)
    lacking = without_predictions(asked, {hash: done[hash] for hash in done.keys() - lost}, results)
    if lacking:
        screen.say(f"{len(lacking)} of them: evaluated again for their predictions, not trained")
    return [*todo, *lacking]


def without_predictions(asked: list[Run], done: dict[str, int], results: Path) -> list[Run]:
    """The finished runs that lack the predictions that are asked for; `done` has their evaluated images by hash."""
    lacking = {
        run.hash: dataclasses.replace(run, finished=True)
        for run in asked
        if run.predictions and run.hash in done and not has_predictions(results, run.hash, done[run.hash])
    }
    return list(lacking.values())


def baseline(
    request: Request, data: Data, asked: list[Run], at_hand: pd.DataFrame, screen: Screen
) -> tuple[list[Run], pd.DataFrame | None]:
    """The fine-tune baseline of S: (the runs that are still to train, records in `at_hand` with the same hashes)."""
    names = {run.domain.name for run in asked if run.domain.official and run.evaluate.labelled}
    if len(names) < 10 or (request.split == "test" and data.complete and not data.standin):
        return [], None
    seeds = sorted({*at_hand["seed"].tolist(), *request.seeds})
    wanted = plan_baseline_runs(request, data, seeds)
    if not wanted:
        screen.say(f"S stays empty: its fine-tune baseline needs a plain network, and {option('backbone')} holds none")
        return [], None
    if {run.hash for run in wanted} & {run.hash for run in asked}:
        return [], None
    matching = at_hand[at_hand["hash"].isin([run.hash for run in wanted])].drop_duplicates("hash")
    if set(matching["domain"]) == names:
        return [], matching
    screen.say(
        "S needs the fine-tune baseline, and no records of these data and settings come with the suite: "
        f"it is run too (seed {request.seeds[0]})"
    )
    return plan_baseline_runs(request, data, request.seeds[:1]), matching
