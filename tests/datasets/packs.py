"""Helpers of the tests of packs."""

from pathlib import Path

import numpy as np

from visual_decathlon.datasets.annotations import Split
from visual_decathlon.datasets.catalogue import DOMAINS
from visual_decathlon.datasets.pack import Pack


def split_of(root: Path, files: list[str], labels=None, classes=("a", "b", "c")) -> Split:
    """A split of dtd's train with these files, labelled 0, 1, 2, 0, ... by default."""
    ids = np.arange(len(files)) + 40_000_001
    labels = np.arange(len(files)) % 3 if labels is None else labels
    return Split(DOMAINS["dtd"], "train", root, files, ids, labels, tuple(classes), "tiny", root / "dtd_train.json")


def contents(pack: Pack) -> list[np.ndarray]:
    """Copies of all images."""
    return [pack.image(i).copy() for i in range(len(pack))]


def entries(cache: Path) -> list[str]:
    """The names in a folder, sorted."""
    return sorted(p.name for p in cache.iterdir())
