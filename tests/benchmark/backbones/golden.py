"""The golden files: numbers made by the residual adapters' released code (RA), under its names.

Two sets: the slim one at width 1/16 is committed, `tests/golden`; the one at width 1/4 lies outside the repository,
`../shared/golden`, and tests that need it are skipped where it is not there.
"""

from pathlib import Path

import pytest
import torch

from visual_decathlon.benchmark.backbones.weights import read_weights

MODES = ("bn", "series", "parallel")
CLASSES = (10, 7)  # of the two tasks
SHARED = Path(__file__).parents[4] / "shared"
SETS = {0.0625: Path(__file__).parents[2] / "golden", 0.25: SHARED / "golden"}  # width -> folder
SLIM = min(SETS)


def shared(name: str) -> Path:
    """A file of ../shared; the test is skipped where it is not there."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"../shared/{name} is not here")
    return path


def golden_numbers(mode: str, width: float = SLIM) -> dict[str, torch.Tensor]:
    """All tensors of a golden file, in float32."""
    name = f"golden_{mode}.safetensors"
    tensors, _ = read_weights(SETS[width] / name if width == SLIM else shared(f"golden/{name}"))
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def golden_weights(mode: str, width: float = SLIM) -> dict[str, torch.Tensor]:
    """The weights of a golden file, under RA's names."""
    numbers = golden_numbers(mode, width)
    return {name.removeprefix("weights/"): t for name, t in numbers.items() if name.startswith("weights/")}
