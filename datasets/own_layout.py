"""How a person's own domain lies on the disk: folders for its splits, or the class folders themselves.

A folder is taken for a split where it is named like one and holds class folders, that is, folders of images; where it
holds the images themselves it is a class, such as `train` beside `car` and `bus`. What could be either is refused, and
so are folders by any name that hold the same class folders.
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
_SHORT = {"tr": "train", "va": "val", "te": "test"}  # countries and languages, too
_FILLERS = {"set", "data", "dataset", "images", "image", "imgs", "img", "split"}
_CLASSES = 'if they are classes, write {"splits": false} into'


@dataclass
class Layout:
    """`splits`: split -> its folder, as a POSIX path below the root; empty where class folders lie right in `base`."""

    base: str
    splits: dict[str, str]
    note: str = ""  # what may have been meant otherwise


def split_named(folder: str) -> str | None:
    """The split that a folder's name means, in any case and with words such as `set` or `2017` beside it."""
    return _SPLIT.get(words[0]) if len(words := _words(folder)) == 1 else None


def splits_named(folders: Sequence[str]) -> dict[str, str]:
    """folder -> split of those among `folders`, which lie side by side, whose names mean one.

    Where every one of them does, `tr`, `va` and `te` are such names, and words that all begin or end with say nothing:
    `birds-train`, `birds-val`.
    """
    words = [_words(folder) for folder in folders]
    for end in (0, -1):
        while len(words) > 1 and all(len(of) > 1 for of in words) and len({of[end] for of in words}) == 1:
            words = [of[1:] if end == 0 else of[:-1] for of in words]
    loose = {f: (_SPLIT | _SHORT).get(of[0]) for f, of in zip(folders, words, strict=True) if len(of) == 1}
    if len(loose) == len(folders) and all(loose.values()):
        return loose
    return {folder: split for folder in folders if (split := split_named(folder))}


def _words(folder: str) -> list[str]:
    words = re.split("[^a-z]+", folder.rpartition("/")[2].lower())
    return [word for word in words if word and word not in _FILLERS]


class Reader:
    """Finds the layout of the domain `name` below `root`. All methods raise InputError and OSError."""

    def __init__(self, name: str, root: Path, folders: ImageFolders):
        self.name, self.root, self.folders = name, root, folders
        self._inner: dict[str, list[str]] = {}

    def layout(self, left: SkippedFiles, base: str = "") -> Layout:
        """The layout below the folder `base`; what lies beside its folders is counted as left out."""
        filled = [folder for folder in self.folders.look(base, SkippedFiles())[0] if self.folders.has_images(folder)]
        named = splits_named(filled)
        others = [folder for folder in filled if folder not in named]
        with_classes = {folder: split for folder, split in named.items() if self._inside(folder)}
        if not with_classes:
            return self._flat(named, others, left, base)
        if len(with_classes) == 1 and others:
            self._refuse_alike(filled)
        for split in SPLITS:
            if len(twice := [folder for folder, means in named.items() if means == split]) > 1:
                raise self._bad(twice, f"would both be {split}", "keep one, or put their images together")
        if "train" not in with_classes.values():
            what = "looks like a split" if len(with_classes) == 1 else "look like splits"
            raise self._bad(list(with_classes), f"{what}, and there is no train", "name the one to train on train/")
        if others and len(with_classes) == 1:
            shown = ", ".join(f"{folder}/" for folder in others[:5])
            remedy = f"move {shown} into it, or put its images right into it"
            raise self._bad(list(with_classes), f"looks like a split, beside the class folders {shown}", remedy)
        for image in self.folders.look(base, left)[1]:
            left.add("image(s) that lie in no class folder", image)
        for folder in others:
            images = len(self.folders.images(folder, SkippedFiles()))
            left.add("image(s) in folders that are neither train, val nor test", f"{folder}/", images)
        return Layout(base, {split: folder for folder, split in named.items()})

    def _flat(self, named: dict[str, str], others: list[str], left: SkippedFiles, base: str) -> Layout:
        """Class folders right in `base`, unless they look like something else."""
        splits = set(named.values())
        if named and (not others or len(splits) > 1 or splits == {"test"}):
            what = "looks like a split, but has" if len(named) == 1 else "look like splits, but have"
            raise self._bad(list(named), f"{what} no class folders", "put each class's images into <split>/<class>/")
        if len(others) == 1 and not named and (self._has_splits(others[0]) or self._alike(self._inside(others[0]))):
            return self.layout(left, others[0])
        for folder in others:
            if self._has_splits(folder):
                raise self._bad([folder], "is a class folder with splits in it", "put the classes into the splits")
        self._refuse_alike(others)
        note = (
            f"{self.name}: {self.root / next(iter(named))} holds images itself, so it is taken for a class"
            if named
            else ""
        )
        return Layout(base, {}, note)

    def _has_splits(self, folder: str) -> bool:
        means = set(splits_named(self._inside(folder)).values())
        return "train" in means and len(means) > 1

    def _refuse_alike(self, folders: list[str]) -> None:
        """Folders that hold the same class folders are splits by names of the person's own."""
        if alike := self._alike(folders):
            shared = sorted(set.intersection(*alike.values())) or sorted(next(iter(alike.values())))
            shown = ", ".join(f"{title}/" for title in shared[:3]) + (", …" if len(shared) > 3 else "")
            what = f"hold folders of the same names ({shown}), as splits do"
            raise self._bad(list(alike), what, "name them train/, val/ and test/")

    def _alike(self, folders: list[str]) -> dict[str, set[str]]:
        """Those that share the names of two class folders or more with another, and these names."""
        places = {os.path.realpath(self.root / folder): folder for folder in reversed(folders)}  # a link is no other
        titles = {folder: self._titles(folder) for folder in sorted(places.values())}
        alike = {}
        for folder, own in titles.items():
            shared = [both for other, of in titles.items() if other != folder and len(both := own & of) > 1]
            if shared:
                alike[folder] = set.union(*shared)
        return alike

    def _titles(self, folder: str) -> set[str]:
        """Names, but for case, of the class folders in a folder, or in the only folder there."""
        inner = self._inside(folder)
        while len(inner) == 1:
            inner = self._inside(inner[0])
        return {title.rpartition("/")[2].casefold() for title in inner}

    def _inside(self, folder: str) -> list[str]:
        """The class folders in a folder."""
        if folder not in self._inner:
            found = self.folders.look(folder, SkippedFiles())[0]
            self._inner[folder] = [inner for inner in found if self.folders.has_images(inner)]
        return self._inner[folder]

    def _bad(self, folders: list[str], what: str, remedy: str) -> InputError:
        shown = " and ".join(f"{folder}/" for folder in folders[:10])
        shown += f" and {len(folders) - 10:,} more" if len(folders) > 10 else ""
        return InputError(
            f"{self.name}: {self.root} holds {shown}, which {what}; {remedy}; {_CLASSES} {self.root}/domain.json"
        )
