"""Determines the layout of a user's own domain: either a folder for each split, or class folders directly.

A folder is a split if it is named like one and contains class folders, that is, folders of images. If it contains
images directly, it is a class, such as `train` next to `car` and `bus`. Ambiguous folders are refused, and so are
folders of any name that contain the same class folders, because they are probably splits.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from visual_decathlon.datasets.catalogue import SPLITS
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.datasets.image_files import ImageFolders, SkippedFiles

_NAMES = {
    "train": ("train", "training", "trn", "trainset"),
    "val": ("val", "valid", "validation", "validate", "valset", "dev", "devel", "development", "eval", "evaluation"),
    "test": ("test", "testing", "tst", "testset"),
}
_SPLIT = {word: split for split, words in _NAMES.items() for word in words}
_SHORT = {"tr": "train", "va": "val", "te": "test"}  # also codes of countries and languages
_FILLERS = {"set", "data", "dataset", "images", "image", "imgs", "img", "split"}
_CLASSES = 'if they are classes, write {"splits": false} into'


@dataclass
class Layout:
    """The layout of a domain. `splits` maps a split to its folder, as a POSIX path below the root; it is empty if the
    class folders are directly in `base`.
    """

    base: str
    splits: dict[str, str]
    note: str = ""  # a sentence for the user if the layout may be read in another way


def split_named(folder: str) -> str | None:
    """The split that a folder's name means, ignoring case, digits and words such as `set`; None if it means none."""
    return _SPLIT.get(words[0]) if len(words := _words(folder)) == 1 else None


def splits_named(folders: Sequence[str]) -> dict[str, str]:
    """folder -> split, for those of the neighbouring `folders` whose names mean a split.

    If every folder would mean a split this way, the short names `tr`, `va` and `te` count too, and words with which all
    names begin or end are ignored, as in `birds-train`, `birds-val`.
    """
    words = [_words(folder) for folder in folders]
    for end in (0, -1):
        while len(words) > 1 and all(len(name) > 1 for name in words) and len({name[end] for name in words}) == 1:
            words = [name[1:] if end == 0 else name[:-1] for name in words]
    splits = {f: (_SPLIT | _SHORT).get(name[0]) for f, name in zip(folders, words, strict=True) if len(name) == 1}
    if len(splits) == len(folders) and all(splits.values()):
        return splits
    return {folder: split for folder in folders if (split := split_named(folder))}


def _words(folder: str) -> list[str]:
    words = re.split("[^a-z]+", folder.rpartition("/")[2].lower())
    return [word for word in words if word and word not in _FILLERS]


class LayoutReader:
    """Determines the layout of the domain `name` below `root`. All methods raise InputError and OSError."""

    def __init__(self, name: str, root: Path, folders: ImageFolders):
        self.name, self.root, self.folders = name, root, folders
        self._inner: dict[str, list[str]] = {}

    def layout(self, skipped: SkippedFiles, base: str = "") -> Layout:
        """The layout below the folder `base`; files and folders that belong to no split are counted as skipped."""
        filled = [folder for folder in self.folders.entries(base, SkippedFiles())[0] if self.folders.has_images(folder)]
        named = splits_named(filled)
        others = [folder for folder in filled if folder not in named]
        with_classes = {folder: split for folder, split in named.items() if self._inside(folder)}
        if not with_classes:
            return self._flat(named, others, skipped, base)
        if len(with_classes) == 1 and others:
            self._refuse_alike(filled)
        for split in SPLITS:
            if len(twice := [folder for folder, means in named.items() if means == split]) > 1:
                raise self._error(twice, f"would both be {split}", "keep one, or put their images together")
        if "train" not in with_classes.values():
            looks = "looks like a split" if len(with_classes) == 1 else "look like splits"
            raise self._error(list(with_classes), f"{looks}, and there is no train", "name the one to train on train/")
        if others and len(with_classes) == 1:
            shown = ", ".join(f"{folder}/" for folder in others[:5])
            remedy = f"move {shown} into it, or put its images directly into it"
            raise self._error(list(with_classes), f"looks like a split, next to the class folders {shown}", remedy)
        for image in self.folders.entries(base, skipped)[1]:
            skipped.add("image(s) outside of the class folders", image)
        for folder in others:
            images = len(self.folders.images(folder, SkippedFiles()))
            skipped.add("image(s) in folders that are neither train, val nor test", f"{folder}/", images)
        return Layout(base, {split: folder for folder, split in named.items()})

    def _flat(self, named: dict[str, str], others: list[str], skipped: SkippedFiles, base: str) -> Layout:
        """The layout with class folders directly in `base`, unless they look like something else."""
        splits = set(named.values())
        if named and (not others or len(splits) > 1 or splits == {"test"}):
            looks = "looks like a split, but has" if len(named) == 1 else "look like splits, but have"
            raise self._error(list(named), f"{looks} no class folders", "put each class's images into <split>/<class>/")
        if len(others) == 1 and not named and (self._has_splits(others[0]) or self._alike(self._inside(others[0]))):
            return self.layout(skipped, others[0])
        for folder in others:
            if self._has_splits(folder):
                raise self._error([folder], "is a class folder with splits in it", "put the classes into the splits")
        self._refuse_alike(others)
        note = (
            f"{self.name}: {self.root / next(iter(named))} holds images itself, so it is treated as a class"
            if named
            else ""
        )
        return Layout(base, {}, note)

    def _has_splits(self, folder: str) -> bool:
        splits = set(splits_named(self._inside(folder)).values())
        return "train" in splits and len(splits) > 1

    def _refuse_alike(self, folders: list[str]) -> None:
        """Raises InputError if folders contain the same class folders: they are probably splits with other names."""
        if alike := self._alike(folders):
            shared = sorted(set.intersection(*alike.values())) or sorted(next(iter(alike.values())))
            shown = ", ".join(f"{title}/" for title in shared[:3]) + (", …" if len(shared) > 3 else "")
            problem = f"hold folders of the same names ({shown}), as splits do"
            raise self._error(list(alike), problem, "name them train/, val/ and test/")

    def _alike(self, folders: list[str]) -> dict[str, set[str]]:
        """folder -> names of its class folders that another folder has too, if there are two or more of them."""
        places = {os.path.realpath(self.root / folder): folder for folder in reversed(folders)}  # links count once
        titles = {folder: self._titles(folder) for folder in sorted(places.values())}
        alike = {}
        for folder, own in titles.items():
            shared = [both for other, its in titles.items() if other != folder and len(both := own & its) > 1]
            if shared:
                alike[folder] = set.union(*shared)
        return alike

    def _titles(self, folder: str) -> set[str]:
        """Case-folded names of the class folders in a folder, or in the only folder in it."""
        inner = self._inside(folder)
        while len(inner) == 1:
            inner = self._inside(inner[0])
        return {title.rpartition("/")[2].casefold() for title in inner}

    def _inside(self, folder: str) -> list[str]:
        """The class folders in a folder."""
        if folder not in self._inner:
            entries = self.folders.entries(folder, SkippedFiles())[0]
            self._inner[folder] = [inner for inner in entries if self.folders.has_images(inner)]
        return self._inner[folder]

    def _error(self, folders: list[str], problem: str, remedy: str) -> InputError:
        shown = " and ".join(f"{folder}/" for folder in folders[:10])
        shown += f" and {len(folders) - 10:,} more" if len(folders) > 10 else ""
        return InputError(
            f"{self.name}: {self.root} holds {shown}, which {problem}; {remedy}; {_CLASSES} {self.root}/domain.json"
        )
