"""Hashes: the identity of a run is that of what decides its numbers, and of nothing else."""

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

TRAINING_VERSION = 2
"""Raise by hand whenever the same settings give other numbers: records of before then fit no more."""


def digest(**parts) -> str:
    """16 hex digits of the sha256 of the parts as JSON with sorted keys."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def tensors_digest(tensors: Mapping[str, "Tensor"]) -> str:
    """16 hex digits of the sha256 of tensors by name: of names, types, shapes and numbers, however they were saved."""
    import torch

    found = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()[:16]


def network_digest(tensors: Mapping[str, "Tensor"]) -> str:
    """That of a network's weights. Counters of batches decide nothing, and are not always there: they are left out."""
    return tensors_digest({name: t for name, t in tensors.items() if not name.endswith("num_batches_tracked")})


def trunk_digest(tensors: Mapping[str, "Tensor"]) -> str:
    """Of what a joint training's file holds, that of the weights that all domains share."""
    return network_digest({name: t for name, t in tensors.items() if name.startswith("trunk.")})
