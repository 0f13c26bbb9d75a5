"""Draws the stand-in domains into a folder with the official layout, in parallel.

The pixels do not depend on the number of workers.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
from PIL import Image

from visual_decathlon.datasets.annotations import Split, annotation_path, read_split, write_annotations
from visual_decathlon.datasets.catalogue import DOMAINS, SPLITS, Domain, image_id
from visual_decathlon.datasets.child_processes import block_stop_signals, end_with_parent
from visual_decathlon.datasets.cores import cores
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.datasets.io import clear, make_folder, move, remove, temporary_name
from visual_decathlon.datasets.standin import MARK
from visual_decathlon.datasets.standin.drawn import note_drawn

VERSION = 1
"""Increase it whenever a pixel changes: runs are identified by it."""

_CHUNK = 120  # images per job: small enough that all workers finish at about the same time
_QUALITY = 85


def artist(domain: Domain) -> ModuleType:
    """The module that draws a domain: CLASSES, COUNTS {split: images per class}, TRACK and draw(label, rng, track)."""
    return import_module(f"visual_decathlon.datasets.standin.{domain.name.replace('-', '_')}")


def description(domain: Domain, seed: int) -> str:
    """The text of `info.description` in every annotation file of the stand-in."""
    return (
        f"{MARK} for {domain.name}: drawn by a program, holds no real image; "
        f"generator version {VERSION}, seed {seed}; never an official result"
    )


def plan(domain: Domain, split: str, seed: int = 0) -> list[tuple[int, int]]:
    """(label, track) of every image of a split, in file order.

    A track is a group of near-copies of one sign in gtsrb; in the other domains every image is a track of its own.
    Tracks are shuffled as a whole and numbered within the split, so no track is in two splits, and the order of test
    images does not reveal their labels.
    """
    drawn_by = artist(domain)
    tracks = [
        (label, min(drawn_by.TRACK, count - start))
        for label, count in enumerate(drawn_by.COUNTS[split])
        for start in range(0, count, drawn_by.TRACK)
    ]
    order = _generator(seed, domain, split, 0, 0).permutation(len(tracks))
    return [(tracks[t][0], number) for number, t in enumerate(order) for _ in range(tracks[t][1])]


def draw(domain: Domain, split: str, seed: int, index: int, label: int, track: int) -> Image.Image:
    """Image `index` of a split, with label and track from `plan`; it depends on these arguments only."""
    return artist(domain).draw(
        label, _generator(seed, domain, split, 2, index), _generator(seed, domain, split, 1, track)
    )


def _generator(seed: int, domain: Domain, split: str, role: int, index: int) -> np.random.Generator:
    """The random generator for a split's order (role 0), one of its tracks (role 1) or one of its images (role 2)."""
    return np.random.Generator(
        np.random.SFC64(np.random.SeedSequence((seed, domain.k, SPLITS.index(split), role, index)))
    )


def _paths(domain: Domain, split: str, images: list[tuple[int, int]]) -> list[str]:
    """File names below the root; numbers run through train and val, and start again in test, which has no folders."""
    first = 1 + (sum(artist(domain).COUNTS["train"]) if split == "val" else 0)
    folder = f"data/{domain.name}/{split}"
    return [
        f"{folder}/{number:06d}.jpg" if split == "test" else f"{folder}/{label + 1:04d}/{number:06d}.jpg"
        for number, (label, _) in enumerate(images, first)
    ]


def _draw_chunk(root: str, name: str, split: str, seed: int, start: int, stop: int) -> list[tuple[str, int, int, int]]:
    """Draws the images start..stop of a split; returns (file name, width, height, label) of each."""
    domain = DOMAINS[name]
    images = plan(domain, split, seed)
    paths = _paths(domain, split, images)
    rows = []
    for index in range(start, min(stop, len(images))):
        label, track = images[index]
        picture = draw(domain, split, seed, index, label, track)
        picture.save(os.path.join(root, paths[index]), quality=_QUALITY)
        rows.append((paths[index], *picture.size, label))
    return rows


