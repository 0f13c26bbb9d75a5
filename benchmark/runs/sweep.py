"""Sweeps learning rates: three for each method on a held-out part of train, with the same budget for all.

The recorded sweeps are the source of the methods' rates: results/standin/sweep.parquet of `lr`, and
results/standin-vit/sweep.parquet of the third of it on transformers.
"""

import statistics
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from visual_decathlon.benchmark.config.profiles import Profile
from visual_decathlon.benchmark.config.rates import own_rate
from visual_decathlon.benchmark.config.specs import Run
from visual_decathlon.benchmark.records.build import check_known
from visual_decathlon.benchmark.records.folder import ResultsFolder
from visual_decathlon.benchmark.records.provenance import Provenance
from visual_decathlon.benchmark.records.store import read_records, write_table
from visual_decathlon.benchmark.records.writable import prepare_folders
from visual_decathlon.benchmark.report.screen import Screen
from visual_decathlon.benchmark.runs.backbones import lower_rates
from visual_decathlon.benchmark.runs.data import Data, open_data
from visual_decathlon.benchmark.runs.engines.local import LocalEngine
from visual_decathlon.benchmark.runs.failures import print_failures_at_end
from visual_decathlon.benchmark.runs.finished import move_conflicting_files, readable_records
from visual_decathlon.benchmark.runs.plan import plan_runs
from visual_decathlon.benchmark.runs.request import Request
from visual_decathlon.benchmark.runs.runnable import keep_runnable
from visual_decathlon.benchmark.runs.scheduler import run_jobs
from visual_decathlon.datasets.cores import cores
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.datasets.io import write_bytes
from visual_decathlon.methods.method import Method

FACTORS = (1 / 3, 1.0, 3.0)  # of the learning rate that the method declares
DOMAINS = ("aircraft", "dtd", "svhn")  # natural images, textures, digits
# The declared rate is kept if no other is better by more points of mean top-1 than this: the standard error of the
# difference of two runs on 290 images is about 3.5 points, and the spread over seeds comes on top.
NOISE = 4.0

SCHEMA = pa.schema(
    [
        pa.field(name, kind, metadata={"comment": text})
        for name, kind, text in (
            ("method", pa.string(), "method string"),
            ("lr", pa.float64(), "peak rate, one digit: a third of, once and three times the declared one"),
            ("top1", pa.float64(), "mean over the domains of top-1 on a held-out fifth of train, %; null: it diverged"),
            ("domains", pa.string(), "the domains"),
            ("epochs", pa.int32(), "epochs of training: a third of the profile's"),
            ("seed", pa.int32(), "the one seed"),
            ("profile", pa.string(), "name of the profile; null in sweeps of before"),
            ("data", pa.string(), "name of the data"),
            ("declared", pa.bool_(), "whether it was the entry's own rate"),
            ("chosen", pa.bool_(), "the best, or the declared one where it is within 4 points of that"),
        )
    ]
)


def sweep(
    methods: Sequence[Method],
    asked: Profile,
    results: Path,
    cache: Path,
    *,
    named: Collection[str] = (),
    command: str = "",
) -> list[dict]:
    """Train the missing runs on the CPU, write sweep.parquet and sweep.md to `results`; returns the table's rows.

    `named` are the methods that raise InputError if they cannot run; others are left out. Runs that failed are
    printed on stderr. A rate at which the loss became infinite is a result: its top-1 is None.
    """
    short = replace(asked, adapt=replace(asked.adapt, epochs=round(asked.adapt.epochs / 3)))
    lower = lower_rates(asked)
    request = Request(methods, short, domains=DOMAINS, split="holdout", cache=cache)
    prepare_folders(results, cache)
    with print_failures_at_end() as faults:
        with Screen() as screen:
            request = keep_runnable(request, named, screen.say)
            data = open_data(request, screen.preparing)
            runs = {
                rate: _runs_at(request, data, *rate)
                for method in _swept(request, screen)
                for rate in _rates(method, lower)
            }
            _train([run for some in runs.values() for run in some], data, results, command, screen, faults)
        rows = _rows(runs, results, lower)
        about = {
            "domains": " ".join(DOMAINS),
            "epochs": short.adapt.epochs,
            "seed": 0,
            "data": data.name,
            "profile": asked.name,
        }
        paths = [
            write_table(
                pa.Table.from_pylist([about | row for row in rows], SCHEMA), ResultsFolder(results).table("sweep")
            ),
            write_bytes(
                _markdown(rows, short.adapt.epochs, data.name, asked.name).encode(),
                ResultsFolder(results).table("sweep", "md"),
            ),
        ]
        screen.files(paths)
        return rows


