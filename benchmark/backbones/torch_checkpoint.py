"""Reads other people's PyTorch checkpoints without executing anything in them.

Two formats: the zip archive of today, and the legacy one (one stream: magic number, version, machine, object,
storages): https://github.com/pytorch/pytorch/blob/main/torch/serialization.py. The pickle is followed by
`pickle_machine`; `state_dicts` finds the weights in its object.
"""

import io
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from visual_decathlon.benchmark.backbones.known_names import SIZES
from visual_decathlon.benchmark.backbones.limits import LARGEST
from visual_decathlon.benchmark.backbones.pickle_machine import DAMAGE, follow
from visual_decathlon.benchmark.backbones.pickle_names import (
    Described,
    Inert,
    Refused,
    Storage,
)
from visual_decathlon.benchmark.backbones.state_dicts import StateDict, only, state_dicts
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.datasets.io import open_plain, read_plain
from visual_decathlon.datasets.zip_file import open_zip

if TYPE_CHECKING:
    import torch

Choose = Callable[[list[StateDict]], dict[str, Described]]
"""choose(state dicts of a file) -> the tensors to read, under their new names."""

_LEGACY_MAGIC, _LEGACY_VERSION = 0x1950A86A20F9469CFC6C, 1001
LEGACY_HEADS = (b"\x80", b"L%dL\n" % _LEGACY_MAGIC)  # the second of protocols 0 and 1, which name no protocol


def _assemble(wanted: dict[str, Described], data: Callable[[Storage], bytearray]) -> "dict[str, torch.Tensor]":
    """Tensors on the CPU from their storages' bytes, each storage read once and shared where the file shares it."""
    import torch

    raw: dict[str, bytearray] = {}
    flat: dict[tuple[str, str], torch.Tensor] = {}
    tensors = {}
    for name, tensor in wanted.items():
        key = tensor.storage.key
        if (key, tensor.dtype) not in flat:
            if key not in raw:
                raw[key] = data(tensor.storage) if tensor.storage.numel else bytearray()
            dtype = getattr(torch, tensor.dtype)
            # frombuffer refuses an empty buffer
            made = torch.frombuffer(raw[key], dtype=dtype) if raw[key] else torch.empty(0, dtype=dtype)
            flat[key, tensor.dtype] = made
        tensors[name] = torch.as_strided(flat[key, tensor.dtype], tensor.size, tensor.stride, tensor.offset)
    return tensors


def _bytes_of(storage: Storage) -> int:
    return storage.numel * SIZES[storage.dtype]


def _little_endian(little: bool) -> None:
    if not little:
        raise Refused("was written on a big-endian machine: save it again on a little-endian one.")


def _from_zip(path: Path, choose: Choose) -> "dict[str, torch.Tensor]":
    left = path.stat().st_size  # bytes that may still be read, so that overlapping entries cannot multiply
    with open_plain(path, LARGEST) as file, open_zip(file) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}

        def read(name: str, size: int | None = None) -> bytearray:
            nonlocal left
            entry = entries[name]
            if entry.compress_type != zipfile.ZIP_STORED:
                raise Refused("is a compressed zip archive, not what torch.save writes: save it again.")
            left -= entry.file_size
            if left < 0 or size not in (None, entry.file_size):
                raise EOFError
            return bytearray(archive.read(entry))

        pickles = [name for name in entries if re.fullmatch(r"([^/]+/)?data\.pkl", name)]
        if len(pickles) != 1:
            raise Refused("is a zip archive, but not one that torch.save writes: give a checkpoint of PyTorch.")
        folder = pickles[0].removesuffix("data.pkl")
        if f"{folder}constants.pkl" in entries:
            raise Refused("is a TorchScript archive: load it by torch.jit.load, and torch.save its state_dict().")
        if f"{folder}byteorder" in entries:
            _little_endian(read(f"{folder}byteorder") == b"little")
        tensors = choose(state_dicts(follow(io.BytesIO(read(pickles[0])), {})))
        return _assemble(tensors, lambda storage: read(f"{folder}data/{storage.key}", _bytes_of(storage)))


def _from_legacy(path: Path, choose: Choose) -> "dict[str, torch.Tensor]":
    whole = read_plain(path, LARGEST)
    stream = io.BytesIO(whole)
    storages: dict[str, Storage] = {}
    if (top := follow(stream, {})) != _LEGACY_MAGIC:
        what = f" of {top.kind[:80]!a}" if type(top) is Inert else ""
        raise Refused(f"is a pickle{what}, but not one that torch.save writes: give a checkpoint of PyTorch.")
    if follow(stream, {}) != _LEGACY_VERSION:
        raise Refused("is of an unknown version of PyTorch's legacy format: save it again with a newer PyTorch.")
    _little_endian(follow(stream, {})["little_endian"] is True)
    tensors = choose(state_dicts(follow(stream, storages)))
    spans: dict[str, slice] = {}
    for key in follow(stream, {}):  # the data follow in this order: number of elements (int64), elements
        storage = storages[key] if type(key) is str else None
        (numel,) = struct.unpack("<q", stream.read(8))
        if storage is None or numel != storage.numel:
            raise EOFError
        start = stream.tell()
        stop = start + _bytes_of(storage)
        if stop > len(whole):
            raise EOFError
        spans[key] = slice(start, stop)
        stream.seek(stop)
    return _assemble(tensors, lambda storage: bytearray(memoryview(whole)[spans[storage.key]]))


# Errors that damaged bytes can end in: besides DAMAGE zip's own (BadZipFile; RuntimeError for encryption and unknown
# versions).
_ZIP_DAMAGE = (zipfile.BadZipFile, RuntimeError)


_FOREIGN = {
    b"<": "a web page",
    b"version https://git-lfs": "a pointer of Git LFS (`git lfs pull` fetches the file)",
    b"\x89HDF": "an HDF5 file, as Keras writes",
    b"\x1f\x8b": "a gzip archive",
}


def read_pickled(path: Path, choose: Choose = only) -> "dict[str, torch.Tensor]":
    """Reads the weights of a PyTorch checkpoint by `state_dict` name, on the CPU; nothing in the file is executed.

    Takes whole modules and state dicts, alone or in a dictionary, in zip and legacy format. Without `choose` it takes
    the plainest state dict, without the prefix of all its names (`module.`). Raises InputError for anything else.
    """
    try:
        with open_plain(path, LARGEST) as file:
            head = file.read(32)
        if head.startswith(b"PK"):
            return _from_zip(path, choose)
        if head.startswith(LEGACY_HEADS):
            return _from_legacy(path, choose)
        if not head:
            raise Refused("is empty: get it again.")
        if len(head) >= 4 and (1 <= int.from_bytes(head[:4], "little") <= 8 or re.match(rb"[1-8]\n", head)):
            raise Refused("is a file of Lua Torch7, not of PyTorch: give the PyTorch checkpoint.")
        what = next((f" but {what}" for magic, what in _FOREIGN.items() if head.startswith(magic)), "")
        raise Refused(f"is no PyTorch checkpoint{what}: give a file that torch.save wrote, or a safetensors file.")
    except InputError:  # of the settings; it is a ValueError, as damaged bytes may give
        raise
    except Refused as refusal:
        raise refusal.error(f"{path} {refusal}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}): check the path and its rights.") from None
    except MemoryError:
        raise InputError(f"{path} needs more memory than there is: give a checkpoint of the weights alone.") from None
    except (*DAMAGE, *_ZIP_DAMAGE):
        raise InputError(f"{path} is cut off or damaged as a PyTorch checkpoint: get it again.") from None
