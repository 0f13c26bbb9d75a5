"""Scores a submission against the published test labels, or only checks that it is complete."""

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
    """A submission evaluated against labels, by domain: the number of images, and of those with the right category.

    `baseline` is the top-1 in % that S is computed from; it is empty if there is none for these labels.
    """

    images: dict[str, int]
    right: dict[str, int]
    baseline: dict[str, float]

    @property
    def top1(self) -> dict[str, float]:
        """Top-1 of each domain in %."""
        return {name: 100 * count / self.images[name] for name, count in self.right.items()}

    @property
    def mean(self) -> float | None:
        """Mean top-1 in %; None if not all ten domains are there."""
        return fmean(self.top1.values()) if len(self.right) == len(DOMAINS) else None

    @property
    def S(self) -> float | None:
        """The challenge's score; None if a domain or the baseline is missing."""
        return score(self.top1, ceilings(self.baseline))


def print_check(file: Path, release: Path | None = None) -> None:
    """Print that the file has one entry for every test image of `release`, by default of the real one.

    Raises InputError if it does not.
    """
    entries = archive.read(file)
    expected = archive.official_test_images() if release is None else archive.release_test_images(release)
    archive.check(entries, expected)
    of = "the real release" if release is None else release
    count = f"{len(entries):,} entries, one for every test image of {of}"
    Screen().console.print(
        f"{file} is whole: {count} ({len(expected)}/10 domains), each with a category of its domain", markup=False
    )


def print_score(file: Path, labels: Iterable[Path]) -> None:
    """Print top-1 of each domain, mean and S. `labels` as in `read_labels`. Raises InputError."""
    entries = archive.read(file)
    splits = read_labels(labels)
    scored, unofficial = against(entries, splits)
    if not scored.right:
        raise InputError(
            f"{file} has no entry of {', '.join(splits)}, whose labels are given; give the labels that belong to it"
        )
    console = Screen().console
    console.print(f"{file.name}: top-1 in % on the test split", style="bold", markup=False)
    console.print(_table(scored))
    for sentence in _notes(entries, splits, scored, unofficial):
        console.print(sentence, markup=False)


def _notes(entries: Submission, splits: dict[str, Split], scored: Scored, unofficial: list[str]) -> list[str]:
    """Sentences about what is missing in the table."""
    notes = []
    if scored.mean is None:
        notes.append("Mean and S stay empty where not all ten domains are there.")
    if unofficial:
        names = "all ten domains" if len(unofficial) == len(DOMAINS) else ", ".join(unofficial)
        notes.append(
            f"No published fine-tune, no S: they are of the real test split's labels, and those of {names} are not."
        )
    if absent := [name for name in splits if name not in scored.right]:
        notes.append(f"Not in the file: {', '.join(absent)}.")
    if unscored := [d.name for d in DOMAINS.values() if d.name not in splits and len(entries.for_domain(d))]:
        notes.append(f"In the file and without labels, so not scored: {', '.join(unscored)}.")
    return notes


def read_labels(paths: Iterable[Path]) -> dict[str, Split]:
    """The labelled test splits, by domain: files `{domain}_test.json`, folders of them, releases. Raises InputError."""
    splits: dict[str, Split] = {}
    for file in (file for path in paths for file in _label_files(path)):
        if not file.exists():
            raise InputError(
                f"{file} does not exist; name <domain>_test.json, or a folder with such files", field="labels"
            )
        domain = DOMAINS.get(file.name.removesuffix("_test.json"))
        if domain is None:
            raise InputError(f"{file} is named after no domain; name the file <domain>_test.json", field="labels")
        if domain.name in splits:
            raise InputError(f"{domain.name}: its labels are given twice, by {splits[domain.name].source} and {file}")
        split = splits[domain.name] = read_file(file, file.parent, domain, "test")
        if split.labels is None:
            raise InputError(f"{domain.name}: {file} holds no labels; give the published {domain.name}_test.json")
    return {name: splits[name] for name in DOMAINS if name in splits}


def _label_files(path: Path) -> list[Path]:
    """The file itself, or the files of test labels in a folder or release."""
    if not path.is_dir():
        return [path]
    names = [f"{name}_test.json" for name in DOMAINS]
    candidates = [folder / name for name in names for folder in (path, path / "annotations")]
    files = [file for file in candidates if file.is_file()]
    if not files:
        raise InputError(f"{path} holds no <domain>_test.json; put the published test labels there", field="labels")
    return files


def against(entries: Submission, splits: dict[str, Split]) -> tuple[Scored, list[str]]:
    """(The score on the domains of both, the domains whose labels are not those of the real test split).

    Raises InputError as `archive.check` does.
    """
    expected = {name: archive.split_test_images(split) for name, split in splits.items()}
    archive.check(entries, list(expected.values()), some=True)
    by_domain = {name: mine for name, split in splits.items() if len(mine := entries.for_domain(split.domain))}
    unofficial = [name for name, one in expected.items() if not one.official or MARK in splits[name].description]
    scored = Scored(
        images={name: len(mine) for name, mine in by_domain.items()},
        right={name: _right(mine, splits[name]) for name, mine in by_domain.items()},
        baseline={} if unofficial else published_baseline(),
    )
    return scored, unofficial


def _right(entries: Submission, split: Split) -> int:
    """The number of images with the right category; both hold the same image ids."""
    by_id, of_id = np.argsort(entries.images), np.argsort(split.ids)
    truth = category_id(split.domain.k, 0) + split.labels[of_id]
    return int((entries.categories[by_id] == truth).sum())


def _table(scored: Scored) -> Table:
    """A line for each domain, mean and S below; with the published fine-tune if the labels are the real ones."""
    table = Table(header_style="bold")
    baseline = scored.baseline
    for i, head in enumerate(("domain", "images", "right", "top-1", *(["published fine-tune"] if baseline else []))):
        table.add_column(head, justify="right" if i else "left")
    for domain, top1 in scored.top1.items():
        numbers = [top1, baseline[domain]] if baseline else [top1]
        images, right = scored.images[domain], scored.right[domain]
        table.add_row(domain, f"{images:,}", f"{right:,}", *(f"{number:.2f}" for number in numbers))
    table.add_section()
    count = f"{sum(scored.images.values()):,}", f"{sum(scored.right.values()):,}"
    if scored.mean is None:
        table.add_row(f"mean ({len(scored.right)}/10)", *count)
        table.add_row("S")
        return table
    means = [scored.mean, fmean(baseline.values())] if baseline else [scored.mean]
    table.add_row("mean", *count, *(f"{mean:.2f}" for mean in means))
    table.add_row("S", "", "", *([f"{scored.S:.0f}", "2500"] if baseline else []))
    return table
