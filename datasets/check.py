"""Checks a release on disk: reads every annotation file, decodes every image, and lists all faults and notes.

A fault is something that the benchmark would refuse; a note is something that a user should know. The check continues
after a fault.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np

from visual_decathlon.datasets.annotations import Split, annotation_path, domains_in, read_split
from visual_decathlon.datasets.catalogue import DOMAINS, SPLITS, Domain, category_id, image_id
from visual_decathlon.datasets.cores import cores
from visual_decathlon.datasets.decode import load_bytes, read_bytes, to_rgb
from visual_decathlon.datasets.duplicates import HashedImages, duplicates_within, in_two_classes, overlap
from visual_decathlon.datasets.errors import InputError, option
from visual_decathlon.datasets.file_names import files_below, likely_file
from visual_decathlon.datasets.own_domain import all_images, read_own

Progress = Callable[[str, int, int], None]
"""`progress(task, done, total)`: called often, from one thread only."""

_BATCH = 64  # images per task of a thread: single 72-pixel images are too quick to be worth a task
_SHOWN = 10  # duplicates that are named
_THREADS = min(16, 2 * cores())  # two per core: one reads while the other decodes


@dataclass
class Row:
    """The result of checking one split.

    `images` counts the images that can be decoded; `classes` the classes that have images (the named ones, if the
    release withholds labels). `official` is the catalogue's number of images and classes, None for a user's own domain;
    `sizes` are the (smallest, largest) width and height in pixels.
    """

    domain: str
    split: str
    official: tuple[int, int] | None = None
    images: int = 0
    classes: int = 0
    sizes: tuple[tuple[int, int], tuple[int, int]] | None = None
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def check_release(root: Path | None, progress: Progress, own: Sequence[tuple[str, Path]] = ()) -> list[Row]:
    """Checks every domain and split with annotations below `root`, in the order of the table, then the own domains.

    A last row with domain "other" is added only if `root` contains files that belong to no domain. Raises InputError
    if `root` is not a release.
    """
    rows: list[Row] = []
    with ThreadPoolExecutor(_THREADS) as pool:
        for domain in DOMAINS.values() if root is not None else ():
            rows += _check_domain(root, domain, pool, progress)
        if not rows and root is not None:
            domains_in(root)  # raises an error that explains why this is not a release
        for name, folder in own:
            rows += _check_own(name, folder, pool, progress)
    strays = [] if root is None else _strays(root)
    return rows + ([Row("other", "", notes=strays)] if strays else [])


def _check_own(name: str, root: Path, pool: ThreadPoolExecutor, progress: Progress) -> list[Row]:
    try:
        splits, faults = read_own(name, root), []
    except InputError as error:  # its images are checked nevertheless, so that all faults are in one list
        splits, faults = all_images(name, root), [str(error)]
    if not splits:
        return [Row(name, "-", faults=faults)]
    rows = [Row(name, split.name, classes=0 if faults else len(np.unique(split.labels))) for split in splits]
    hashed = [_check_images(split, row, pool, progress) for split, row in zip(splits, rows, strict=True)]
    rows[0].faults[:0] = faults
    rows[0].notes[:0] = splits[0].notes
    if not faults:
        _check_duplicates(name, hashed, rows[-1])
    return rows


def _check_duplicates(domain: str, hashed: list[HashedImages], row: Row) -> None:
    for i, split in enumerate(hashed):
        row.notes += duplicates_within(domain, split, _SHOWN)
        if i:
            row.notes += overlap(domain, hashed[:i], split, _SHOWN)
    row.notes += in_two_classes(domain, hashed, _SHOWN)


def _check_domain(root: Path, domain: Domain, pool: ThreadPoolExecutor, progress: Progress) -> list[Row]:
    rows: dict[str, Row] = {}
    splits: dict[str, Split] = {}
    hashed: list[HashedImages] = []
    for position, name in enumerate(SPLITS):
        if annotation_path(root, domain.name, name) is None:
            continue
        row = rows[name] = Row(domain.name, name, (domain.counts[position], domain.classes))
        try:
            splits[name] = split = read_split(root, domain, name)
        except InputError as error:
            row.faults.append(str(error))
            continue
        named = sum(bool(title) for title in split.classes)
        row.classes = named if split.labels is None else len(np.unique(split.labels))
        hashed.append(_check_images(split, row, pool, progress))
        _check_ids(split, row)
    _compare(splits, rows)
    if hashed:
        _check_duplicates(domain.name, hashed, rows[hashed[-1].name])
    if rows and "train" not in rows:
        missing = root / "annotations" / f"{domain.name}_train.json"
        first = next(iter(rows.values()))
        first.faults.append(
            f"{domain.name}: {missing} is missing while other splits are there; restore it from the devkit"
        )
    if rows and len(rows) == len(splits):  # else the files of the unreadable split would all look unlisted
        _check_unlisted(root, domain, splits, next(reversed(rows.values())))
    return list(rows.values())


# --- images -------------------------------------------------------------------------------------


_Fact = tuple[int, int, str, bytes]
"""width, height, mode and the sha256 of the file"""


def _examine(root: Path, domain: str, files: list[str]) -> list[_Fact | str]:
    """For each file its facts, or a sentence about its fault."""
    facts: list[_Fact | str] = []
    for file in files:
        path = root / file
        try:
            data = read_bytes(path, domain)
            image = load_bytes(data, path, domain)
            to_rgb(image, path, domain)
            facts.append((*image.size, image.mode, sha256(data).digest()))
        except InputError as error:
            facts.append(str(error))
    return facts


def _facts(split: Split, pool: ThreadPoolExecutor) -> Iterator[list[_Fact | str]]:
    """Yields the facts of a split's images in order, one batch at a time; the number of batches in work is bounded."""
    window = _BATCH * _THREADS * 4
    for start in range(0, len(split), window):
        files = split.files[start : start + window]
        batches = [files[i : i + _BATCH] for i in range(0, len(files), _BATCH)]
        yield from pool.map(partial(_examine, split.root, split.domain.name), batches)


