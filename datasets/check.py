"""Checks a release on disk: reads every annotation, decodes every image, and lists all it finds.

A fault is what the benchmark would refuse; a note is what a user should know. The check never
stops at a fault.
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
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.datasets.file_names import files_below, likely_file
from visual_decathlon.datasets.own_domain import all_images, read_own

Progress = Callable[[str, int, int], None]
"""`progress(what, done, total)`: called often, from one thread only."""

_BATCH = 64  # images a thread takes at a time: 72-pixel images are too quick to hand over singly
_SHOWN = 10  # repeated images that are named
_THREADS = min(16, 2 * cores())  # two for a core: one reads while the other decodes


@dataclass
class Row:
    """What the check found of one split.

    `images` are those that decode; `classes` those that have images (those named, where the
    release keeps the labels back). `official` holds the catalogue's images and classes, None for a
    domain of one's own; `sizes` the (least, greatest) width and height in pixels.
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
    """Check every domain and split that the release `root` holds annotations of, in table order, then the own domains.

    A last row of domain "other" appears only where `root` holds what belongs to no domain. Raises
    InputError where `root` is no release at all.
    """
    rows: list[Row] = []
    with ThreadPoolExecutor(_THREADS) as pool:
        for domain in DOMAINS.values() if root is not None else ():
            rows += _check_domain(root, domain, pool, progress)
        if not rows and root is not None:
            domains_in(root)  # says in a sentence why this is no release
        for name, folder in own:
            rows += _check_own(name, folder, pool, progress)
    strays = [] if root is None else _strays(root)
    return rows + ([Row("other", "", notes=strays)] if strays else [])


def _check_own(name: str, root: Path, pool: ThreadPoolExecutor, progress: Progress) -> list[Row]:
    try:
        splits, faults = read_own(name, root), []
    except InputError as error:  # its images are looked at all the same: all faults come in one list
        splits, faults = all_images(name, root), [str(error)]
    if not splits:
        return [Row(name, "-", faults=faults)]
    rows = [Row(name, split.name, classes=0 if faults else len(np.unique(split.labels))) for split in splits]
    listed = [_check_images(split, row, pool, progress) for split, row in zip(splits, rows, strict=True)]
    rows[0].faults[:0] = faults
    rows[0].notes[:0] = splits[0].notes
    if not faults:
        _check_repeats(name, listed, rows[-1])
    return rows


def _check_repeats(domain: str, listed: list[HashedImages], row: Row) -> None:
    for i, split in enumerate(listed):
        row.notes += duplicates_within(domain, split, _SHOWN)
        if i:
            row.notes += overlap(domain, listed[:i], split, _SHOWN)
    row.notes += in_two_classes(domain, listed, _SHOWN)


def _check_domain(root: Path, domain: Domain, pool: ThreadPoolExecutor, progress: Progress) -> list[Row]:
    rows: dict[str, Row] = {}
    splits: dict[str, Split] = {}
    listed: list[HashedImages] = []
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
        listed.append(_check_images(split, row, pool, progress))
        _check_ids(split, row)
    _compare(splits, rows)
    if listed:
        _check_repeats(domain.name, listed, rows[listed[-1].name])
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
    """The facts of each file, or the sentence of its fault."""
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
    """The facts of a split's images in order, a batch at a time; few batches are in flight at once."""
    window = _BATCH * _THREADS * 4
    for start in range(0, len(split), window):
        files = split.files[start : start + window]
        batches = [files[i : i + _BATCH] for i in range(0, len(files), _BATCH)]
        yield from pool.map(partial(_examine, split.root, split.domain.name), batches)


def _check_images(split: Split, row: Row, pool: ThreadPoolExecutor, progress: Progress) -> HashedImages:
    """Look at every image; what tells whether any is repeated, of those that decode."""
    what = f"{row.domain} {row.split}"
    kept, contents = np.zeros(len(split), bool), np.zeros((len(split), 32), np.uint8)
    if (lost := _all_missing(split)) is not None:
        row.faults.append(lost)
        progress(what, len(split), len(split))
        return _listed(split, kept, contents)
    odd: dict[str, tuple[int, str]] = {}  # kind of oddity -> how many show it, and the first
    widths, heights = [10**9, 0], [10**9, 0]
    done = 0
    progress(what, 0, len(split))
    for batch in _facts(split, pool):
        for i, fact in enumerate(batch, start=done):
            if isinstance(fact, str):
                row.faults.append(fact)
                continue
            width, height, mode, digest = fact
            kept[i], contents[i] = True, np.frombuffer(digest, np.uint8)
            widths[:] = min(widths[0], width), max(widths[1], width)
            heights[:] = min(heights[0], height), max(heights[1], height)
            for kind in _oddities(split, i, width, height, mode):
                count, first = odd.get(kind, (0, f"{split.files[i]}, {width}×{height}"))
                odd[kind] = (count + 1, first)
        done += len(batch)
        progress(what, done, len(split))
    row.images = int(kept.sum())
    if row.images:
        row.sizes = ((widths[0], widths[1]), (heights[0], heights[1]))
    row.notes += [f"{what}: {count:,} image(s) {kind} (first: {first})" for kind, (count, first) in odd.items()]
    return _listed(split, kept, contents)


