"""Packs the predictions of a method's test runs as a submission to the challenge."""

from pathlib import Path

import numpy as np
import pandas as pd
from rich.table import Table

from visual_decathlon.benchmark.records.files import Fault, report_left_out
from visual_decathlon.benchmark.records.folder import ResultsFolder
from visual_decathlon.benchmark.records.predictions import read_predictions
from visual_decathlon.benchmark.records.store import last_requested, read_records
from visual_decathlon.benchmark.report.screen import Screen
from visual_decathlon.benchmark.report.sheets import described
from visual_decathlon.benchmark.submission import archive
from visual_decathlon.benchmark.submission.archive import Submission
from visual_decathlon.benchmark.tables.grouping import GROUP, current
from visual_decathlon.datasets.catalogue import DOMAINS
from visual_decathlon.datasets.errors import InputError, option
from visual_decathlon.methods.method import Method


def pack(
    source: Path,
    method: Method,
    out: Path,
    *,
    release: Path | None = None,
    profile: str | None = None,
    seed: int | None = None,
) -> None:
    """Write the predictions of the test runs in `source` as a ZIP to `out`, and print its domains.

    They are checked against the test images of `release`, by default of the real one. `profile` and `seed` select among
    several runs of the method; the default seed is the smallest. Raises InputError if a run, or its predictions, is
    missing.
    """
    expected = archive.official_test_images() if release is None else archive.release_test_images(release)
    runs = _runs(source, method, profile, seed, [one.domain.name for one in expected])
    entries = _entries(source, method, runs)
    archive.check(entries, expected)
    archive.write(entries, out)
    screen = Screen()
    first = next(iter(runs.values()))
    title = f"{described(first)}: {method.spec}, seed {first['seed']}"
    screen.console.print(title, style="bold", markup=False)
    screen.console.print(_table(runs))
    if len(expected) < len(DOMAINS) or not all(one.official for one in expected):
        screen.console.print(f"No submission to the challenge: {release} is not the whole real release.", markup=False)
    screen.files([out])


def _runs(source: Path, method: Method, profile: str | None, seed: int | None, names: list[str]) -> dict[str, dict]:
    """The current record of each domain in `names`. Raises InputError if one is missing, or their settings differ."""
    records = _test_records(source, names)
    matching = [r for r in records if r["method_full"] == method.full_spec and profile in (None, r["profile"])]
    if seed is None:
        seed = min((r["seed"] for r in matching), default=0)
    matching = [r for r in matching if r["seed"] == seed]
    for name in GROUP:
        if len({str(r[name]) for r in matching}) > 1:
            remedy = (
                f"name one with {option('profile')}"
                if name == "profile"
                else f"keep one kind in a folder and name that with {option('source')}"
            )
            raise InputError(
                f"{source} has test runs of {method.spec}, seed {seed}, that differ in `{name}`, and a submission "
                f"is of one kind; {remedy}"
            )
    runs = {r["domain"]: r for r in sorted(matching, key=last_requested)}
    bench = f'`make bench METHOD="{method.spec}" SPLIT=test PREDICTIONS=1`'
    if lacking := [name for name in names if name not in runs]:
        others = ", ".join(sorted({r["method"] for r in records})) or "none"
        raise InputError(
            f"{source} has no test run of {method.spec}, seed {seed}, on {', '.join(lacking)} (methods with test runs: "
            f"{others}); run {bench} with the {option('data')} and settings that are wanted"
        )
    if lacking := [n for n in names if not ResultsFolder(source).predictions(runs[n]["hash"]).is_file()]:
        raise InputError(
            f"{source} has test runs of {method.spec} without their predictions ({', '.join(lacking)}); run {bench} as "
            "before: what is trained is only evaluated"
        )
    return {name: runs[name] for name in names}


def _test_records(source: Path, names: list[str]) -> list[dict]:
    """The current records of whole test splits of these domains; prints which files could not be read."""
    faults: list[Fault] = []
    records = [
        r
        for r in read_records([ResultsFolder(source).records], faults)
        if r["split"] == "test" and r["limit"] is None and r["domain"] in names
    ]
    report_left_out(faults)
    newest = set(current(pd.DataFrame(records))[0]["hash"]) if records else set()
    return [r for r in records if r["hash"] in newest]


def _entries(source: Path, method: Method, runs: dict[str, dict]) -> Submission:
    pairs = [read_predictions(ResultsFolder(source).predictions(r["hash"])) for r in runs.values()]
    images, categories = (np.concatenate(column) for column in zip(*pairs, strict=True))
    return Submission(f"the submission of {method.spec} from {source}", images, categories)


def _table(runs: dict[str, dict]) -> Table:
    table = Table(header_style="bold")
    for i, head in enumerate(("domain", "images", "top-1 %", "run")):
        table.add_column(head, justify="right" if i in (1, 2) else "left")
    for name, r in runs.items():
        top1 = "no labels" if r["top1"] is None else f"{r['top1']:.2f}"
        table.add_row(name, f"{r['eval_images']:,}", top1, r["hash"])
    table.add_section()
    table.add_row(f"{len(runs)}/10", f"{sum(r['eval_images'] for r in runs.values()):,}", "", "")
    return table
