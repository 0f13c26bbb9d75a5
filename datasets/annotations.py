"""Reads and writes the official annotation files: the COCO-like JSON of the decathlon release.

`{domain}_train.json`, `{domain}_val.json` and, where a user put the published labels,
`{domain}_test.json` carry labels; `{domain}_test_stripped.json` does not. Classes are mapped by
category id, never by folder or by name: names sort as strings.
"""

from codecs import BOM_UTF8
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import msgspec
import numpy as np

from datasets.catalogue import DOMAINS, Domain, category_id, image_id
from datasets.errors import BadInput

_Id = Annotated[int, msgspec.Meta(ge=0, lt=2**62)]  # differences of two stay inside int64


class _Image(msgspec.Struct):
    id: _Id
    file_name: str
    width: int
    height: int


class _Annotation(msgspec.Struct):
    image_id: _Id
    category_id: _Id


class _Category(msgspec.Struct):
    id: _Id
    name: str
    supercategory: str = ""


class _File(msgspec.Struct):
    info: dict[str, Any]
    images: list[_Image]
    categories: list[_Category]
    annotations: list[_Annotation] | None = None  # absent in test_stripped
    licenses: Any = None  # a list in train and val, one object in test_stripped


@dataclass(frozen=True)
class Split:
    """One split of one domain as its files say it, before any image is opened.

    `files` are POSIX paths below `root`; `ids` (N,) int64; `labels` (N,) int64 class indices from
    0, or None where the release keeps them back; `classes` the class names, by class index; `sizes`
    (N, 2) width and height in pixels, where a file states them.
    """

    domain: Domain
    name: str
    root: Path
    files: list[str]
    ids: np.ndarray
    labels: np.ndarray | None
    classes: tuple[str, ...]
    description: str
    source: Path  # the file (or folder) that says so, for messages
    sizes: np.ndarray | None = None
    notes: tuple[str, ...] = ()  # sentences on what was taken otherwise than one may think

    def __len__(self) -> int:
        return len(self.files)


def annotation_path(root: Path, domain: str, split: str) -> Path | None:
    """The annotation file of a split, the labelled one first; None where there is none."""
    names = [f"{domain}_{split}.json"] + ([f"{domain}_test_stripped.json"] if split == "test" else [])
    try:
        return next((path for name in names if (path := root / "annotations" / name).is_file()), None)
    except OSError as error:
        raise BadInput(f"{domain}: {error.filename} cannot be read ({error.strerror}); check its permissions") from None


def read_split(root: Path, domain: Domain, split: str) -> Split:
    """Read `split` of an official domain below `root`. Raises BadInput where it is absent, or as `read_file`."""
    path = annotation_path(root, domain.name, split)
    if path is None:
        raise BadInput(
            f"{domain.name}: {root / 'annotations' / f'{domain.name}_{split}.json'} is missing; "
            f"unpack the devkit's annotations below {root} or leave the domain out with DOMAINS="
        )
    return read_file(path, root, domain, split)


def read_file(path: Path, root: Path, domain: Domain, split: str) -> Split:
    """Read the annotation file at `path` of a `split` whose images lie below `root`.

    Raises BadInput, naming file, domain and mend, where it is no JSON, lacks a key, repeats an id,
    names an unknown class or an image path outside the release, or is empty; and where a train split
    has images of one class only: every method would score 100 % on it.
    """
    try:
        content = msgspec.json.decode(path.read_bytes().removeprefix(BOM_UTF8), type=_File)
    except msgspec.ValidationError as error:
        raise BadInput(f"{domain.name}: {path} is not a decathlon annotation file: {error}; restore the file") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"{domain.name}: {path} is no JSON ({error}); restore the file from the devkit") from None
    except OSError as error:
        raise BadInput(f"{domain.name}: {path} cannot be read: {error.strerror}; check its permissions") from None

    def bad(what: str, mend: str = "restore the file from the devkit") -> BadInput:
        return BadInput(f"{domain.name}: {path} {what}; {mend}")

    if not content.images:
        raise bad("lists no image: an empty split", "leave the domain out with DOMAINS= or restore the file")
    ids = np.array([image.id for image in content.images], dtype=np.int64)
    if (twice := _repeated(ids)) is not None:
        raise bad(f"repeats the image id {twice}")
    for image in content.images:
        if not image.file_name or "\0" in image.file_name:
            raise bad(f"gives the image {image.id} the file name {image.file_name!r}, which no file can have")
        parts = PurePosixPath(image.file_name)
        if parts.is_absolute() or ".." in parts.parts or "\\" in image.file_name:
            raise bad(f"names an image outside the release: {image.file_name!r}")
    classes = _classes(content.categories, domain, bad)
    labels = None
    if content.annotations is not None:
        labels = _labels(content.annotations, ids, classes, domain, bad)
        if split == "train" and len(shown := np.unique(labels)) < 2:
            only = category_id(domain.k, int(shown[0]))
            raise bad(f"has images of one class only (category id {only}), so there is nothing to tell apart")
    elif split != "test":
        raise bad("lacks the key `annotations`")
    return Split(
        domain=domain,
        name=split,
        root=root,
        files=[image.file_name for image in content.images],
        ids=ids,
        labels=labels,
        classes=tuple(name or "" for name in classes),
        description=str(content.info.get("description", "")),
        source=path,
        sizes=np.array([(image.width, image.height) for image in content.images]),
    )


