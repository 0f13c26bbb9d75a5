"""`python -m benchmark submit`: the predictions of a method's test runs as a submission to the challenge."""

from argparse import Namespace
from pathlib import Path

import numpy as np
import pandas as pd
from rich.table import Table

from visual_decathlon.benchmark.cli.method_argument import asked_methods
from visual_decathlon.benchmark.records.files import Fault, report_left_out
from visual_decathlon.benchmark.records.folder import ResultsFolder
from visual_decathlon.benchmark.records.predictions import read_predictions
from visual_decathlon.benchmark.records.store import check_source, last_requested, read_records
from visual_decathlon.benchmark.report.screen import Screen
from visual_decathlon.benchmark.report.sheets import described
from visual_decathlon.benchmark.submission import archive
from visual_decathlon.benchmark.submission.archive import Submission
from visual_decathlon.benchmark.tables.grouping import GROUP, current
from visual_decathlon.datasets.catalogue import DOMAINS
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.method import Method


def run(args: Namespace) -> int:
    """Find the runs, check their predictions against the release's test images, write the ZIP."""
    methods = asked_methods(args.method)
    if len(methods) != 1:
        raise InputError(f"METHOD={args.method} names {len(methods)} methods; a submission is of one")
    source = args.source or args.results
    check_source(args.source)
    expected = archive.official_test_images() if args.data is None else archive.release_test_images(args.data)
    names = [one.domain.name for one in expected]
    runs = _runs(source, methods[0], args.profile, args.seed, names)
    entries = _entries(source, methods[0], runs)
    archive.check(entries, expected)
    out = args.out or ResultsFolder(args.results).submission
    archive.write(entries, out)
    screen = Screen()
    first = next(iter(runs.values()))
    title = f"{described(first)}: {methods[0].spec}, seed {first['seed']}"
    screen.console.print(title, style="bold", markup=False)
    screen.console.print(_shown(runs))
    if len(expected) < len(DOMAINS) or not all(one.official for one in expected):
        screen.console.print(
            f"No submission to the challenge: {args.data} is not the whole real release.", markup=False
        )
    screen.files([out])
    return 0


def _runs(source: Path, method: Method, profile: str | None, seed: int | None, names: list[str]) -> dict[str, dict]:
    """The current record of each domain in `names`; InputError where one is not there, or they are of several kinds."""
    faults: list[Fault] = []
    records = [
        r
        for r in read_records([ResultsFolder(source).records], faults)
        if r["split"] == "test" and r["limit"] is None and r["domain"] in names
    ]
    report_left_out(faults)
    counts = set(current(pd.DataFrame(records))[0]["hash"]) if records else set()
    records = [r for r in records if r["hash"] in counts]
    found = [r for r in records if r["method_full"] == method.full_spec and profile in (None, r["profile"])]
    if seed is None:
        seed = min((r["seed"] for r in found), default=0)
    found = [r for r in found if r["seed"] == seed]
    for name in GROUP:
        if len({str(r[name]) for r in found}) > 1:
            mend = (
                "name one with PROFILE=" if name == "profile" else "keep one kind in a folder and name that with FROM="
            )
            raise InputError(
                f"{source} has test runs of {method.spec}, seed {seed}, that differ in `{name}`, and a submission "
                f"is of one kind; {mend}"
            )
    runs = {r["domain"]: r for r in sorted(found, key=last_requested)}
    bench = f'`make bench METHOD="{method.spec}" SPLIT=test PREDICTIONS=1`'
    if lacking := [name for name in names if name not in runs]:
        there = ", ".join(sorted({r["method"] for r in records})) or "none"
        raise InputError(
            f"{source} has no test run of {method.spec}, seed {seed}, on {', '.join(lacking)} (methods with test runs: "
            f"{there}); run {bench} with the DATA= and settings that are wanted"
        )
    if lacking := [n for n in names if not ResultsFolder(source).predictions(runs[n]["hash"]).is_file()]:
        raise InputError(
            f"{source} has test runs of {method.spec} without their predictions ({', '.join(lacking)}); run {bench} as "
            "before: what is trained is only evaluated"
        )
    return {name: runs[name] for name in names}


def _entries(source: Path, method: Method, runs: dict[str, dict]) -> Submission:
    pairs = [read_predictions(ResultsFolder(source).predictions(r["hash"])) for r in runs.values()]
    images, categories = (np.concatenate(column) for column in zip(*pairs, strict=True))
    return Submission(f"the submission of {method.spec} from {source}", images, categories)


def _shown(runs: dict[str, dict]) -> Table:
    out = Table(header_style="bold")
    for i, head in enumerate(("domain", "images", "top-1 %", "run")):
        out.add_column(head, justify="right" if i in (1, 2) else "left")
    for name, r in runs.items():
        top1 = "no labels" if r["top1"] is None else f"{r['top1']:.2f}"
        out.add_row(name, f"{r['eval_images']:,}", top1, r["hash"])
    out.add_section()
    out.add_row(f"{len(runs)}/10", f"{sum(r['eval_images'] for r in runs.values()):,}", "", "")
    return out
