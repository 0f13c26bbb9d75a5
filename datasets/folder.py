"""A user's own domain: a folder of class folders (torchvision's ImageFolder layout) with a name."""

import os
from codecs import BOM_UTF8
from hashlib import blake2b
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np

from datasets.annotations import Split
from datasets.catalogue import DOMAINS, IMAGENET_MEAN, IMAGENET_STD, SPLITS, Domain, fit_name
from datasets.decode import SUFFIXES
from datasets.errors import BadInput

_VAL_SHARE = 0.2
_SEED = b"decathlon/1"  # changing it moves every user's images between train and val

_Unit = Annotated[float, msgspec.Meta(ge=0, le=1)]
_Deviation = Annotated[float, msgspec.Meta(gt=0, le=1)]


class _Look(msgspec.Struct, forbid_unknown_fields=True):
    """The content of domain.json; each key may be left out."""

    mean: tuple[_Unit, _Unit, _Unit] = IMAGENET_MEAN
    std: tuple[_Deviation, _Deviation, _Deviation] = IMAGENET_STD
    flip: bool = True
    crop: bool = True


def read_folder(name: str, root: Path, split: str) -> Split:
    """Read one split of the domain `name` (a-z, 0-9, -) from the images below `root`.

    `root` holds train/, val/ and, where there is one, test/, each with class folders; or the class
    folders themselves: then a seeded hash of each file's own name puts a fifth of every class into
    val, so that adding files moves no other. (One may move where a class would else have no image
    on one side.) Classes are train's folders, sorted; ids run from 1 over train, val and test.
    `root`/domain.json may give mean, std (RGB, 0..1), flip and crop. Raises BadInput.
    """
    if not fit_name(name):
        raise BadInput(f"{name!r} ({root}) is no name for a domain; take up to 60 of a-z, 0-9 and -")
    if name in DOMAINS:
        raise BadInput(f"{name} ({root}) is the name of an official domain; choose another for your own images")
    if split not in SPLITS:
        raise BadInput(f"{name}: {root} has no split {split!r}; choose one of {', '.join(SPLITS)}")
    try:
        found = _splits(name, root)
        look = _look(name, root)
    except OSError as error:
        raise BadInput(f"{name}: {error.filename or root} cannot be read ({error.strerror}); see its rights") from None
    classes = _classes(name, root, found)
    if not found.get(split):
        raise BadInput(f"{name}: {root} holds no images for {split}; make the folder {split}/<class>/ or use another")

    counts = tuple(sum(map(len, found.get(s, {}).values())) for s in SPLITS)
    first = 1 + sum(counts[: SPLITS.index(split)])
    index = {title: label for label, title in enumerate(classes)}
    rows = [(file, index[title]) for title, files in sorted(found[split].items()) for file in files]
    return Split(
        domain=Domain(
            name=name,
            column=name,
            k=0,
            classes=len(classes),
            counts=counts,
            mean=look.mean,
            std=look.std,
            flip=look.flip,
            crop=look.crop,
            paper_images="",
        ),
        name=split,
        root=root,
        files=[file for file, _ in rows],
        ids=np.arange(first, first + len(rows), dtype=np.int64),
        labels=np.array([label for _, label in rows], dtype=np.int64),
        classes=classes,
        description="a user's own folder of images",
        source=root / split if (root / split).is_dir() else root,
    )


_Found = dict[str, dict[str, list[str]]]
"""split -> class -> its files, sorted, as POSIX paths below the root; only what holds images."""


def _splits(name: str, root: Path) -> _Found:
    if not root.is_dir():
        raise BadInput(f"{name}: {root} is no folder; give the one that holds train/ and val/, or the class folders")
    if (root / "train").is_dir():
        found = {split: _class_files(root, split + "/") for split in SPLITS if (root / split).is_dir()}
        if empty := [title for title in _folders(root / "train") if title not in found["train"]]:
            raise BadInput(f"{name}: {root}/train/{empty[0]} holds no image; put some there or remove the folder")
        return found
    found = {"train": {}, "val": {}}
    for title, files in _class_files(root, "").items():
        for split, part in zip(("train", "val"), _divide(files), strict=True):
            if part:
                found[split][title] = part
    return found


def _folders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))


def _class_files(root: Path, below: str) -> dict[str, list[str]]:
    """Class -> its image files at any depth; hidden files and folders are no images."""
    classes = {}
    for title in _folders(root / below):
        files = []
        for base, folders, names in os.walk(root / below / title, onerror=_raise):
            folders[:] = [folder for folder in folders if not folder.startswith(".")]
            place = Path(base).relative_to(root).as_posix()
            images = (n for n in names if not n.startswith(".") and os.path.splitext(n)[1].lower() in SUFFIXES)
            files += [f"{place}/{image}" for image in images]
        if files:
            classes[title] = sorted(files)
    return classes


def _raise(error: OSError) -> None:
    raise error


def _divide(files: list[str]) -> tuple[list[str], list[str]]:
    """(train, val) of one class, decided for each file by itself; neither is empty if there are two files."""
    draws = {file: _draw(file) for file in files}
    val = {file for file in files if draws[file] < _VAL_SHARE}
    if len(files) > 1 and not val:
        val = {min(files, key=draws.get)}
    if len(val) == len(files):
        val.remove(max(files, key=draws.get))
    return [file for file in files if file not in val], [file for file in files if file in val]


def _draw(file: str) -> float:
    """A fixed number in [0, 1) from a file's relative name."""
    return int.from_bytes(blake2b(os.fsencode(file), key=_SEED, digest_size=8).digest(), "big") / 2**64


def _classes(name: str, root: Path, found: _Found) -> tuple[str, ...]:
    classes = tuple(sorted(found["train"]))
    if len(classes) < 2:
        raise BadInput(
            f"{name}: {root} holds images of {len(classes)} class(es) to train on; put each class's images "
            f"({', '.join(sorted(SUFFIXES))}) into a folder of its own below {root} or {root / 'train'}, two at least"
        )
    for split, by_class in found.items():
        if lacking := sorted(set(by_class) - set(classes)):
            raise BadInput(
                f"{name}: {root / split / lacking[0]} is a class that train lacks; add it to {root / 'train'} or "
                "remove it"
            )
    return classes


def _look(name: str, root: Path) -> _Look:
    path = root / "domain.json"
    if not path.exists():
        return _Look()
    try:
        return msgspec.json.decode(path.read_bytes().removeprefix(BOM_UTF8), type=_Look)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(
            f'{name}: {path} is wrong: {error}; write {{"mean": [r, g, b], "std": [r, g, b], "flip": true, '
            '"crop": true} with mean and std in 0..1, or remove the file'
        ) from None