def _repeated(values: np.ndarray) -> int | None:
    unique, counts = np.unique(values, return_counts=True)
    return int(unique[counts > 1][0]) if len(unique) < len(values) else None


def _classes(categories: list[_Category], domain: Domain, bad) -> list[str | None]:
    """Class names by class index; a subset release may leave gaps: None, which no label may name."""
    numbers = np.array([category.id for category in categories], dtype=np.int64) - category_id(domain.k, 0)
    if len(numbers) == 0:
        raise bad("lists no category")
    if (twice := _repeated(numbers)) is not None:
        raise bad(f"repeats the category id {category_id(domain.k, twice)}")
    if numbers.min() < 0 or numbers.max() >= 10**7 - 1:
        wrong = numbers[(numbers < 0) | (numbers >= 10**7 - 1)][0]
        raise bad(
            f"holds the category id {category_id(domain.k, int(wrong))}, which is not of domain number {domain.k}",
            "put each domain's own annotation file there",
        )
    if numbers.max() >= 100_000:
        raise bad(f"holds the category id {category_id(domain.k, int(numbers.max()))}, far beyond any class count")
    names: list[str | None] = [None] * (int(numbers.max()) + 1)
    for number, category in zip(numbers, categories, strict=True):
        names[number] = category.name
    return names


def _labels(annotations: list[_Annotation], ids: np.ndarray, classes: list, domain: Domain, bad) -> np.ndarray:
    """(N,) class indices in the order of `ids`, joined on the image id."""
    images = np.array([a.image_id for a in annotations], dtype=np.int64)
    labels = np.array([a.category_id for a in annotations], dtype=np.int64) - category_id(domain.k, 0)
    if (twice := _repeated(images)) is not None:
        raise bad(f"labels the image id {twice} twice")
    if len(foreign := np.setdiff1d(images, ids)):
        raise bad(f"labels the image id {foreign[0]}, which it does not list")
    if len(missing := np.setdiff1d(ids, images)):
        raise bad(f"gives no label for the image id {missing[0]}")
    unknown = ~np.isin(labels, [label for label, name in enumerate(classes) if name is not None])
    if unknown.any():
        raise bad(f"names an unknown class: category id {category_id(domain.k, int(labels[unknown][0]))}")
    order = np.argsort(images)
    return labels[order][np.searchsorted(images[order], ids)]


def write_annotations(
    root: Path,
    domain: Domain,
    split: str,
    files: Iterable[tuple[str, int, int, int]],
    classes: Iterable[str],
    description: str,
    first_number: int,
    stripped: bool = False,
) -> Path:
    """Write one annotation file in the official layout and return its path.

    `files` yields (file_name below root, width, height, class index); `first_number` is the running
    number of the split's first image: it runs on over train, val and test of a domain. With
    `stripped` (the test split as released) labels are left out.
    """
    rows = list(files)
    ids = [image_id(domain.k, split, first_number + i) for i in range(len(rows))]
    content: dict[str, Any] = {
        "info": {"description": description, "version": 1, "year": 2026},
        "images": [
            {"id": i, "width": width, "height": height, "file_name": name}
            for i, (name, width, height, _) in zip(ids, rows, strict=True)
        ],
        "categories": [
            {"id": category_id(domain.k, label), "name": name, "supercategory": domain.name}
            for label, name in enumerate(classes)
        ],
    }
    licence = {"id": 1, "name": "decathlon", "url": ""}
    if stripped:
        content["licenses"] = licence
    else:
        content["licenses"] = [licence]
        content["annotations"] = [
            {
                "id": i,
                "image_id": i,
                "category_id": category_id(domain.k, label),
                "segmentation": [],
                "area": 0,
                "bbox": [],
                "iscrowd": 0,
            }
            for i, (_, _, _, label) in zip(ids, rows, strict=True)
        ]
    path = root / "annotations" / f"{domain.name}_{split}{'_stripped' if stripped else ''}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.encode(content))
    return path


def domains_in(root: Path) -> list[Domain]:
    """The official domains of which `root` holds a train annotation file, in table order.

    Raises BadInput where `root` is no release at all.
    """
    if not root.is_dir():
        state = "is no folder" if root.exists() else "does not exist"
        raise BadInput(f"DATA={root} {state}; give the folder that holds annotations/ and data/")
    found = [domain for domain in DOMAINS.values() if annotation_path(root, domain.name, "train")]
    if not found:
        raise BadInput(
            f"DATA={root} holds no annotations/<domain>_train.json; give the folder `decathlon-1.0` that holds "
            "annotations/ and data/, or fetch it with `make data DOWNLOAD=DIR`"
        )
    return found
