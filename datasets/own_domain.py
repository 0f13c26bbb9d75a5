"""A user's own domain: a folder of class folders (torchvision's ImageFolder layout) with a name."""

import os
from codecs import BOM_UTF8
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np

from visual_decathlon.datasets.annotations import Split
from visual_decathlon.datasets.catalogue import DOMAINS, IMAGENET_MEAN, IMAGENET_STD, SPLITS, Domain, is_valid_name
from visual_decathlon.datasets.decode import SUFFIXES
from visual_decathlon.datasets.errors import InputError, option
from visual_decathlon.datasets.image_files import ImageFolders, SkippedFiles
from visual_decathlon.datasets.io import read_plain
from visual_decathlon.datasets.own_layout import Layout, LayoutReader

_VAL_SHARE = 0.2
_SEED = b"decathlon/1"  # a change would move every user's images between train and val

_Unit = Annotated[float, msgspec.Meta(ge=0, le=1)]
_Deviation = Annotated[float, msgspec.Meta(gt=0, le=1)]


class _Settings(msgspec.Struct, forbid_unknown_fields=True):
    """The content of domain.json; every key is optional."""

    mean: tuple[_Unit, _Unit, _Unit] = IMAGENET_MEAN
    std: tuple[_Deviation, _Deviation, _Deviation] = IMAGENET_STD
    flip: bool = True
    crop: bool = True
    splits: bool = True  # false: folders that are named like splits are classes


def read_folder(name: str, root: Path, split: str) -> Split:
    """Reads one split, see `read_own`."""
    return read_own(name, root, (split,))[0]


def read_own(name: str, root: Path, splits: Sequence[str] = ()) -> list[Split]:
    """Reads these splits, or all that have images, of the domain `name` (a-z, 0-9, -) from the images below `root`.

    `root` contains a folder each for train, val and optionally test, with class folders in them; or it contains the
    class folders directly. In the second case a seeded hash of each file's name puts a fifth of every class into val,
    so adding files does not move others. (One file may move if a class would otherwise have no image on one side.)
    `own_layout` decides which case it is. Classes are train's folders, sorted; image ids count from 1 through train,
    val and test. `root`/domain.json may set mean, std (RGB, 0..1), flip, crop and splits (false: all folders are
    classes). Raises InputError.
    """
    if not is_valid_name(name):
        raise InputError(f"{name!r} ({root}) cannot be the name of a domain; use up to 60 of a-z, 0-9 and -")
    if name in DOMAINS:
        raise InputError(f"{name} ({root}) is the name of an official domain; choose another for your own images")
    if unknown := [split for split in splits if split not in SPLITS]:
        raise InputError(f"{name}: {root} has no split {unknown[0]!r}; choose one of {', '.join(SPLITS)}")
    skipped = SkippedFiles()
    try:
        if not root.is_dir():
            raise InputError(
                f"{name}: {root} is no folder; name the one that contains train/ and val/, or the class folders"
            )
        settings = _settings(name, root)
        layout, images = _read_images(name, root, settings.splits, skipped)
    except OSError as error:
        raise InputError(
            f"{name}: {error.filename or root} cannot be read ({error.strerror}); see its rights"
        ) from None
    classes = _classes(name, root, layout, images, skipped)
    domain = Domain(
        name=name,
        column=name,
        k=0,
        classes=len(classes),
        counts=tuple(sum(map(len, images.get(s, {}).values())) for s in SPLITS),
        mean=settings.mean,
        std=settings.std,
        flip=settings.flip,
        crop=settings.crop,
        paper_images="",
    )
    notes = tuple(filter(None, (layout.note, str(skipped) and f"{name}: left out of {root}: {skipped}")))
    splits = splits or [split for split in SPLITS if images.get(split)]
    return [_split(domain, split, root, layout, images, classes, notes) for split in splits]


def all_images(name: str, root: Path) -> list[Split]:
    """All images below `root`, in any layout, as one unlabelled split; an empty list if there are none."""
    try:
        files = ImageFolders(root).images("", SkippedFiles())
    except OSError:
        return []
    domain = Domain(name, name, 0, 0, (len(files), 0, 0), IMAGENET_MEAN, IMAGENET_STD, True, True, "")
    ids = np.arange(1, len(files) + 1)
    return [Split(domain, "all", root, files, ids, None, (), "a user's own folder of images", root)] if files else []


_Images = dict[str, dict[str, list[str]]]
"""split -> class -> its files, sorted, as POSIX paths below the root; without empty classes."""


def _split(
    domain: Domain, split: str, root: Path, layout: Layout, images: _Images, classes: tuple[str, ...], notes: tuple
) -> Split:
    if not images.get(split):
        folder = layout.splits.get(split, split)
        remedy = f"put them into {folder}/<class>/, or choose another {option('split')}"
        problem = f"{domain.name}: {root} holds no images for {split} in class folders; {remedy}"
        raise InputError("; ".join((problem, *notes)))
    first = 1 + sum(domain.counts[: SPLITS.index(split)])
    index = {title: label for label, title in enumerate(classes)}
    rows = [(file, index[title]) for title, files in sorted(images[split].items()) for file in files]
    return Split(
        domain=domain,
        name=split,
        root=root,
        files=[file for file, _ in rows],
        ids=np.arange(first, first + len(rows), dtype=np.int64),
        labels=np.array([label for _, label in rows], dtype=np.int64),
        classes=classes,
        description="a user's own folder of images",
        source=root / layout.splits.get(split, layout.base),
        notes=notes,
    )


