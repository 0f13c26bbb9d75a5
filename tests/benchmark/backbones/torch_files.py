"""Writes PyTorch checkpoints of every format for the tests, honest ones and others."""

import math
import pickle
import struct
import sys
import types
import zipfile
import zlib
from pathlib import Path

import pytest
import torch
from torch import nn

from visual_decathlon.benchmark.backbones.torch_checkpoint import read_pickled
from visual_decathlon.datasets.errors import InputError

LEGACY_HEAD = b"".join(
    pickle.dumps(part, 2)
    for part in (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}})
)


def same(got: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert list(got) == list(wanted)
    for name, value in wanted.items():
        assert got[name].dtype == value.dtype and got[name].shape == value.shape, name
        assert got[name].contiguous().numpy().tobytes() == value.detach().contiguous().numpy().tobytes(), name


class conv_task(nn.Module):
    """Named as in the residual adapters' released code."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, bias=False)
        self.bns = nn.ModuleList([nn.BatchNorm2d(4) for _ in range(2)])


class ResNet(nn.Module):
    """A network with shared modules, absent parameters, and buffers of both kinds."""

    def __init__(self):
        super().__init__()
        self.pre_layers_conv = conv_task()
        self.layer1 = nn.Sequential(nn.ReLU(True), conv_task())
        self.linears = nn.ModuleList([nn.Linear(4, 5), nn.Linear(4, 2)])
        self.again = self.linears[1]
        self.nothing = None
        self.register_parameter("absent", None)
        self.register_buffer("kept", torch.arange(6).reshape(2, 3).t())
        self.register_buffer("hidden", torch.zeros(2), persistent=False)


conv_task.__module__ = ResNet.__module__ = "models"


def bring_models() -> None:
    """Adds the module `models`, where pickling finds the classes; `saved` removes it."""
    sys.modules["models"] = types.ModuleType("models")
    sys.modules["models"].__dict__.update(conv_task=conv_task, ResNet=ResNet)


def saved(path: Path, thing: object, legacy: bool, **how: object) -> Path:
    torch.save(thing, path, _use_new_zipfile_serialization=not legacy, **how)
    sys.modules.pop("models", None)  # from here on the classes do not exist
    return path


def refused(path: Path, match: str | None = None) -> str:
    with pytest.raises(InputError, match=match) as caught:
        read_pickled(path)
    sentence = str(caught.value)
    assert sentence.startswith(str(path)) and sentence.count("\n") == 0 and sentence.isprintable()
    return sentence


def zipped(path: Path, body: bytes, data: dict[str, bytes] | None = None, **how: object) -> Path:
    with zipfile.ZipFile(path, "w", **how) as archive:
        archive.writestr("x/data.pkl", body)
        archive.writestr("x/byteorder", b"little")
        for key, raw in (data or {}).items():
            archive.writestr(f"x/data/{key}", raw)
    return path


def everywhere(folder: Path, body: bytes) -> list[Path]:
    """The same pickle as a whole file, as the object of a legacy file, and in a zip."""
    (folder / "alone.t7").write_bytes(body)
    (folder / "legacy.t7").write_bytes(LEGACY_HEAD + body + pickle.dumps([], 2))
    return [folder / "alone.t7", folder / "legacy.t7", zipped(folder / "zip.pt", body)]


class Calls:
    """Pickled as a call of `function`."""

    def __init__(self, function, *arguments, state=None):
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.reduced


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def tensor_pickle(numel=6, offset=0, size=(2, 3), stride=None, view=None, key="7", alone=False) -> bytes:
    """A pickle of {'w': one float tensor}, in the legacy way, that may lie about its numbers."""
    stride = stride if stride is not None else tuple(math.prod(size[n + 1 :]) for n in range(len(size)))

    def value(thing) -> bytes:
        return pickle.dumps(thing, 2)[2:-1].replace(b"q\x00", b"").replace(b"q\x01", b"").replace(b"q\x02", b"")

    saved_id = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cpu") + value(numel)
    saved_id += (value(view) if view or not alone else b"") + b"tQ"
    tensor = b"ctorch._utils\n_rebuild_tensor\n(" + saved_id + value(offset) + value(size) + value(stride) + b"tR"
    return tensor if alone else b"\x80\x02}" + text("w") + tensor + b"s."


def entry_head(signature: bytes, name: str, raw: bytes) -> bytes:
    """A zip entry's header, stored; names are 10 characters long, so that it is 40 bytes (a multiple of 4)."""
    assert len(name) == 10
    return (
        signature + struct.pack("<HHHHIIIHH", 0, 0, 0, 33, zlib.crc32(raw), len(raw), len(raw), 10, 0) + name.encode()
    )
