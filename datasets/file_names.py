"""The `file_name` of an annotation as a path below the release, and the file that may be meant where there is none."""

import contextlib
import os
import posixpath
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from visual_decathlon.datasets.annotation_json import Bad, ListedImage
from visual_decathlon.datasets.catalogue import SPLITS, Domain

_TRIED = 100  # images of a folder that are looked for: some may be missing


def paths(images: list[ListedImage], root: Path, domain: Domain, split: str, bad: Bad) -> list[str]:
    """POSIX paths below `root`, with the folders before a name that a person left out. Raises what `bad` makes."""
    tops = dict.fromkeys(f"{str(top).rstrip('/')}/" for top in (root.absolute(), root.resolve()))
    files = []
    for image in images:
        file = image.file_name.replace("\\", "/")
        if not file or "\0" in file:
            what = f"gives the image {image.id} the `file_name` {image.file_name!r}, which no file can have"
            raise bad(what, "write the image's path below the release")
        if file.startswith("/"):
            file = _below(file, tops, f"data/{domain.name}/")
        if file.startswith("/") or ":" in file[1:2] or ".." in file.split("/"):
            what = f"names an image outside the release: the `file_name` {image.file_name!r}"
            raise bad(what, f"write its path below {root}, such as data/{domain.name}/{split}/0001/000001.jpg")
        files.append(posixpath.normpath(file) if "./" in file or "//" in file else file)
    return files if all(file.startswith("data/") for file in files) else _completed(files, root, domain, split)


def _below(file: str, tops: Iterable[str], data: str) -> str:
    """An absolute path as one below the release, if it is in there or begins at its top; else as it is."""
    for top in tops:
        if file.startswith(top):
            return file[len(top) :].lstrip("/") or file
    below = file.lstrip("/")
    return below if below.startswith(data) else file


def _completed(files: list[str], root: Path, domain: Domain, split: str) -> list[str]:
    """Each file with the folders that it lacks; found once for each folder, as not every name need lack the same."""
    by_folder: dict[str, list[str]] = defaultdict(list)
    for file in files:
        if not file.startswith("data/") and len(some := by_folder[file.rpartition("/")[0]]) < _TRIED:
            some.append(file)
    starts = ("", "data/", f"data/{domain.name}/", f"data/{domain.name}/{split}/")
    found = {}
    for folder, some in by_folder.items():
        hits = (start for start in starts for file in some if os.path.isfile(root / (start + file)))
        if (start := next(hits, None)) is not None:
            found[folder] = start
    usual = next(iter(found.values()), "")  # of a folder without any image
    return [file if file.startswith("data/") else found.get(file.rpartition("/")[0], usual) + file for file in files]


def likely_file(root: Path, domain: Domain, split: str, file: str) -> tuple[str, bool] | None:
    """The image on the disk that `file`, which is not there, means, and whether it is known to be that one.

    It ends like `file` but for case and blanks, and is not in another split's folder. Where no one image does, it is
    the first of the split, as an example of how they are written; None where the domain has none.
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
    """Files in the folder of a domain, in whatever case it is written."""
    with contextlib.suppress(OSError):
        for data in (name for name in os.listdir(root) if _key(name) == "data"):
            for name in os.listdir(root / data):
                if _key(name) == domain:
                    yield from files_below(root, f"{data}/{name}")


def files_below(root: Path, folder: str) -> Iterator[str]:
    """POSIX paths below `root` of the files in one of its folders, at any depth."""
    for base, folders, names in os.walk(root / folder):
        folders.sort()
        below = Path(base).relative_to(root).as_posix()
        yield from (f"{below}/{name}" for name in names)
