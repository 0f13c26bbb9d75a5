"""Fixtures: small releases in the official layout, and splits of a few images."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.datasets.packs import split_of
from visual_decathlon.datasets.annotations import Split, write_annotations
from visual_decathlon.datasets.catalogue import DOMAINS


def picture(path: Path, seed: int, size: tuple[int, int] = (80, 72)) -> None:
    """Saves an image of random pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def release(tmp_path: Path) -> Callable[..., Path]:
    """`release("dtd", "svhn")`: 3 classes each, with 3 images per class in train, 2 in val, 1 in test (stripped)."""
    root = tmp_path / "decathlon-1.0"

    def make(*names: str) -> Path:
        for name in names:
            number = 1
            for split, each in (("train", 3), ("val", 2), ("test", 1)):
                rows = []
                for label in range(3):
                    for _ in range(each):
                        folder = "" if split == "test" else f"{label + 1:04}/"
                        file = f"data/{name}/{split}/{folder}{number + len(rows):06}.jpg"
                        picture(root / file, seed=number + len(rows))
                        rows.append((file, 80, 72, label))
                titles = ["sign1", "sign10", "sign2"]  # sorted as strings: labels must come from ids
                write_annotations(root, DOMAINS[name], split, rows, titles, "tiny", number, stripped=split == "test")
                number += len(rows)
        return root

    return make


@pytest.fixture
def many(tmp_path: Path) -> Split:
    """A split of ten small images of different sizes and contents."""
    root = tmp_path / "release"
    root.mkdir()
    rng = np.random.default_rng(0)
    for i in range(10):
        pixels = rng.integers(0, 256, (8 + i % 2, 8 + i, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{i}.png")
    return split_of(root, [f"{i}.png" for i in range(10)])


@pytest.fixture
def grey(tmp_path: Path) -> Split:
    """A split of four images whose PPM files have the same number of bytes."""
    root = tmp_path / "grey"
    root.mkdir()
    for i in range(4):
        Image.new("RGB", (8, 8), (i, i, i)).save(root / f"{i}.ppm")
    return split_of(root, [f"{i}.ppm" for i in range(4)])