def _check_images(split: Split, row: Row, pool: ThreadPoolExecutor, progress: Progress) -> HashedImages:
    """Checks every image and completes `row`; returns the hashes of those that can be decoded."""
    name = f"{row.domain} {row.split}"
    decoded, contents = np.zeros(len(split), bool), np.zeros((len(split), 32), np.uint8)
    if (fault := _all_missing(split)) is not None:
        row.faults.append(fault)
        progress(name, len(split), len(split))
        return _hashed(split, decoded, contents)
    oddities: dict[str, tuple[int, str]] = {}  # kind -> number of images, and the first of them
    widths, heights = [10**9, 0], [10**9, 0]
    done = 0
    progress(name, 0, len(split))
    for batch in _facts(split, pool):
        for i, fact in enumerate(batch, start=done):
            if isinstance(fact, str):
                row.faults.append(fact)
                continue
            width, height, mode, digest = fact
            decoded[i], contents[i] = True, np.frombuffer(digest, np.uint8)
            widths[:] = min(widths[0], width), max(widths[1], width)
            heights[:] = min(heights[0], height), max(heights[1], height)
            for kind in _oddities(split, i, width, height, mode):
                count, first = oddities.get(kind, (0, f"{split.files[i]}, {width}×{height}"))
                oddities[kind] = (count + 1, first)
        done += len(batch)
        progress(name, done, len(split))
    row.images = int(decoded.sum())
    if row.images:
        row.sizes = ((widths[0], widths[1]), (heights[0], heights[1]))
    row.notes += [f"{name}: {count:,} image(s) {kind} (first: {first})" for kind, (count, first) in oddities.items()]
    return _hashed(split, decoded, contents)


def _hashed(split: Split, decoded: np.ndarray, contents: np.ndarray) -> HashedImages:
    files = [split.files[i] for i in np.flatnonzero(decoded)]
    return HashedImages(split.name, files, contents[decoded], None if split.labels is None else split.labels[decoded])


def _oddities(split: Split, i: int, width: int, height: int, mode: str) -> Iterator[str]:
    """Yields everything unusual about one image, as the end of a sentence."""
    if split.domain.official and min(width, height) not in (72, 73):
        yield "have a shorter side other than 72 or 73 pixels"
    if mode not in ("RGB", "L"):
        yield f"are of mode {mode}, read as RGB"
    stated = (width, height) if split.sizes is None else split.sizes[i]
    if any(real != number and number == number for real, number in zip((width, height), stated, strict=True)):
        yield f"have another size than {split.source.name} gives"  # only the image's real size is used


def _all_missing(split: Split) -> str | None:
    """A sentence if no image of the split exists: the domain was not unpacked, or paths are written differently."""
    if not split.domain.official or any(os.path.lexists(split.root / file) for file in split.files):
        return None
    name, first = split.domain.name, split.files[0]
    try:
        unpacked = any((split.root / folder).is_dir() for folder in dict.fromkeys(map(os.path.dirname, split.files)))
    except OSError as error:
        return f"{name}: {error.filename} cannot be read ({error.strerror}); check the name and its permissions"
    if (suggestion := likely_file(split.root, split.domain, split.name, first)) is not None:
        path, sure = suggestion
        remedy = (
            f"write it as {path!r}, and the others in the same way"
            if sure
            else f"write the paths as they are: {path!r}, …"
        )
        return (
            f"{name}: none of the {len(split):,} images that {split.source} lists is there: its `file_name` {first!r} "
            f"leads to no file below {split.root}; {remedy}"
        )
    if unpacked:
        return None
    tar = "decathlon-1.0-data-imagenet.tar" if name == "imagenet12" else f"{name}.tar of decathlon-1.0-data.tar.gz"
    return (
        f"{name}: none of the {len(split):,} images that {split.source} lists is there; unpack {tar} below "
        f"{split.root / 'data'} or leave the domain out with {option('domains')}"
    )


