"""Which files of a person's folder are images: links are followed, and what is not taken is counted."""

import errno
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from visual_decathlon.datasets.decode import SUFFIXES


class SkippedFiles:
    """What is not taken of a folder: how many of each kind, and the first of each."""

    def __init__(self):
        self.count: Counter[str] = Counter()
        self.first: dict[str, str] = {}
        self.suffixes: Counter[str] = Counter()

    def add(self, kind: str, path: str, number: int = 1) -> None:
        self.count[kind] += number
        self.first.setdefault(kind, path)

    def file(self, path: str) -> None:
        """One of a kind that is not read."""
        name = path.rpartition("/")[2]
        self.suffixes[os.path.splitext(name)[1].lower() or name] += 1

    def __str__(self) -> str:
        """What is left out, in a few words; "" where nothing is."""
        parts = []
        if self.suffixes:
            named = [f"{count:,} {suffix}" for suffix, count in self.suffixes.most_common(5)]
            named += ["others"] if len(self.suffixes) > 5 else []
            parts.append(f"{self.suffixes.total():,} file(s) of a kind that is not read ({', '.join(named)})")
        parts += [f"{count:,} {kind} (first: {self.first[kind]})" for kind, count in self.count.items()]
        return "; ".join(parts)


class ImageFolders:
    """Folders and images below `root`, given by POSIX path below it; `fine` are files that are no images and belong."""

    def __init__(self, root: Path, fine: frozenset[str] = frozenset()):
        self.root, self.fine = root, fine
        here = root.resolve()
        self._above = {_identity(folder) for folder in (here, *here.parents)}

    def look(self, below: str, left: SkippedFiles) -> tuple[list[str], list[str]]:
        """(folders, images) right in a folder, sorted; the rest is counted. Raises OSError."""
        folders, images = [], []
        for entry in sorted(os.scandir(self.root / below), key=lambda entry: entry.name):
            path = f"{below}/{entry.name}" if below else entry.name
            if entry.name.startswith("."):
                left.add("hidden file(s) or folder(s)", path)
            elif _is_folder(entry):
                if entry.is_symlink() and self._leads_up(below, path):
                    left.add("link(s) to a folder that they lie in", path)
                else:
                    folders.append(path)
            elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:
                images.append(path)  # a broken link, too: it is an image that is missing
            elif entry.is_symlink() and not os.path.exists(self.root / path):
                left.add("broken link(s)", path)
            elif path not in self.fine:
                left.file(path)
        return folders, images

    def _leads_up(self, below: str, link: str) -> bool:
        """Whether a link in the folder `below` leads to that folder or to one above it, on either way to it."""
        above = [os.path.join(self.root, below)]
        above += [os.path.join(self.root, str(folder)) for folder in PurePosixPath(below).parents]
        real = os.path.realpath(self.root / link)
        return _identity(self.root / link) in self._above or any(
            os.path.commonpath([real, os.path.realpath(folder)]) == real for folder in above
        )

    def link_in(self, folder: str) -> str | None:
        """The first part of a folder's path below the root that is a link."""
        parts = [str(part) for part in (*reversed(PurePosixPath(folder).parents), folder)][1:]
        return next((part for part in parts if os.path.islink(self.root / part)), None)

    def has_images(self, below: str) -> bool:
        """At any depth."""
        return next(self._walk(below, SkippedFiles()), None) is not None

    def images(self, below: str, left: SkippedFiles) -> list[str]:
        """The images of a folder at any depth, sorted; what a link shows a second time is taken once."""
        found = list(self._walk(below, left))
        links = {path for path in found if os.path.islink(self.root / path)}
        if not links:
            return sorted(found)
        seen = {os.path.realpath(self.root / path) for path in found if path not in links}
        taken = [path for path in found if path not in links]
        for path in sorted(links):
            if (target := os.path.realpath(self.root / path)) in seen:
                left.add("link(s) to an image of the same class", path)
                continue
            seen.add(target)
            taken.append(path)
        return sorted(taken)

    def _walk(self, below: str, left: SkippedFiles) -> Iterator[str]:
        """Images at any depth, each folder once: first where it lies, then where a link leads to it."""
        seen: set[tuple[int, int]] = set()
        waiting, links = [below], []
        while waiting or links:
            folder = waiting.pop() if waiting else links.pop(0)
            if (identity := _identity(self.root / folder)) in seen:
                left.add("link(s) to a folder of the same class", folder)
                continue
            seen.add(identity)
            folders, images = self.look(folder, left)
            yield from images
            for path in folders:
                (links if os.path.islink(self.root / path) else waiting).append(path)


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        return False  # a link that leads to itself


def _identity(folder: Path) -> tuple[int, int]:
    stat = os.stat(folder)
    return stat.st_dev, stat.st_ino