def _listed(split: Split, kept: np.ndarray, contents: np.ndarray) -> HashedImages:
    files = [split.files[i] for i in np.flatnonzero(kept)]
    return HashedImages(split.name, files, contents[kept], None if split.labels is None else split.labels[kept])


def _oddities(split: Split, i: int, width: int, height: int, mode: str) -> Iterator[str]:
    if split.domain.official and min(width, height) not in (72, 73):
        yield "have a shorter side other than 72 or 73 pixels"
    if mode not in ("RGB", "L"):
        yield f"are of mode {mode}, read as RGB"
    stated = (width, height) if split.sizes is None else split.sizes[i]
    if any(there != said and said == said for there, said in zip((width, height), stated, strict=True)):
        yield f"have another size than {split.source.name} says"  # which decides nothing


def _all_missing(split: Split) -> str | None:
    """One sentence where no image of the split is there: a domain not unpacked, or names written otherwise."""
    if not split.domain.official or any(os.path.lexists(split.root / file) for file in split.files):
        return None
    name, first = split.domain.name, split.files[0]
    try:
        unpacked = any((split.root / folder).is_dir() for folder in dict.fromkeys(map(os.path.dirname, split.files)))
    except OSError as error:
        return f"{name}: {error.filename} cannot be read ({error.strerror}); check the name and its permissions"
    if (like := likely_file(split.root, split.domain, split.name, first)) is not None:
        path, sure = like
        remedy = f"write it as {path!r}, and the others alike" if sure else f"write the paths as they are: {path!r}, …"
        return (
            f"{name}: none of the {len(split):,} images that {split.source} lists is there: its `file_name` {first!r} "
            f"leads to no file below {split.root}; {remedy}"
        )
    if unpacked:
        return None
    tar = "decathlon-1.0-data-imagenet.tar" if name == "imagenet12" else f"{name}.tar of decathlon-1.0-data.tar.gz"
    return (
        f"{name}: none of the {len(split):,} images that {split.source} lists is there; unpack {tar} below "
        f"{split.root / 'data'} or leave the domain out with DOMAINS="
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
    """What no file shows alone: classes that train lacks, ids and files that two splits share."""
    seen: dict[str, str] = {}  # file -> the split that listed it first
    earlier: list[Split] = []
    for name, split in splits.items():
        row, what = rows[name], split.domain.name
        twice = [file for file in split.files if seen.setdefault(file, name) != name]
        twice += _repeated(split.files)
        if twice:
            row.notes.append(f"{what} {name}: {len(twice):,} file(s) are listed twice (first: {twice[0]})")
        for other in earlier:
            if len(shared := np.intersect1d(split.ids, other.ids)):
                row.faults.append(
                    f"{what}: {split.source} repeats {len(shared):,} image id(s) of {other.source.name} "
                    f"(first: {shared[0]}); restore both from the devkit"
                )
        earlier.append(split)
        train = splits.get("train")
        if train is None or split is train:
            continue
        row.faults += [
            f"{what}: {split.source} holds the class {split.classes[label]!r} (category id "
            f"{category_id(split.domain.k, int(label))}), which train lacks; remove it there or add it to train"
            for label in _lacking(split, train)
        ]
        shared_names = list(zip(split.classes, train.classes, strict=False))
        if differ := [pair for pair in shared_names if all(pair) and pair[0] != pair[1]]:
            row.notes.append(
                f"{what} {name}: {len(differ):,} class name(s) differ from train's (first: {differ[0][0]!r}, "
                f"there {differ[0][1]!r})"
            )


def _lacking(split: Split, train: Split) -> np.ndarray:
    """Class indices that have an image (where labels are kept back: a name) in `split`, none in train."""
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
    """Entries of data/ and annotations/ that belong to no domain with annotations here."""
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