def _swept(request: Request, screen: Screen) -> list[Method]:
    """The methods with a rate of their own. Raises InputError if there is none."""
    for wide in (m for m in request.methods if m.width_multiplier != 1):
        screen.say(f"left out: {wide.spec} takes the rate of the method that it is wider than")
    if swept := [m for m in request.methods if m.width_multiplier == 1]:
        return swept
    names = ",".join(method.spec for method in request.methods)
    raise InputError(f"{names}: no method is left to sweep; name another", field="method")


def _train(runs: Iterable[Run], data: Data, results: Path, command: str, screen: Screen, faults: list[str]) -> None:
    """Train the runs that are not finished; a sentence for each one that failed is added to `faults`."""
    finished = readable_records(results, screen.say)
    done = set(finished["hash"][finished["stored"]])
    todo = [run for run in runs if run.hash not in done]
    for line in move_conflicting_files(todo, results):
        screen.say(line)
    provenance = Provenance.here(data, cores(), command)
    check_known(todo, provenance)
    if todo:
        with LocalEngine(cores(), "cpu") as pool:
            run_jobs(todo, results, provenance, pool, screen, faults)


def _rows(runs: dict[tuple[Method, float], list[Run]], results: Path, lower: bool) -> list[dict]:
    """One row for each method and rate, with the mean top-1 over the domains."""
    top1s = {record["hash"]: record["top1"] for record in read_records([ResultsFolder(results).records], faults=[])}
    rows = []
    for (method, rate), some in runs.items():
        top1 = statistics.fmean(top1s[run.hash] for run in some) if all(run.hash in top1s for run in some) else None
        rows.append({"method": method.spec, "lr": rate, "top1": top1, "declared": rate == own_rate(method, lower)})
    return [{**row, "chosen": row["lr"] == chosen(rows, row["method"])} for row in rows]


def _rates(method: Method, lower: bool) -> list[tuple[Method, float]]:
    own = own_rate(method, lower)
    return [(method, float(f"{own * factor:.1g}") if factor != 1 else own) for factor in FACTORS]


def _runs_at(request: Request, data: Data, method: Method, rate: float) -> list[Run]:
    at_rate = replace(request.profile, adapt=replace(request.profile.adapt, lr=rate))
    return plan_runs(replace(request, profile=at_rate), data, [method], (0,))


def chosen(rows: list[dict], method: str) -> float | None:
    """The rate with the largest mean, or the declared one if that is within `NOISE` of it; None if no rate ran."""
    mine = [row for row in rows if row["method"] == method and row["top1"] is not None]
    if not mine:
        return None
    best = max(mine, key=lambda row: row["top1"])
    return next((r["lr"] for r in mine if r["declared"] and r["top1"] >= best["top1"] - NOISE), best["lr"])


def _markdown(rows: list[dict], epochs: int, data: str, profile: str) -> str:
    """A table with one line a method; the chosen rate is bold."""
    lines = ["| Method | a third | | declared | | three times | |", "| --- |" + " ---: |" * 6]
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = sorted((row for row in rows if row["method"] == method), key=lambda row: row["lr"])
        runs = [f"{r['lr']:g} | {_top1(r)}" for r in mine]
        lines.append(f"| {method} | " + " | ".join(runs) + " |")
    text = (
        f"Rates on a held-out fifth of train, mean top-1 over {', '.join(DOMAINS)} "
        f"({data}, profile {profile}, {epochs} epochs, seed 0). "
        f"Bold: the best, or the declared rate where it is within {NOISE:g} points of it. "
        "A dash: the loss became infinite."
    )
    return "\n".join([*lines, "", text, ""])


def _top1(row: dict) -> str:
    if row["top1"] is None:
        return "–"
    return f"**{row['top1']:.1f}**" if row["chosen"] else f"{row['top1']:.1f}"
