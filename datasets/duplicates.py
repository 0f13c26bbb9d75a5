"""Finds duplicate images, equal byte for byte: between training and evaluation, within a split, or in two classes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class HashedImages:
    """The images of a split with their hashes: `contents` (N, 32) uint8 sha256, `labels` (N,) class indices or None."""

    name: str
    files: Sequence[str]
    contents: np.ndarray
    labels: np.ndarray | None


def overlap(domain: str, trained: Sequence[HashedImages], evaluated: HashedImages, shown: int = 1) -> list[str]:
    """At most one sentence: how many evaluated images are in the training splits too, and the first `shown` of them."""
    train_hashes, files = _joined(trained)
    hashes = _short_hashes(evaluated)
    seen = np.flatnonzero(np.isin(hashes, train_hashes))
    if not len(seen):
        return []
    names = " and ".join(split.name for split in trained)
    first = {i: int(np.flatnonzero(train_hashes == hashes[i])[0]) for i in seen[:shown].tolist()}
    pairs = [(evaluated.files[i], files[other]) for i, other in first.items()]
    return [
        f"{domain}: {len(seen):,} of the {len(evaluated.files):,} images of {evaluated.name} are in {names} too, byte "
        f"for byte ({_pairs(pairs, len(seen))}); a figure on images that were trained on is too good"
    ]


def duplicates_within(domain: str, split: HashedImages, shown: int = 1) -> list[str]:
    """At most one sentence: how many images of a split repeat another file of it."""
    pairs = _equal_pairs(_short_hashes(split), np.zeros(len(split.files), int)).tolist()
    named = [(split.files[other], split.files[one]) for one, other in pairs if split.files[one] != split.files[other]]
    if not named:
        return []
    problem = f"{len(named):,} image(s) of {split.name} repeat another, byte for byte"
    return [f"{domain}: {problem} ({_pairs(named[:shown], len(named))})"]


def in_two_classes(domain: str, splits: Sequence[HashedImages], shown: int = 1) -> list[str]:
    """At most one sentence: how many images have more than one label."""
    splits = [split for split in splits if split.labels is not None]
    if not splits:
        return []
    hashes, files = _joined(splits)
    labels = np.concatenate([split.labels for split in splits])
    pairs = _equal_pairs(hashes, labels)
    pairs = pairs[labels[pairs[:, 0]] != labels[pairs[:, 1]]]
    if not len(pairs):
        return []
    named = [(files[one], files[other]) for one, other in pairs[:shown].tolist()]
    images = len(np.unique(hashes[pairs[:, 0]]))
    problem = f"{images:,} image(s) are in more than one class, byte for byte"
    return [f"{domain}: {problem} ({_pairs(named, len(pairs))}); one of the labels is wrong"]


def _joined(splits: Sequence[HashedImages]) -> tuple[np.ndarray, list[str]]:
    """The short hashes and the files of all splits, one after the other."""
    hashes = np.concatenate([_short_hashes(split) for split in splits])
    return hashes, [file for split in splits for file in split.files]


def _short_hashes(split: HashedImages) -> np.ndarray:
    """(N,) uint64, the first 8 bytes of each hash: in a million images two would be equal by chance with p = 3e-8."""
    return np.ascontiguousarray(split.contents[:, :8]).view(np.uint64).ravel()


def _equal_pairs(hashes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(n, 2) indices of equal hashes: each with the next one in the order of labels, sorted by the first index."""
    order = np.lexsort((np.arange(len(hashes)), labels, hashes))
    equal = hashes[order][1:] == hashes[order][:-1]
    pairs = np.stack([order[:-1][equal], order[1:][equal]], axis=1)
    return pairs[np.argsort(pairs[:, 0], kind="stable")]


def _pairs(pairs: Sequence[tuple[str, str]], total: int) -> str:
    """The given pairs of files as text; `total` is the number of all pairs."""
    named = "; ".join(f"{one} is {other}" for one, other in pairs)
    if total == len(pairs):
        return named
    return f"first: {named}" if len(pairs) == 1 else f"{named}; and {total - len(pairs):,} more"
