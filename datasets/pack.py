"""Decodes a split once into a memory-mapped Arrow file of ragged uint8 pixels, with ids and labels.

A pack is a folder: `pixels.arrow`, then `manifest.json`, written last. It is built under another name
and renamed whole (datasets/io.py), so a killed or failed build leaves nothing that is later believed. Memory stays
bounded by the images in flight, however large the split.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa

from datasets.annotations import Split
from datasets.cores import cores
from datasets.decode import decode_bytes, read_bytes, resized
from datasets.errors import BadInput
from datasets.io import clear, make_folder, move, remove, temporary_name
from datasets.text import as_text

VERSION = 3
CHUNK = 512  # images decoded and written together: at most some 70 MB of 144 x 288 pixels
_ANY = {"errors": "surrogateescape"}  # a file's name may be any bytes: hash those
SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.int64(), nullable=False),
        pa.field("label", pa.int64()),  # null where the release keeps labels back
        pa.field("height", pa.int32(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("pixels", pa.large_binary(), nullable=False),  # (height, width, 3) uint8, RGB
        pa.field("file", pa.binary(), nullable=False),  # its path below the release or the own folder, as bytes
    ]
)


class Pack:
    """A packed split: `images(index)` are (H, W, 3) uint8 views, nothing is copied or decoded.

    `ids` (N,) int64, `labels` (N,) int64 or None, `sizes` (N, 2) heights and widths, `manifest` the
    sha256 of the source files and labels: what decides a run's numbers, on every machine.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        about = json.loads((folder / "manifest.json").read_text())
        self.manifest: str = about["manifest"]
        self.classes: tuple[str, ...] = tuple(about["classes"])
        self._file = pa.memory_map(str(folder / "pixels.arrow"))
        table = pa.ipc.open_file(self._file).read_all()
        self._names = table["file"]
        self.ids = table["image_id"].to_numpy()
        self.labels = None if table["label"].null_count else table["label"].to_numpy()
        self.sizes = np.stack([table["height"].to_numpy(), table["width"].to_numpy()], axis=1)
        self.chunks: list[np.ndarray] = []  # flat uint8, one per record batch
        starts, which = [], []
        for number, column in enumerate(table["pixels"].chunks):
            _, offsets, data = column.buffers()
            offsets = np.frombuffer(offsets, np.int64)[column.offset : column.offset + len(column) + 1]
            self.chunks.append(np.frombuffer(data, np.uint8) if data else np.empty(0, np.uint8))
            starts.append(offsets[:-1])
            which.append(np.full(len(column), number))
        self._start, self._which = np.concatenate(starts), np.concatenate(which)

    def __len__(self) -> int:
        return len(self.ids)

    def files(self, index: np.ndarray) -> list[str]:
        """The source files of the indices (n,), as POSIX paths below the release or the own folder."""
        return [name.decode(**_ANY) for name in self._names.take(pa.array(index)).to_pylist()]

    def images(self, index: np.ndarray) -> Iterator[np.ndarray]:
        """Those of the indices (n,), one after the other; looked up together, which costs a third of one by one."""
        places = self._which[index].tolist(), self._start[index].tolist(), self.sizes[index].tolist()
        for which, start, (height, width) in zip(*places, strict=True):
            yield self.chunks[which][start : start + height * width * 3].reshape(height, width, 3)

    def image(self, i: int) -> np.ndarray:
        return next(self.images(np.array([i])))


def class_names(folder: Path) -> tuple[str, ...]:
    """A pack's class names by label, as text that can be shown; "" where the release leaves a gap."""
    return tuple(as_text(name) for name in json.loads((folder / "manifest.json").read_text())["classes"])


def pack(split: Split, folder: Path, shorter: int, progress: Callable[[int], None] = lambda images: None) -> Pack:
    """The pack of `split` below `folder`, built if it is not there yet.

    `shorter` is the shorter side in pixels, see `resized`. `progress` is called with the number of images
    done, and never where the pack is there already. A damaged pack is built anew. Raises BadInput naming
    the image that does not decode, or the full or read-only disk.
    """
    target = folder / f"{split.domain.name}-{split.name}-{shorter}-{_key(split, shorter)}"
    if (there := _whole(target)) is not None:
        return there
    building = temporary_name(target)
    try:
        make_folder(folder)
        clear(folder)
        building.mkdir()
        manifest = _write(split, building / "pixels.arrow", shorter, progress)
        about = {"manifest": manifest, "images": len(split), "classes": split.classes, "version": VERSION}
        (building / "manifest.json").write_text(json.dumps(about))
        if target.exists() and _whole(target) is None:  # damaged; a whole one is another process's, see below
            remove(target)
        move(building, target)
    except OSError as error:
        if _whole(target) is None:  # else another process has finished the same pack
            raise BadInput(
                f"{split.domain.name}: the decoded pixels cannot be written to {folder} ({error.strerror or error}); "
                "free some space or name another folder with CACHE="
            ) from None
    finally:
        remove(building)
    return Pack(target)


def _whole(target: Path) -> Pack | None:
    """The pack at `target`; None where there is none, or what is there was cut, emptied or partly removed."""
    try:
        return Pack(target)
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError):
        return None


def _key(split: Split, shorter: int) -> str:
    """Changes when the annotations, any file's size or time of change, or the way of packing do."""
    digest = hashlib.sha256(f"{VERSION} {shorter} {split.root.resolve()} {split.classes}".encode(**_ANY))
    for name in split.files:
        try:
            stat = os.stat(split.root / name)
            digest.update(f"{name} {stat.st_size} {stat.st_mtime_ns}\n".encode(**_ANY))
        except OSError:
            digest.update(f"{name} absent\n".encode(**_ANY))  # decoding it tells the user so
    digest.update(split.ids.tobytes())
    digest.update(b"" if split.labels is None else split.labels.tobytes())
    return digest.hexdigest()[:16]


def _write(split: Split, path: Path, shorter: int, progress: Callable[[int], None]) -> str:
    digest = hashlib.sha256(repr(split.classes).encode())
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
        for first, rows in _decoded(split, shorter):
            hashes, images = zip(*rows, strict=True)
            last = first + len(rows)
            labels = [None] * len(rows) if split.labels is None else split.labels[first:last].tolist()
            for name, content, label in zip(split.files[first:last], hashes, labels, strict=True):
                digest.update(f"{name} {content} {label}\n".encode(**_ANY))
            columns = [
                split.ids[first:last],
                labels,
                [image.shape[0] for image in images],
                [image.shape[1] for image in images],
                [image.tobytes() for image in images],
                [name.encode(**_ANY) for name in split.files[first:last]],
            ]
            arrays = [pa.array(c, field.type) for c, field in zip(columns, SCHEMA, strict=True)]
            writer.write_batch(pa.record_batch(arrays, schema=SCHEMA))
            progress(len(rows))
    return digest.hexdigest()


def _decoded(split: Split, shorter: int) -> Iterator[tuple[int, list[tuple[str, np.ndarray]]]]:
    """(index of the first, [(sha256 of the file, pixels)]) chunk by chunk; Pillow decodes outside the GIL."""

    def one(name: str) -> tuple[str, np.ndarray]:
        path = split.root / name
        data = read_bytes(path, split.domain.name)
        image = decode_bytes(data, path, split.domain.name)
        return hashlib.sha256(data).hexdigest(), np.asarray(resized(image, shorter))

    with ThreadPoolExecutor(cores()) as threads:
        for first in range(0, len(split), CHUNK):
            yield first, list(threads.map(one, split.files[first : first + CHUNK]))
