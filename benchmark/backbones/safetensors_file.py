"""Reads safetensors files in one pass; writes them atomically, the same bytes for the same content."""

import errno
import json
import os
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor

from visual_decathlon.benchmark.backbones.limits import LARGEST, LARGEST_HEADER
from visual_decathlon.datasets.io import open_plain, write_bytes

_ALIGNED = 8  # bytes: size of the length in front of the header, and the format's alignment


def write_safetensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> int:
    """Writes durably and atomically; returns the size in bytes. A full disk raises InputError."""
    content = safetensors_bytes({name: t.contiguous() for name, t in on_host(tensors).items()}, metadata)
    write_bytes(content, path)
    return sum(map(len, content))


def safetensors_bytes(tensors: dict[str, Tensor], metadata: dict[str, str]) -> list[bytes | memoryview]:
    """The parts of a safetensors file, the same for the same tensors and metadata.

    The library writes tensors in a fixed order but metadata in a random one, so sorted metadata is added here.
    """
    content = memoryview(save(tensors))
    start = _ALIGNED + int.from_bytes(content[:_ALIGNED], "little")
    about = {"__metadata__": dict(sorted(metadata.items()))} | json.loads(bytes(content[_ALIGNED:start]))
    header = json.dumps(about, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-len(header) % _ALIGNED)  # so that numbers begin at a multiple of 8
    return [len(header).to_bytes(_ALIGNED, "little") + header, content[start:]]


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors on the CPU by name, and the metadata. Raises SafetensorError, OSError or ValueError.

    The file is opened once: safetensors' own readers open a path once for the header and once for the numbers, and mix
    two files where another command replaces it in between.
    """
    with open_plain(path, LARGEST) as file:
        length = file.read(_ALIGNED)
        text = file.read(min(int.from_bytes(length, "little"), LARGEST_HEADER))
        try:
            header = json.loads(text)
            about = header.pop("__metadata__", None) or {}
            end = max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
        except (LookupError, TypeError, AttributeError, RecursionError):
            raise ValueError("its header is none of safetensors") from None
        size = file.seek(0, os.SEEK_END)
        if _ALIGNED + len(text) + end != size:  # checked before everything is read
            raise ValueError(f"it has {size:,} bytes, its header states {_ALIGNED + len(text) + end:,}")
        file.seek(0)
        try:
            return load(file.read()), about
        except MemoryError:
            raise OSError(errno.ENOMEM, f"there is no memory for its {size:,} bytes", str(path)) from None


def on_host(tensors: dict[str, Tensor], copy: bool = False) -> dict[str, Tensor]:
    """The tensors on the CPU; with `copy` all of them are copies.

    Tensors of a GPU come in one transfer for each dtype: single transfers would each wait for the GPU.
    """
    result = {n: t.detach().clone() if copy and t.device.type == "cpu" else t.detach() for n, t in tensors.items()}
    away: dict[tuple[torch.device, torch.dtype], list[str]] = {}
    for name, t in result.items():
        if t.device.type != "cpu":
            away.setdefault((t.device, t.dtype), []).append(name)
    for names in away.values():
        flat = torch.cat([result[name].reshape(-1) for name in names]).cpu()
        for name, part in zip(names, flat.split([result[name].numel() for name in names]), strict=True):
            result[name] = part.view(result[name].shape).clone()
    return result