def _read_images(name: str, root: Path, splits: bool, skipped: SkippedFiles) -> tuple[Layout, _Images]:
    """The layout of the folder and its images; without `splits` every folder is a class."""
    folders = ImageFolders(root, expected=frozenset({"domain.json"}))
    layout = LayoutReader(name, root, folders).layout(skipped) if splits else Layout("", {})
    if not layout.splits:
        images = {"train": {}, "val": {}}
        classes = _class_files(folders, layout.base, skipped)
        _refuse_two_labels(name, folders, [classes])
        for title, files in classes.items():
            for split, part in zip(("train", "val"), _divide(files), strict=True):
                if part:
                    images[split][title] = part
        return layout, images
    images = {split: _class_files(folders, folder, skipped) for split, folder in layout.splits.items()}
    _refuse_two_labels(name, folders, list(images.values()))
    train = layout.splits["train"]
    titles = folders.entries(train, SkippedFiles())[0]
    if empty := [folder for folder in titles if folder.rpartition("/")[2] not in images["train"]]:
        raise InputError(f"{name}: {_some(root, empty)} holds no image; add some or remove the folder")
    return layout, images


def _class_files(folders: ImageFolders, below: str, skipped: SkippedFiles) -> dict[str, list[str]]:
    """Class -> its image files at any depth."""
    titles, loose = folders.entries(below, skipped)
    for image in loose:
        skipped.add("image(s) outside of the class folders", image)
    classes = {}
    for folder in titles:
        if files := folders.images(folder, skipped):
            classes[folder.rpartition("/")[2]] = files
        else:
            skipped.add("folder(s) without an image", folder)
    return classes


def _refuse_two_labels(name: str, folders: ImageFolders, splits: list[dict[str, list[str]]]) -> None:
    """Raises InputError if a link leads into another class's folder: the same images would have two labels."""
    seen: dict[str, tuple[str, str]] = {}  # real path of a folder -> the first class that contains it, and its path
    places = dict.fromkeys(
        (t, file.rpartition("/")[0]) for split in splits for t, files in split.items() for file in files
    )
    for title, folder in places:
        other, first = seen.setdefault(os.path.realpath(folders.root / folder), (title, folder))
        if other == title:
            continue
        linked, target = (folder, first) if folders.link_in(folder) else (first, folder)
        link = folders.root / folders.link_in(linked)
        raise InputError(
            f"{name}: {link} is a link to {os.path.realpath(link)}, so that the images of {folders.root / target} "
            f"would have two labels, {other!r} and {title!r}; remove the link"
        )


def _divide(files: list[str]) -> tuple[list[str], list[str]]:
    """(train, val) files of one class. Each file is assigned independently; neither is empty if there are two files."""
    draws = {file: _draw(file) for file in files}
    val = {file for file in files if draws[file] < _VAL_SHARE}
    if len(files) > 1 and not val:
        val = {min(files, key=draws.get)}
    if len(val) == len(files):
        val.remove(max(files, key=draws.get))
    return [file for file in files if file not in val], [file for file in files if file in val]


def _draw(file: str) -> float:
    """A fixed pseudo-random number in [0, 1) for a file's relative path."""
    return int.from_bytes(blake2b(os.fsencode(file), key=_SEED, digest_size=8).digest(), "big") / 2**64


def _classes(name: str, root: Path, layout: Layout, images: _Images, skipped: SkippedFiles) -> tuple[str, ...]:
    """The classes of train, sorted. Raises InputError if there are fewer than two, or another split has more."""
    classes = tuple(sorted(images["train"]))
    train = root / layout.splits.get("train", layout.base)
    if len(classes) < 2:
        aside = f"; left out: {skipped}" if str(skipped) else ""
        raise InputError(
            f"{name}: {train} holds images of {len(classes)} class(es) to train on{aside}; "
            f"put each class's images ({', '.join(sorted(SUFFIXES))}) into a folder of its own below it, at least two"
        )
    lacking = [
        f"{layout.splits[split]}/{title}"
        for split, by_class in images.items()
        for title in sorted(set(by_class) - set(classes))
    ]
    if lacking:
        raise InputError(f"{name}: {_some(root, lacking)} is a class that train lacks; add it to {train} or remove it")
    return classes


def _some(root: Path, folders: list[str]) -> str:
    """The first folder and, in brackets, a few of the others."""
    more = f" (like {', '.join(folders[1:6])}{', …' if len(folders) > 6 else ''})" if len(folders) > 1 else ""
    return f"{root / folders[0]}{more}"


def _settings(name: str, root: Path) -> _Settings:
    path = root / "domain.json"
    if not path.exists():
        return _Settings()
    try:
        return msgspec.json.decode(read_plain(path, most=2**20).removeprefix(BOM_UTF8), type=_Settings)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(
            f'{name}: {path} is wrong: {error}; write {{"mean": [r, g, b], "std": [r, g, b], "flip": true, '
            '"crop": true, "splits": true} with mean and std in 0..1, or remove the file'
        ) from None
