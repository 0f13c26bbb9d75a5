"""Images that are there twice, byte for byte: evaluated on what was trained on, or standing in two classes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Listed:
    """What of a split tells that images are repeated; `contents` (N, 32) uint8 sha256, `labels` (N,) or None."""

    name: str
    files: Sequence[str]
    contents: np.ndarray
    labels: np.ndarray | None


def repeated(domain: str, trained: Sequence[Listed], evaluated: Listed | None, within: bool = False) -> list[str]:
    """A sentence for each way in which images of the domain are repeated; `within` train counts, too."""
    notes = []
    known = [_short(split) for split in trained]
    everything = np.concatenate(known)
    names = " and ".join(split.name for split in trained)
    if evaluated is not None:
        again = np.flatnonzero(np.isin(_short(evaluated), everything))
        if len(again):
            i = int(again[0])
            notes.append(
                f"{domain}: {len(again):,} of the {len(evaluated.files):,} images of {evaluated.name} are in {names} "
                f"too, byte for byte (first: {evaluated.files[i]} is {_first(trained, known, _short(evaluated)[i])}); "
                "a figure on images that were trained on is too good"
            )
    if within and (more := len(everything) - len(np.unique(everything))):
        value = _more_than_once(everything)
        notes.append(
            f"{domain}: {more:,} images of {names} repeat another one byte for byte "
            f"(first: {_first(trained, known, value)})"
        )
    splits = [
        split for split in (*trained, *([evaluated] if evaluated is not None else [])) if split.labels is not None
    ]
    return notes + _in_two_classes(domain, splits)


def _in_two_classes(domain: str, splits: Sequence[Listed]) -> list[str]:
    values = np.concatenate([_short(split) for split in splits])
    labels = np.concatenate([split.labels for split in splits])
    order = np.lexsort((labels, values))
    same = values[order][1:] == values[order][:-1]
    differ = same & (labels[order][1:] != labels[order][:-1])
    if not differ.any():
        return []
    files = [file for split in splits for file in split.files]
    place = int(np.flatnonzero(differ)[0])
    one, other = files[order[place]], files[order[place + 1]]
    images = len(np.unique(values[order][1:][differ]))
    return [
        f"{domain}: {images:,} images stand in more than one class, byte for byte (first: {one} is {other}); "
        "one of the labels is wrong"
    ]


def _short(split: Listed) -> np.ndarray:
    """(N,) uint64 of the hashes: at a million images two share these bits once in 30 million releases."""
    return np.ascontiguousarray(split.contents[:, :8]).view(np.uint64).ravel()


def _more_than_once(values: np.ndarray) -> np.uint64:
    unique, counts = np.unique(values, return_counts=True)
    return unique[counts > 1][0]


def _first(splits: Sequence[Listed], known: Sequence[np.ndarray], value: np.uint64) -> str:
    for split, values in zip(splits, known, strict=True):
        if len(at := np.flatnonzero(values == value)):
            return split.files[int(at[0])]
    raise KeyError(value)
