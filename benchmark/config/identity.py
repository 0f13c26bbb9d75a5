"""Hashes. The hash of a run covers everything that decides its numbers, and nothing else."""

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

TRAINING_VERSION = 2
"""Raise this by hand whenever the same settings give other numbers: older records then no longer match."""


def digest(**parts) -> str:
    """Returns the first 16 hex digits of the SHA-256 of the parts, as JSON with sorted keys."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def tensors_digest(tensors: Mapping[str, "Tensor"]) -> str:
    """Returns 16 hex digits of the SHA-256 of tensors: of their names, types, shapes and values, in whatever file."""
    import torch

    hashed = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        hashed.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        hashed.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return hashed.hexdigest()[:16]


def network_digest(tensors: Mapping[str, "Tensor"]) -> str:
    """Hashes the weights of a network, without the batch counters of batch norm: they do not change any output."""
    return tensors_digest({name: t for name, t in tensors.items() if not name.endswith("num_batches_tracked")})


def trunk_digest(tensors: Mapping[str, "Tensor"]) -> str:
    """Hashes the weights that all domains share, from the tensors in the file of a joint training."""
    return network_digest({name: t for name, t in tensors.items() if name.startswith("trunk.")})