# --- ids, classes, files ------------------------------------------------------------------------


def _check_ids(split: Split, row: Row) -> None:
    k, position = split.domain.k, SPLITS.index(split.name)
    if (foreign := split.ids[split.ids // 10**7 != k]).size:
        row.notes.append(
            f"{row.domain} {row.split}: {foreign.size:,} image id(s) are not of domain number {k} (first: {foreign[0]})"
        )
    elif len(split) == split.domain.counts[position]:
        first = image_id(k, split.name, sum(split.domain.counts[:position]) + 1)
        if not np.array_equal(np.sort(split.ids), np.arange(first, first + len(split))):
            row.notes.append(f"{row.domain} {row.split}: the image ids do not run on from {first} as the official do")


def _compare(splits: dict[str, Split], rows: dict[str, Row]) -> None:
    """Compares the splits of a domain: classes that train lacks, and ids and files that two splits share."""
    seen: dict[str, str] = {}  # file -> the split that listed it first
    earlier: list[Split] = []
    for name, split in splits.items():
        row, domain = rows[name], split.domain.name
        twice = [file for file in split.files if seen.setdefault(file, name) != name]
        twice += _repeated(split.files)
        if twice:
            row.notes.append(f"{domain} {name}: {len(twice):,} file(s) are listed twice (first: {twice[0]})")
        for other in earlier:
            if len(shared := np.intersect1d(split.ids, other.ids)):
                row.faults.append(
                    f"{domain}: {split.source} repeats {len(shared):,} image id(s) of {other.source.name} "
                    f"(first: {shared[0]}); restore both from the devkit"
                )
        earlier.append(split)
        train = splits.get("train")
        if train is None or split is train:
            continue
        row.faults += [
            f"{domain}: {split.source} holds the class {split.classes[label]!r} (category id "
            f"{category_id(split.domain.k, int(label))}), which train lacks; remove it there or add it to train"
            for label in _lacking(split, train)
        ]
        shared_names = list(zip(split.classes, train.classes, strict=False))
        if differ := [pair for pair in shared_names if all(pair) and pair[0] != pair[1]]:
            row.notes.append(
                f"{domain} {name}: {len(differ):,} class name(s) differ from train's (first: {differ[0][0]!r}, "
                f"there {differ[0][1]!r})"
            )


def _lacking(split: Split, train: Split) -> np.ndarray:
    """Class indices with an image in `split` (a name, if labels are withheld), but none in train."""
    here = np.flatnonzero([bool(name) for name in split.classes]) if split.labels is None else split.labels
    return np.setdiff1d(here, train.labels)


def _repeated(files: list[str]) -> list[str]:
    seen: set[str] = set()
    return [file for file in files if file in seen or seen.add(file)] if len(set(files)) < len(files) else []


def _check_unlisted(root: Path, domain: Domain, splits: dict[str, Split], row: Row) -> None:
    listed = {file for split in splits.values() for file in split.files}
    unlisted = [name for name in files_below(root, f"data/{domain.name}") if name not in listed]
    if unlisted:
        row.notes.append(
            f"{domain.name}: {len(unlisted):,} file(s) in data/{domain.name} are listed by no annotation "
            f"(first: {min(unlisted)})"
        )


def _strays(root: Path) -> list[str]:
    """Notes on entries of data/ and annotations/ that belong to no domain with annotations in this release."""
    known = {d.name for d in DOMAINS.values() if any(annotation_path(root, d.name, split) for split in SPLITS)}
    wanted = {f"{name}_{split}.json" for name in known for split in (*SPLITS, "test_stripped")}
    notes = []
    for folder, fine in (("data", known), ("annotations", wanted)):
        if not (root / folder).is_dir():
            continue
        try:
            strays = sorted(name for name in os.listdir(root / folder) if name not in fine)
        except OSError as error:
            raise InputError(f"{root / folder} cannot be read ({error.strerror}); check its permissions") from None
        if strays:
            notes.append(f"{folder}/ holds {len(strays):,} name(s) that no domain uses (first: {folder}/{strays[0]})")
    return notes
