"""Turns the `file_name` of an annotation into a path below the release, and suggests a file if that path is wrong."""

import contextlib
import os
import posixpath
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from visual_decathlon.datasets.annotation_json import ListedImage, MakeError
from visual_decathlon.datasets.catalogue import SPLITS, Domain

_TRIED = 100  # images per folder whose paths are tried: some may be missing


def paths(images: list[ListedImage], root: Path, domain: Domain, split: str, make_error: MakeError) -> list[str]:
    """POSIX paths of the images below `root`; leading folders that were left out are added.

    Raises `make_error(...)` for a path that is impossible or outside of the release.
    """
    tops = dict.fromkeys(f"{str(top).rstrip('/')}/" for top in (root.absolute(), root.resolve()))
    files = []
    for image in images:
        file = image.file_name.replace("\\", "/")
        if not file or "\0" in file:
            problem = f"gives the image {image.id} the `file_name` {image.file_name!r}, which no file can have"
            raise make_error(problem, "write the image's path below the release")
        if file.startswith("/"):
            file = _below(file, tops, f"data/{domain.name}/")
        if file.startswith("/") or ":" in file[1:2] or ".." in file.split("/"):
            problem = f"names an image outside the release: the `file_name` {image.file_name!r}"
            example = f"data/{domain.name}/{split}/0001/000001.jpg"
            raise make_error(problem, f"write its path below {root}, such as {example}")
        files.append(posixpath.normpath(file) if "./" in file or "//" in file else file)
    return files if all(file.startswith("data/") for file in files) else _completed(files, root, domain, split)


def _below(file: str, tops: Iterable[str], data: str) -> str:
    """An absolute path as a path below the release, if it leads into it or starts at its top; else unchanged."""
    for top in tops:
        if file.startswith(top):
            return file[len(top) :].lstrip("/") or file
    below = file.lstrip("/")
    return below if below.startswith(data) else file


def _completed(files: list[str], root: Path, domain: Domain, split: str) -> list[str]:
    """Each file with its missing leading folders, which are determined once per folder: they may differ."""
    by_folder: dict[str, list[str]] = defaultdict(list)
    for file in files:
        if not file.startswith("data/") and len(samples := by_folder[file.rpartition("/")[0]]) < _TRIED:
            samples.append(file)
    starts = ("", "data/", f"data/{domain.name}/", f"data/{domain.name}/{split}/")
    start_of = {}
    for folder, samples in by_folder.items():
        hits = (start for start in starts for file in samples if os.path.isfile(root / (start + file)))
        if (start := next(hits, None)) is not None:
            start_of[folder] = start
    usual = next(iter(start_of.values()), "")  # for a folder none of whose images exists
    return [file if file.startswith("data/") else start_of.get(file.rpartition("/")[0], usual) + file for file in files]


def likely_file(root: Path, domain: Domain, split: str, file: str) -> tuple[str, bool] | None:
    """(the image on disk that the missing `file` probably means, whether that is certain).

    Its path ends like `file`, ignoring case and blanks, and it is not in another split's folder. If no single image
    fits, the first image of the split is returned as an example of how paths are written; None if the domain has none.
    """
    keys = {path: _key(path).split("/") for path in sorted(_images(root, domain.name))}
    keys = {path: parts for path, parts in keys.items() if not set(parts) & (set(SPLITS) - {split})}
    parts = _key(file).split("/")
    for length in range(len(parts), 0, -1):
        same = [path for path, of in keys.items() if of[-length:] == parts[-length:]]
        if len(same) == 1:
            return same[0], True
    first = next((path for path, of in keys.items() if split in of), None)
    return None if first is None else (first, False)


def _key(path: str) -> str:
    return "/".join(part.strip().casefold() for part in path.split("/"))


def _images(root: Path, domain: str) -> Iterator[str]:
    """Files in the folder of a domain, ignoring case and blanks in the folders' names."""
    with contextlib.suppress(OSError):
        for data in (name for name in os.listdir(root) if _key(name) == "data"):
            for name in os.listdir(root / data):
                if _key(name) == domain:
                    yield from files_below(root, f"{data}/{name}")


def files_below(root: Path, folder: str) -> Iterator[str]:
    """POSIX paths below `root` of all files in one of its folders, at any depth."""
    for base, folders, names in os.walk(root / folder):
        folders.sort()
        below = Path(base).relative_to(root).as_posix()
        yield from (f"{below}/{name}" for name in names)
