"""Reads and writes the official annotation files: the COCO-like JSON of the decathlon release.

`{domain}_train.json`, `{domain}_val.json` and, if the user has added the published labels, `{domain}_test.json` contain
labels; `{domain}_test_stripped.json` does not. Class indices come from category ids, never from folders or names,
because names sort as strings ("10" before "2").
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from visual_decathlon.datasets.annotation_json import Annotation, Category, ListedImage, MakeError, read_content
from visual_decathlon.datasets.catalogue import DOMAINS, Domain, category_id, image_id
from visual_decathlon.datasets.errors import InputError, option
from visual_decathlon.datasets.file_names import paths
from visual_decathlon.datasets.io import read_plain

LARGEST = 2**32  # bytes of an annotation file: about ten times the size of imagenet12's


@dataclass(frozen=True)
class Split:
    """One split of one domain as its annotation file (or folder) describes it; no image has been opened.

    `files` are POSIX paths below `root`; `ids` (N,) int64; `labels` (N,) int64 class indices from 0, or None if the
    release withholds them; `classes` are the class names by class index; `sizes` (N, 2) are width and height in pixels,
    NaN if the file does not give them.
    """

    domain: Domain
    name: str
    root: Path
    files: list[str]
    ids: np.ndarray
    labels: np.ndarray | None
    classes: tuple[str, ...]
    description: str
    source: Path  # the annotation file or the folder that this was read from, for messages
    sizes: np.ndarray | None = None
    notes: tuple[str, ...] = ()  # sentences about files or folders that were read in an unexpected way

    def __len__(self) -> int:
        """Number of images."""
        return len(self.files)


def annotation_path(root: Path, domain: str, split: str) -> Path | None:
    """The annotation file of a split, preferably the one with labels; None if there is none."""
    names = [f"{domain}_{split}.json"] + ([f"{domain}_test_stripped.json"] if split == "test" else [])
    try:
        return next((path for name in names if (path := root / "annotations" / name).is_file()), None)
    except OSError as error:
        raise InputError(
            f"{domain}: {error.filename} cannot be read ({error.strerror}); check its permissions"
        ) from None


def read_split(root: Path, domain: Domain, split: str) -> Split:
    """Reads `split` of an official domain below `root`. Raises InputError if it is missing, and as `read_file` does."""
    path = annotation_path(root, domain.name, split)
    if path is None:
        raise InputError(
            f"{domain.name}: {root / 'annotations' / f'{domain.name}_{split}.json'} is missing; "
            f"unpack the devkit's annotations below {root} or leave the domain out with {option('domains')}"
        )
    return read_file(path, root, domain, split)


def read_file(path: Path, root: Path, domain: Domain, split: str) -> Split:
    """Reads the annotation file at `path` of a `split` whose images are below `root`.

    Raises InputError, naming file, domain and remedy, if the file is not JSON, lacks a key, repeats an id, names an
    unknown class or an image path outside the release, or is empty; also if a train split has images of one class
    only, because every method would score 100 % on it.
    """

    def make_error(problem: str, remedy: str) -> InputError:
        return InputError(f"{domain.name}: {path} {problem}; {remedy}")

    try:
        content = read_content(read_plain(path, LARGEST), make_error)
    except (OSError, MemoryError) as error:
        why = getattr(error, "strerror", None) or "there is no memory for what it lists"
        raise make_error(f"cannot be read: {why}", "check the path and its rights") from None
    if not content.images:
        raise make_error(
            "lists no image: an empty split", f"leave the domain out with {option('domains')} or restore the file"
        )
    ids = np.array([image.id for image in content.images], dtype=np.int64)
    if (twice := _repeated(ids)) is not None:
        raise make_error(f"repeats the image id {twice}", "give each image an `id` of its own")
    files = paths(content.images, root, domain, split, make_error)
    classes = _classes(content.categories, domain, make_error)
    labels = None
    if content.annotations or (content.annotations is not None and split != "test"):
        labels = _labels(content.annotations, ids, classes, domain, make_error)
        if split == "train" and len(present := np.unique(labels)) < 2:
            only = category_id(domain.k, int(present[0]))
            raise make_error(
                f"has images of one class only (category id {only}), so there is nothing to classify",
                f"add images of another class or leave the domain out with {option('domains')}",
            )
    elif split != "test":
        raise make_error("lacks the key `annotations`", "write a list of {image_id, category_id}")
    description = content.info.get("description", "") if isinstance(content.info, dict) else ""
    return Split(
        domain=domain,
        name=split,
        root=root,
        files=files,
        ids=ids,
        labels=labels,
        classes=tuple(name or "" for name in classes),
        description=str(description),
        source=path,
        sizes=_sizes(content.images),
    )


def _sizes(images: list[ListedImage]) -> np.ndarray:
    """(N, 2) width and height, NaN if the file does not give them."""
    stated = [(image.width, image.height) for image in images]
    try:
        return np.array(stated, dtype=float)
    except (TypeError, ValueError, OverflowError):
        return np.array([[_number(width), _number(height)] for width, height in stated])


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return float("nan")


def _repeated(values: np.ndarray) -> int | None:
    """The smallest value that occurs more than once."""
    unique, counts = np.unique(values, return_counts=True)
    return int(unique[counts > 1][0]) if len(unique) < len(values) else None


def _classes(categories: list[Category], domain: Domain, make_error: MakeError) -> list[str | None]:
    """Class names by class index; a release of a subset may leave gaps, which are None and may have no image."""
    numbers = np.array([category.id for category in categories], dtype=np.int64) - category_id(domain.k, 0)
    if len(numbers) == 0:
        raise make_error("lists no category", "write a list of {id, name} as `categories`")
    if (twice := _repeated(numbers)) is not None:
        raise make_error(
            f"repeats the category id {category_id(domain.k, twice)}", "give each category an `id` of its own"
        )
    if numbers.min() < 0 or numbers.max() >= 10**7 - 1:
        wrong = numbers[(numbers < 0) | (numbers >= 10**7 - 1)][0]
        raise make_error(
            f"holds the category id {category_id(domain.k, int(wrong))}, which is not of domain number {domain.k}",
            f"number its categories from {category_id(domain.k, 0)}, or put each domain's own annotation file there",
        )
    if numbers.max() >= 100_000:
        far = category_id(domain.k, int(numbers.max()))
        problem = f"holds the category id {far}, far beyond any class count"
        raise make_error(problem, f"number its categories from {category_id(domain.k, 0)} without gaps")
    names: list[str | None] = [None] * (int(numbers.max()) + 1)
    for number, category in zip(numbers, categories, strict=True):
        names[number] = str(category.id if category.name is None else category.name)
    return names


def _labels(
    annotations: list[Annotation], ids: np.ndarray, classes: list, domain: Domain, make_error: MakeError
) -> np.ndarray:
    """(N,) class indices in the order of `ids`, joined on the image id; a repeated equal label counts once."""
    images = np.array([a.image_id for a in annotations], dtype=np.int64)
    labels = np.array([a.category_id for a in annotations], dtype=np.int64) - category_id(domain.k, 0)
    order = np.lexsort((labels, images))
    images, labels = images[order], labels[order]
    again = images[1:] == images[:-1]
    if (differ := again & (labels[1:] != labels[:-1])).any():
        i = int(np.flatnonzero(differ)[0])
        one, other = (category_id(domain.k, int(label)) for label in labels[i : i + 2])
        problem = f"labels the image id {images[i]} twice, with the category ids {one} and {other}"
        raise make_error(problem, "keep one `category_id` for each image")
    images, labels = (values[np.append(True, ~again)[: len(values)]] for values in (images, labels))
    if len(foreign := np.setdiff1d(images, ids)):
        problem = f"labels the image id {foreign[0]}, which it does not list{_more(foreign)}"
        raise make_error(problem, "add the image to `images` or take its annotation out")
    if len(missing := np.setdiff1d(ids, images)):
        problem = f"gives no label for the image id {missing[0]}{_more(missing)}"
        raise make_error(problem, "add its annotation or take the image out of `images`")
    unknown = ~np.isin(labels, [label for label, name in enumerate(classes) if name is not None])
    if unknown.any():
        problem = f"names an unknown class: category id {category_id(domain.k, int(labels[unknown][0]))}"
        raise make_error(problem, "add it to `categories` or correct the annotation's `category_id`")
    return labels[np.searchsorted(images, ids)]


def _more(values: np.ndarray) -> str:
    return f" (nor {len(values) - 1:,} others)" if len(values) > 1 else ""


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
    """Writes one annotation file in the official layout and returns its path.

    `files` yields (file_name below root, width, height, class index). Images are numbered through train, val and test
    of a domain, and `first_number` is the number of this split's first image. With `stripped` (the test split as it is
    released) labels are left out. The file is not written atomically: call this inside a temporary folder.
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
    """The official domains with a train annotation file below `root`, in the order of the table.

    Raises InputError if `root` is not a release.
    """
    if not root.is_dir():
        state = "is no folder" if root.exists() else "does not exist"
        raise InputError(f"{root} {state}; give the folder that holds annotations/ and data/", field="data")
    domains = [domain for domain in DOMAINS.values() if annotation_path(root, domain.name, "train")]
    if not domains:
        raise InputError(
            f"{root} holds no annotations/<domain>_train.json; give the folder `decathlon-1.0` that holds "
            "annotations/ and data/, or fetch it with `make data DOWNLOAD=DIR`",
            field="data",
        )
    return domains
