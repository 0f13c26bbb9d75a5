"""Reads a file of weights, telling by its content what it is: safetensors, or a PyTorch checkpoint."""

from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.backbones.pickled import LARGEST, read_pickled
from datasets.errors import BadInput
from datasets.io import open_plain

if TYPE_CHECKING:
    import torch

LARGEST_HEADER = 100_000_000  # bytes, safetensors' own limit


def read_weights(path: Path) -> "tuple[dict[str, torch.Tensor], dict[str, str]]":
    """Tensors on the CPU by name, and the metadata of a safetensors file (empty for a checkpoint).

    Nothing in the file is executed. Raises BadInput for a missing, damaged or foreign file.
    """
    try:
        with open_plain(path, LARGEST) as file:
            head = file.read(9)
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror or error}): check the path and its rights.") from None
    # safetensors: the header's length as 8 bytes, then the header, a JSON object
    if head[8:] == b"{" and int.from_bytes(head[:8], "little") <= LARGEST_HEADER:
        return _read_safetensors(path)
    return read_pickled(path), {}


def _read_safetensors(path: Path) -> "tuple[dict[str, torch.Tensor], dict[str, str]]":
    from safetensors import SafetensorError

    from benchmark.checkpoint import read_safetensors

    try:
        return read_safetensors(path)
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror or error}): check the path and its rights.") from None
    except (SafetensorError, ValueError):
        raise BadInput(f"{path} is cut off or damaged as a safetensors file: get it again.") from None
