"""Images that are there twice, byte for byte: evaluated on what was trained on, or standing in two classes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class HashedImages:
    """What of a split tells that images are repeated; `contents` (N, 32) uint8 sha256, `labels` (N,) or None."""

    name: str
    files: Sequence[str]
    contents: np.ndarray
    labels: np.ndarray | None


def overlap(domain: str, trained: Sequence[HashedImages], evaluated: HashedImages, shown: int = 1) -> list[str]:
    """At most one sentence: how many of the evaluated images are trained on, too, and the first `shown` of them."""
    values, files = _together(trained)
    theirs = _short(evaluated)
    again = np.flatnonzero(np.isin(theirs, values))
    if not len(again):
        return []
    names = " and ".join(split.name for split in trained)
    pairs = [(evaluated.files[i], files[int(np.flatnonzero(values == theirs[i])[0])]) for i in again[:shown].tolist()]
    return [
        f"{domain}: {len(again):,} of the {len(evaluated.files):,} images of {evaluated.name} are in {names} too, byte "
        f"for byte ({_pairs(pairs, len(again))}); a figure on images that were trained on is too good"
    ]


def duplicates_within(domain: str, split: HashedImages, shown: int = 1) -> list[str]:
    """At most one sentence: how many images of a split repeat another file of it."""
    pairs = _neighbours(_short(split), np.zeros(len(split.files), int)).tolist()
    named = [(split.files[other], split.files[one]) for one, other in pairs if split.files[one] != split.files[other]]
    if not named:
        return []
    what = f"{len(named):,} image(s) of {split.name} repeat another, byte for byte"
    return [f"{domain}: {what} ({_pairs(named[:shown], len(named))})"]


def in_two_classes(domain: str, splits: Sequence[HashedImages], shown: int = 1) -> list[str]:
    """At most one sentence: how many images have more than one label."""
    splits = [split for split in splits if split.labels is not None]
    if not splits:
        return []
    values, files = _together(splits)
    labels = np.concatenate([split.labels for split in splits])
    pairs = _neighbours(values, labels)
    pairs = pairs[labels[pairs[:, 0]] != labels[pairs[:, 1]]]
    if not len(pairs):
        return []
    named = [(files[one], files[other]) for one, other in pairs[:shown].tolist()]
    images = len(np.unique(values[pairs[:, 0]]))
    what = f"{images:,} image(s) stand in more than one class, byte for byte"
    return [f"{domain}: {what} ({_pairs(named, len(pairs))}); one of the labels is wrong"]


def _together(splits: Sequence[HashedImages]) -> tuple[np.ndarray, list[str]]:
    return np.concatenate([_short(split) for split in splits]), [file for split in splits for file in split.files]


def _short(split: HashedImages) -> np.ndarray:
    """(N,) uint64 of the hashes: of a million images two share these bits once in 30 million releases."""
    return np.ascontiguousarray(split.contents[:, :8]).view(np.uint64).ravel()


def _neighbours(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(n, 2) indices of equal values, each with the next one in the order of labels; in the order of the first."""
    order = np.lexsort((np.arange(len(values)), labels, values))
    equal = values[order][1:] == values[order][:-1]
    pairs = np.stack([order[:-1][equal], order[1:][equal]], axis=1)
    return pairs[np.argsort(pairs[:, 0], kind="stable")]


def _pairs(pairs: Sequence[tuple[str, str]], total: int) -> str:
    named = "; ".join(f"{one} is {other}" for one, other in pairs)
    if total == len(pairs):
        return named
    return f"first: {named}" if len(pairs) == 1 else f"{named}; and {total - len(pairs):,} more"
