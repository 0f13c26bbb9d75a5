"""How a person's own domain lies on the disk: folders for its splits, or the class folders themselves.

A folder is taken for a split where it is named like one and holds class folders, that is, folders of images; where it
holds the images themselves it is a class, such as `train` beside `car` and `bus`. What could be either is refused.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from datasets.catalogue import SPLITS
from datasets.errors import BadInput
from datasets.image_files import ImageFolders, LeftOut

_NAMES = {
    "train": ("train", "training", "trn", "trainset"),
    "val": ("val", "valid", "validation", "validate", "valset", "dev", "devel", "development", "eval", "evaluation"),
    "test": ("test", "testing", "tst", "testset"),
}
_SPLIT = {word: split for split, words in _NAMES.items() for word in words}
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
    words = [word for word in re.split("[^a-z]+", folder.rpartition("/")[2].lower()) if word and word not in _FILLERS]
    return _SPLIT.get(words[0]) if len(words) == 1 else None


class Reader:
    """Finds the layout of the domain `name` below `root`. All methods raise BadInput and OSError."""

    def __init__(self, name: str, root: Path, folders: ImageFolders):
        self.name, self.root, self.folders = name, root, folders

    def layout(self, left: LeftOut, base: str = "") -> Layout:
        """The layout below the folder `base`; what lies beside its folders is counted as left out."""
        filled = [folder for folder in self.folders.look(base, LeftOut())[0] if self.folders.has_images(folder)]
        named = {folder: split for folder in filled if (split := split_named(folder))}
        others = [folder for folder in filled if folder not in named]
        with_classes = {folder: split for folder, split in named.items() if self._class_folders(folder)}
        if not with_classes:
            return self._flat(list(named), others, left, base)
        for split in SPLITS:
            if len(twice := [folder for folder, means in named.items() if means == split]) > 1:
                raise self._bad(twice, f"would both be {split}", "keep one, or put their images together")
        if "train" not in with_classes.values():
            what = "looks like a split" if len(with_classes) == 1 else "look like splits"
            raise self._bad(list(with_classes), f"{what}, and there is no train", "name the one to train on train/")
        if others and len(with_classes) == 1:
            shown = ", ".join(f"{folder}/" for folder in others[:5])
            mend = f"move {shown} into it, or put its images right into it"
            raise self._bad(list(with_classes), f"looks like a split, beside the class folders {shown}", mend)
        for image in self.folders.look(base, left)[1]:
            left.add("image(s) that lie in no class folder", image)
        for folder in others:
            images = len(self.folders.images(folder, LeftOut()))
            left.add("image(s) in folders that are neither train, val nor test", f"{folder}/", images)
        return Layout(base, {split: folder for folder, split in named.items()})

    def _flat(self, named: list[str], others: list[str], left: LeftOut, base: str) -> Layout:
        """Class folders right in `base`, unless they look like something else."""
        splits = {split_named(folder) for folder in named}
        if named and (not others or len(splits) > 1 or splits == {"test"}):
            what = "looks like a split, but has" if len(named) == 1 else "look like splits, but have"
            raise self._bad(named, f"{what} no class folders", "put each class's images into <split>/<class>/")
        if len(others) == 1 and not named and self._has_splits(others[0]):
            return self.layout(left, others[0])
        for folder in others:
            if self._has_splits(folder):
                raise self._bad([folder], "is a class folder with splits in it", "put the classes into the splits")
        note = f"{self.name}: {self.root / named[0]} holds images itself, so it is taken for a class" if named else ""
        return Layout(base, {}, note)

    def _has_splits(self, folder: str) -> bool:
        means = {split_named(inner) for inner in self._class_folders(folder)} - {None}
        return "train" in means and len(means) > 1

    def _class_folders(self, folder: str) -> list[str]:
        return [inner for inner in self.folders.look(folder, LeftOut())[0] if self.folders.has_images(inner)]

    def _bad(self, folders: list[str], what: str, mend: str) -> BadInput:
        shown = " and ".join(f"{folder}/" for folder in folders)
        return BadInput(
            f"{self.name}: {self.root} holds {shown}, which {what}; {mend}; {_CLASSES} {self.root}/domain.json"
        )
