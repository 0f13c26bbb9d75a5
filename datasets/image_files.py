"""Finds the images in a user's folder: links are followed, and everything that is skipped is counted."""

import errno
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from visual_decathlon.datasets.decode import SUFFIXES


class SkippedFiles:
    """Counts the files and folders that were skipped, by kind, with the first of each kind."""

    def __init__(self):
        self.count: Counter[str] = Counter()
        self.first: dict[str, str] = {}
        self.suffixes: Counter[str] = Counter()

    def add(self, kind: str, path: str, number: int = 1) -> None:
        """Counts `number` items of a kind; `path` is one of them."""
        self.count[kind] += number
        self.first.setdefault(kind, path)

    def file(self, path: str) -> None:
        """Counts a file that is not an image, by its suffix."""
        name = path.rpartition("/")[2]
        self.suffixes[os.path.splitext(name)[1].lower() or name] += 1

    def __str__(self) -> str:
        """A summary for a message; "" if nothing was skipped."""
        parts = []
        if self.suffixes:
            named = [f"{count:,} {suffix}" for suffix, count in self.suffixes.most_common(5)]
            named += ["others"] if len(self.suffixes) > 5 else []
            parts.append(f"{self.suffixes.total():,} file(s) of a kind that is not read ({', '.join(named)})")
        parts += [f"{count:,} {kind} (first: {self.first[kind]})" for kind, count in self.count.items()]
        return "; ".join(parts)


class ImageFolders:
    """Lists folders and images below `root`, as POSIX paths below it; files in `expected` are ignored silently."""

    def __init__(self, root: Path, expected: frozenset[str] = frozenset()):
        self.root, self.expected = root, expected
        here = root.resolve()
        self._above = {_identity(folder) for folder in (here, *here.parents)}

    def entries(self, below: str, skipped: SkippedFiles) -> tuple[list[str], list[str]]:
        """(folders, images) directly in a folder, sorted; everything else is counted as skipped. Raises OSError."""
        folders, images = [], []
        for entry in sorted(os.scandir(self.root / below), key=lambda entry: entry.name):
            path = f"{below}/{entry.name}" if below else entry.name
            if entry.name.startswith("."):
                skipped.add("hidden file(s) or folder(s)", path)
            elif _is_folder(entry):
                if entry.is_symlink() and self._leads_up(below, path):
                    skipped.add("link(s) to a folder that contains them", path)
                else:
                    folders.append(path)
            elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:
                images.append(path)  # also a broken link: it is a missing image
            elif entry.is_symlink() and not os.path.exists(self.root / path):
                skipped.add("broken link(s)", path)
            elif path not in self.expected:
                skipped.file(path)
        return folders, images

    def _leads_up(self, below: str, link: str) -> bool:
        """Whether a link in the folder `below` leads to that folder or to one above it, with links resolved or not."""
        above = [os.path.join(self.root, below)]
        above += [os.path.join(self.root, str(folder)) for folder in PurePosixPath(below).parents]
        real = os.path.realpath(self.root / link)
        return _identity(self.root / link) in self._above or any(
            os.path.commonpath([real, os.path.realpath(folder)]) == real for folder in above
        )

    def link_in(self, folder: str) -> str | None:
        """The first part of a folder's path below the root that is a link, or None."""
        parts = [str(part) for part in (*reversed(PurePosixPath(folder).parents), folder)][1:]
        return next((part for part in parts if os.path.islink(self.root / part)), None)

    def has_images(self, below: str) -> bool:
        """Whether the folder contains an image at any depth."""
        return next(self._walk(below, SkippedFiles()), None) is not None

    def images(self, below: str, skipped: SkippedFiles) -> list[str]:
        """The images of a folder at any depth, sorted; an image that links lead to again is listed once."""
        images = list(self._walk(below, skipped))
        links = {path for path in images if os.path.islink(self.root / path)}
        if not links:
            return sorted(images)
        seen = {os.path.realpath(self.root / path) for path in images if path not in links}
        kept = [path for path in images if path not in links]
        for path in sorted(links):
            if (target := os.path.realpath(self.root / path)) in seen:
                skipped.add("link(s) to an image of the same class", path)
                continue
            seen.add(target)
            kept.append(path)
        return sorted(kept)

    def _walk(self, below: str, skipped: SkippedFiles) -> Iterator[str]:
        """Yields the images at any depth, visiting each folder once: real folders first, then linked ones."""
        seen: set[tuple[int, int]] = set()
        waiting, links = [below], []
        while waiting or links:
            folder = waiting.pop() if waiting else links.pop(0)
            if (identity := _identity(self.root / folder)) in seen:
                skipped.add("link(s) to a folder of the same class", folder)
                continue
            seen.add(identity)
            folders, images = self.entries(folder, skipped)
            yield from images
            for path in folders:
                (links if os.path.islink(self.root / path) else waiting).append(path)


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        return False  # a link to itself


def _identity(folder: Path) -> tuple[int, int]:
    """(device, inode), equal for all paths of a folder."""
    stat = os.stat(folder)
    return stat.st_dev, stat.st_ino
