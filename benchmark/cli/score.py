"""`python -m benchmark score`: a submission, ours or anybody's, against the published test labels; or only checked."""

from argparse import Namespace
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
from rich.table import Table

from visual_decathlon.benchmark.report.screen import Screen
from visual_decathlon.benchmark.submission import archive
from visual_decathlon.benchmark.submission.archive import Submission
from visual_decathlon.benchmark.tables.published import published_baseline
from visual_decathlon.benchmark.tables.score import ceilings, score
from visual_decathlon.datasets.annotations import Split, read_file
from visual_decathlon.datasets.catalogue import DOMAINS, category_id
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.datasets.standin import MARK


@dataclass(frozen=True)
class Scored:
    """A submission against labels, by domain: images, and how many of them are right.

    `baseline` has the top-1 in % that S stands on; it is empty where there is none.
    """

    images: dict[str, int]
    right: dict[str, int]
    baseline: dict[str, float]

    @property
    def top1(self) -> dict[str, float]:
        """In %."""
        return {name: 100 * count / self.images[name] for name, count in self.right.items()}

    @property
    def mean(self) -> float | None:
        return fmean(self.top1.values()) if len(self.right) == len(DOMAINS) else None

    @property
    def S(self) -> float | None:
        return score(self.top1, ceilings(self.baseline))


def run(args: Namespace) -> int:
    """With labels: prints top-1 of each domain, mean and S. Else: says that the file is whole. Raises InputError."""
    if args.file.is_dir():
        raise InputError(f"FILE={args.file} is a folder; name a ZIP with results.json in it, or that file")
    entries = archive.read(args.file)
    screen = Screen()

    def say(text: str) -> None:
        screen.console.print(text, markup=False)

    if not args.labels:
        expected = archive.official_test_images() if args.data is None else archive.release_test_images(args.data)
        archive.check(entries, expected)
        of = "the real release" if args.data is None else args.data
        count = f"{len(entries):,} entries, one for every test image of {of}"
        say(f"{args.file} is whole: {count} ({len(expected)}/10 domains), each with a category of its domain")
        return 0
    splits = read_labels(args.labels)
    scored, other = against(entries, splits)
    if not scored.right:
        raise InputError(
            f"{args.file} has no entry of {', '.join(splits)}, whose labels are given; give those it is of"
        )
    screen.console.print(f"{args.file.name}: top-1 in % on the test split", style="bold", markup=False)
    screen.console.print(_shown(scored))
    if scored.mean is None:
        say("Mean and S stay empty where not all ten domains are there.")
    if other:
        names = "all ten domains" if len(other) == len(DOMAINS) else ", ".join(other)
        say(f"No published fine-tune, no S: they are of the real test split's labels, and those of {names} are not.")
    if absent := [name for name in splits if name not in scored.right]:
        say(f"Not in the file: {', '.join(absent)}.")
    if unscored := [d.name for d in DOMAINS.values() if d.name not in splits and len(entries.for_domain(d))]:
        say(f"In the file and without labels, so not scored: {', '.join(unscored)}.")
    return 0


def read_labels(paths: Iterable[Path]) -> dict[str, Split]:
    """The labelled test splits, by domain: files `{domain}_test.json`, folders of them, releases. Raises InputError."""
    found: dict[str, Split] = {}
    for path in paths:
        files = [path]
        if path.is_dir():
            names = [f"{name}_test.json" for name in DOMAINS]
            places = [folder / name for name in names for folder in (path, path / "annotations")]
            files = [place for place in places if place.is_file()]
            if not files:
                raise InputError(f"LABELS={path} holds no <domain>_test.json; put the published test labels there")
        for file in files:
            if not file.exists():
                raise InputError(f"LABELS={file} does not exist; name <domain>_test.json, or a folder with such files")
            domain = DOMAINS.get(file.name.removesuffix("_test.json"))
            if domain is None:
                raise InputError(f"LABELS={file} is named after no domain; name the file <domain>_test.json")
            if domain.name in found:
                raise InputError(
                    f"{domain.name}: its labels are given twice, by {found[domain.name].source} and {file}"
                )
            split = found[domain.name] = read_file(file, file.parent, domain, "test")
            if split.labels is None:
                raise InputError(f"{domain.name}: {file} holds no labels; give the published {domain.name}_test.json")
    return {name: found[name] for name in DOMAINS if name in found}


def against(entries: Submission, splits: dict[str, Split]) -> tuple[Scored, list[str]]:
    """The domains of which both have something, and those whose labels are not the real test split's.

    Raises InputError as `submission.check`.
    """
    expected = {name: archive.split_test_images(split) for name, split in splits.items()}
    archive.check(entries, list(expected.values()), some=True)
    by_domain = {name: mine for name, split in splits.items() if len(mine := entries.for_domain(split.domain))}
    other = [name for name, one in expected.items() if not one.official or MARK in splits[name].description]
    scored = Scored(
        images={name: len(mine) for name, mine in by_domain.items()},
        right={name: _right(mine, splits[name]) for name, mine in by_domain.items()},
        baseline={} if other else published_baseline(),
    )
    return scored, other


def _right(entries: Submission, split: Split) -> int:
    """How many images have their category; both hold the same ids."""
    by_id, of_id = np.argsort(entries.images), np.argsort(split.ids)
    truth = category_id(split.domain.k, 0) + split.labels[of_id]
    return int((entries.categories[by_id] == truth).sum())


def _shown(scored: Scored) -> Table:
    """A line a domain, mean and S below; the published fine-tune beside it where it may stand there."""
    out = Table(header_style="bold")
    beside = scored.baseline
    for i, head in enumerate(("domain", "images", "right", "top-1", *(["published fine-tune"] if beside else []))):
        out.add_column(head, justify="right" if i else "left")
    for domain, top1 in scored.top1.items():
        numbers = [top1, beside[domain]] if beside else [top1]
        images, right = scored.images[domain], scored.right[domain]
        out.add_row(domain, f"{images:,}", f"{right:,}", *(f"{number:.2f}" for number in numbers))
    out.add_section()
    count = f"{sum(scored.images.values()):,}", f"{sum(scored.right.values()):,}"
    if scored.mean is None:
        out.add_row(f"mean ({len(scored.right)}/10)", *count)
        out.add_row("S")
        return out
    means = [scored.mean, fmean(beside.values())] if beside else [scored.mean]
    out.add_row("mean", *count, *(f"{mean:.2f}" for mean in means))
    out.add_row("S", "", "", *([f"{scored.S:.0f}", "2500"] if beside else []))
    return out