def split_to_draw(root: Path, domain: Domain, split: str, seed: int = 0) -> Split:
    """The split that `generate` will draw below `root`, as `read_split` will read it, but for its images' sizes."""
    images = plan(domain, split, seed)
    paths = _paths(domain, split, images)
    first = 1 + sum(sum(artist(domain).COUNTS[earlier]) for earlier in SPLITS[: SPLITS.index(split)])
    return Split(
        domain=domain,
        name=split,
        root=root,
        files=paths,
        ids=np.array([image_id(domain.k, split, number) for number in range(first, first + len(paths))], np.int64),
        labels=np.array([label for label, _ in images], np.int64),
        classes=tuple(artist(domain).CLASSES),
        description=description(domain, seed),
        source=root / "annotations" / f"{domain.name}_{split}.json",
    )


def generate(
    root: Path,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
    workers: int | None = None,
    domains: Iterable[str] | None = None,
) -> None:
    """Draws the stand-in release below `root`; does nothing if `root` contains the same stand-ins already.

    Image i of a split depends on (seed, domain, split, i) only. `progress` is called with the name of each finished
    domain; `workers` is the number of processes (default: the cores that this process may use); `domains` names a
    subset. Everything is drawn in a temporary folder next to `root` and renamed at the end: a killed call leaves no
    `root`, and of two simultaneous calls the later one discards its equal copy. Raises InputError if the folder cannot
    be written or contains anything else.
    """
    root = Path(root)
    chosen = [DOMAINS[name] for name in (DOMAINS if domains is None else domains)]
    if root.exists():
        _refuse_other(root, chosen, seed)
        return
    try:
        make_folder(root.parent)
        clear(root.parent)
        work = temporary_name(root)
        work.mkdir()
    except OSError as error:
        raise InputError(
            f"stand-ins: {root.parent} cannot be written ({error.strerror}); choose another folder"
        ) from None
    try:
        _generate_into(work, seed, chosen, progress or (lambda name: None), workers or cores())
        try:
            move(work, root)
        except OSError:
            if not root.exists():
                raise
            _refuse_other(root, chosen, seed)  # another call finished first: its copy is the same
    except OSError as error:
        raise InputError(
            f"stand-ins: {root} cannot be written ({error.strerror}); free space or choose another folder"
        ) from None
    finally:
        remove(work)


def _refuse_other(root: Path, domains: list[Domain], seed: int) -> None:
    """Raises InputError unless `root` contains these stand-ins with this version and seed."""
    for domain in domains:
        path = annotation_path(root, domain.name, "train")
        if path is None or read_split(root, domain, "train").description != description(domain, seed):
            raise InputError(
                f"{domain.name}: {root} exists but is not the stand-in of version {VERSION} and seed {seed}; "
                "remove the folder or choose another"
            )


def _generate_into(root: Path, seed: int, domains: list[Domain], progress: Callable, workers: int) -> None:
    """Draws all images, then writes the annotation files and the manifests."""
    jobs = []
    for domain in domains:
        for split in SPLITS:
            images = plan(domain, split, seed)
            for folder in {os.path.dirname(path) for path in _paths(domain, split, images)}:
                (root / folder).mkdir(parents=True, exist_ok=True)
            jobs += [
                (str(root), domain.name, split, seed, start, start + _CHUNK) for start in range(0, len(images), _CHUNK)
            ]
    rows = {(domain.name, split): [] for domain in domains for split in SPLITS}
    remaining = {domain.name: sum(job[1] == domain.name for job in jobs) for domain in domains}

    def collect(results) -> None:
        for (_, name, split, *_), drawn in zip(jobs, results, strict=True):
            rows[name, split] += drawn
            remaining[name] -= 1
            if not remaining[name]:
                progress(name)

    if workers == 1:
        collect(_draw_chunk(*job) for job in jobs)
    else:
        spawn = multiprocessing.get_context("spawn")
        with ExitStack() as stack:
            with block_stop_signals():  # the pool starts its processes when jobs are submitted
                pool = stack.enter_context(ProcessPoolExecutor(workers, spawn, end_with_parent))
                drawn = pool.map(_draw_chunk, *zip(*jobs, strict=True))
            collect(drawn)
    for domain in domains:
        first = 1
        for split in SPLITS:
            files = rows[domain.name, split]
            for stripped in (False, True) if split == "test" else (False,):
                write_annotations(
                    root, domain, split, files, artist(domain).CLASSES, description(domain, seed), first, stripped
                )
            first += len(files)
    note_drawn(root, domains)
