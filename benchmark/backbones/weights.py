"""Reads a file of weights and detects its format by its content: safetensors or a PyTorch checkpoint."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from visual_decathlon.benchmark.backbones.limits import LARGEST, LARGEST_HEADER
from visual_decathlon.benchmark.backbones.pickle_names import Refused
from visual_decathlon.benchmark.backbones.selection import Selected, select_network
from visual_decathlon.benchmark.backbones.state_dicts import StateDict
from visual_decathlon.benchmark.backbones.torch_checkpoint import LEGACY_HEADS, read_pickled
from visual_decathlon.benchmark.config.backbone_names import OWN
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.datasets.io import open_plain

if TYPE_CHECKING:
    import torch


def read_weights(path: Path) -> "tuple[dict[str, torch.Tensor], dict[str, str]]":
    """Reads the tensors by name, on the CPU, and the metadata of a safetensors file (empty for a checkpoint).

    Nothing in the file is executed. Raises InputError for a missing, damaged or foreign file.
    """
    return _read_safetensors(path) if _is_safetensors(path) else (read_pickled(path), {})


def read_network(path: Path, network: str, choice: str = "") -> "tuple[Selected, dict[str, str]]":
    """Reads the network of this name from a file, at the place `choice` if given, and the metadata.

    Nothing in the file is executed. Raises InputError as `read_weights`, WithoutNetwork where it holds no such network.
    """
    selected: list[Selected] = []

    def choose(candidates: list[StateDict]) -> dict:
        selected.append(select_network(candidates, network, choice))
        return selected[0].tensors

    if not _is_safetensors(path):
        tensors = read_pickled(path, choose)
        return _fitted(replace(selected[0], tensors=tensors), network), {}
    tensors, about = _read_safetensors(path)
    try:
        choose([StateDict("", tensors)])
    except Refused as refusal:
        raise refusal.error(f"{path} {refusal}") from None
    return _fitted(selected[0], network), about


def _fitted(selected: Selected, network: str) -> Selected:
    """The same with the tensors of a library's network at its own shapes."""
    if network == OWN:
        return selected
    from visual_decathlon.benchmark.backbones.library_weights import fitted

    tensors, sentences = fitted(network, selected.tensors, selected.foreign)
    return Selected(tensors, (*selected.sentences, *sentences))


def _is_safetensors(path: Path) -> bool:
    """Whether its content is that of safetensors: the header's length in 8 bytes, then the header, a JSON object."""
    try:
        with open_plain(path, LARGEST) as file:
            head = file.read(9)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}): check the path and its rights.") from None
    return head[8:] == b"{" and int.from_bytes(head[:8], "little") <= LARGEST_HEADER


def is_weights(path: Path) -> bool:
    """Whether a file's first bytes are those of a safetensors file or of what torch.save writes."""
    try:
        with open_plain(path, LARGEST) as file:
            head = file.read(32)
        return _is_safetensors(path) or head.startswith((b"PK", *LEGACY_HEADS))
    except (OSError, InputError):
        return False


def _read_safetensors(path: Path) -> "tuple[dict[str, torch.Tensor], dict[str, str]]":
    from safetensors import SafetensorError

    from visual_decathlon.benchmark.backbones.safetensors_file import read_safetensors

    try:
        return read_safetensors(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}): check the path and its rights.") from None
    except (SafetensorError, ValueError):
        raise InputError(f"{path} is cut off or damaged as a safetensors file: get it again.") from None
