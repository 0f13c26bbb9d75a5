"""Small releases in the official layout, written by the reader's counterpart."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visual_decathlon.datasets.annotations import write_annotations
from visual_decathlon.datasets.catalogue import DOMAINS


def picture(path: Path, seed: int, size: tuple[int, int] = (80, 72)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def release(tmp_path: Path) -> Callable[..., Path]:
    """`release("dtd", "svhn")`: three classes a domain, with 3 images each in train, 2 in val, 1 in test (stripped)."""
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
                titles = ["sign1", "sign10", "sign2"]  # names sort as strings, so labels must come from ids
                write_annotations(root, DOMAINS[name], split, rows, titles, "tiny", number, stripped=split == "test")
                number += len(rows)
        return root

    return make
