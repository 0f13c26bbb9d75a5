"""`python -m benchmark sweep`: three rates a method on a held-out part of train, the same budget for all.

The recorded sweep is what the entries' `lr` come from: results/standin/sweep.parquet.
"""

import statistics
from argparse import Namespace
from dataclasses import replace

import pyarrow as pa

from visual_decathlon.benchmark.cli.common import command, ready
from visual_decathlon.benchmark.cli.method_argument import asked_methods
from visual_decathlon.benchmark.cli.request import able
from visual_decathlon.benchmark.config.profiles import profile
from visual_decathlon.benchmark.config.specs import Run
from visual_decathlon.benchmark.records.build import check_known
from visual_decathlon.benchmark.records.folder import ResultsFolder
from visual_decathlon.benchmark.records.provenance import Provenance
from visual_decathlon.benchmark.records.store import read_records, write_table
from visual_decathlon.benchmark.report.screen import Screen
from visual_decathlon.benchmark.runs.data import Data, open_data
from visual_decathlon.benchmark.runs.engines.local import LocalEngine
from visual_decathlon.benchmark.runs.failures import print_failures_at_end
from visual_decathlon.benchmark.runs.finished import move_conflicting_files, readable_records
from visual_decathlon.benchmark.runs.plan import plan_runs
from visual_decathlon.benchmark.runs.request import Request
from visual_decathlon.benchmark.runs.scheduler import run_jobs
from visual_decathlon.datasets.cores import cores
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.datasets.io import write_bytes
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import select_named

FACTORS = (1 / 3, 1.0, 3.0)  # of the rate that the entry declares
DOMAINS = ("aircraft", "dtd", "svhn")  # a natural one, a texture, a glyph
# Points of the mean below which the declared rate stays: the standard error of the difference of two runs
# on 290 images is about 3.5, and seeds come on top.
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
            ("data", pa.string(), "name of the data"),
            ("declared", pa.bool_(), "whether it was the entry's own rate"),
            ("chosen", pa.bool_(), "the best, or the declared one where it is within 4 points of that"),
        )
    ]
)


def run(args: Namespace) -> int:
    """Train what is missing, then write sweep.parquet and sweep.md; 2 where a method has not one rate that ran.

    A rate at which the loss became infinite is a finding and not a fault: its top-1 is null.
    """
    short = profile("standin")
    short = replace(short, adapt=replace(short.adapt, epochs=round(short.adapt.epochs / 3)))
    request = Request(asked_methods(args.method), short, domains=DOMAINS, split="holdout", cache=args.cache)
    ready(args.results, args.cache)
    with print_failures_at_end() as faults:
        rows = _swept(args, request, faults)
        return 2 if any(chosen(rows, row["method"]) is None for row in rows) else 0


def _swept(args: Namespace, request: Request, faults: list[str]) -> list[dict]:
    """Train what is missing and write both files; the rows of the table."""
    short = request.profile
    with Screen() as screen:
        request = able(request, select_named(args.method), screen)
        data = open_data(request, screen.preparing)
        for wide in (m for m in request.methods if m.width_multiplier != 1):
            screen.say(f"left out: {wide.spec} takes the rate of the method that it is wider than")
        if not (swept := [m for m in request.methods if m.width_multiplier == 1]):
            raise InputError(f"METHOD={args.method}: no method is left to sweep; name another")
        runs = {rate: _at(request, data, *rate) for m in swept for rate in _rates(m)}
        finished = readable_records(args.results, screen.say)
        done = set(finished["hash"][finished["stored"]])
        todo = [run for some in runs.values() for run in some if run.hash not in done]
        for line in move_conflicting_files(todo, args.results):
            screen.say(line)
        where = Provenance.here(data, cores(), command())
        check_known(todo, where)
        if todo:
            with LocalEngine(cores(), "cpu") as pool:
                run_jobs(todo, args.results, where, pool, screen, faults)
    results = ResultsFolder(args.results)
    found = {record["hash"]: record["top1"] for record in read_records([results.records], faults=[])}
    rows = []
    for (method, rate), some in runs.items():
        top1 = statistics.fmean(found[run.hash] for run in some) if all(run.hash in found for run in some) else None
        rows.append({"method": method.spec, "lr": rate, "top1": top1, "declared": rate == method.lr})
    rows = [{**row, "chosen": row["lr"] == chosen(rows, row["method"])} for row in rows]
    about = {"domains": " ".join(DOMAINS), "epochs": short.adapt.epochs, "seed": 0, "data": data.name}
    paths = [
        write_table(pa.Table.from_pylist([about | row for row in rows], SCHEMA), results.table("sweep")),
        write_bytes(_markdown(rows, short.adapt.epochs, data.name).encode(), results.table("sweep", "md")),
    ]
    screen.files(paths)
    return rows


def _rates(method: Method) -> list[tuple[Method, float]]:
    return [(method, float(f"{method.lr * factor:.1g}") if factor != 1 else method.lr) for factor in FACTORS]


def _at(request: Request, data: Data, method: Method, rate: float) -> list[Run]:
    at = replace(request.profile, adapt=replace(request.profile.adapt, lr=rate))
    return plan_runs(replace(request, profile=at), data, [method], (0,))


def chosen(rows: list[dict], method: str) -> float | None:
    """The rate of the largest mean, or the declared one where that is within `NOISE` of it; None where none ran."""
    mine = [row for row in rows if row["method"] == method and row["top1"] is not None]
    if not mine:
        return None
    best = max(mine, key=lambda row: row["top1"])
    return next((r["lr"] for r in mine if r["declared"] and r["top1"] >= best["top1"] - NOISE), best["lr"])


def _markdown(rows: list[dict], epochs: int, data: str) -> str:
    """One line a method; the chosen rate in bold."""
    lines = ["| Method | a third | | declared | | three times | |", "| --- |" + " ---: |" * 6]
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = sorted((row for row in rows if row["method"] == method), key=lambda row: row["lr"])
        runs = [f"{r['lr']:g} | {_top1(r)}" for r in mine]
        lines.append(f"| {method} | " + " | ".join(runs) + " |")
    text = (
        f"Rates on a held-out fifth of train, mean top-1 over {', '.join(DOMAINS)} ({data}, {epochs} epochs, seed 0). "
        f"Bold: the best, or the declared rate where it is within {NOISE:g} points of it. "
        "A dash: the loss became infinite."
    )
    return "\n".join([*lines, "", text, ""])


def _top1(row: dict) -> str:
    if row["top1"] is None:
        return "–"
    return f"**{row['top1']:.1f}**" if row["chosen"] else f"{row['top1']:.1f}"
