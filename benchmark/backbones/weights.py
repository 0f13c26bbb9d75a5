"""Reads a file of weights, telling by its content what it is: safetensors, or a PyTorch checkpoint."""

from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.backbones.pickled import read_pickled
from datasets.errors import BadInput

if TYPE_CHECKING:
    import torch

_LARGEST_HEADER = 100_000_000  # bytes, safetensors' own limit


def read_weights(path: Path) -> "tuple[dict[str, torch.Tensor], dict[str, str]]":
    """Tensors on the CPU by name, and the metadata of a safetensors file (empty for a checkpoint).

    Nothing in the file is executed. Raises BadInput for a missing, damaged or foreign file.
    """
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        why = getattr(error, "strerror", None) or error
        raise BadInput(f"{path} cannot be read ({why}): check the path and its rights.") from None
    # safetensors: the header's length as 8 bytes, then the header, a JSON object
    if head[8:] == b"{" and int.from_bytes(head[:8], "little") <= _LARGEST_HEADER:
        return _read_safetensors(path)
    return read_pickled(path), {}


def _read_safetensors(path: Path) -> "tuple[dict[str, torch.Tensor], dict[str, str]]":
    from safetensors import SafetensorError

    from benchmark.checkpoint import read_safetensors

    try:
        return read_safetensors(path)
    except (SafetensorError, OSError, LookupError, ValueError):
        raise BadInput(f"{path} is cut off or damaged as a safetensors file: get it again.") from None
