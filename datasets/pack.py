"""Packs: a split is decoded once into a memory-mapped Arrow file of uint8 pixels of varying size, with ids and labels.

A pack is a folder with `pixels.arrow`, `contents.npy` (the hash of each file) and `manifest.json`, written in this
order. It is built under a temporary name and then renamed (datasets/io.py), so a killed or failed build leaves nothing
that could be taken for a complete pack. Memory is bounded by the images in work, however large the split is.

A pack is identified by its content: its name is a hash of file names, contents, labels and ids. So the same images in
another folder use the same pack, and other images never do. `stamps-<place>.npy`, next to the pixels, saves reading all
files each time, see `visual_decathlon.datasets.file_stamps`.
"""

import contextlib
import hashlib
import io
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from visual_decathlon.datasets.annotations import Split
from visual_decathlon.datasets.cores import cores
from visual_decathlon.datasets.decode import decode_bytes, resized
from visual_decathlon.datasets.errors import ImageError, ImageErrors, InputError, option
from visual_decathlon.datasets.file_stamps import NONE, FileProgress, Stamp, hashes, read_stamped, stamps
from visual_decathlon.datasets.io import (
    check_plain,
    clear,
    make_folder,
    move,
    read_plain,
    remove,
    temporary_name,
    write_bytes,
)
from visual_decathlon.datasets.text import as_text

VERSION = 4
CHUNK = 512  # images decoded and written together: about 70 MB for 144 x 288 pixels
_ANY = {"errors": "surrogateescape"}  # a file name may consist of any bytes: they are hashed as they are
SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.int64(), nullable=False),
        pa.field("label", pa.int64()),  # null if the release withholds labels
        pa.field("height", pa.int32(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("pixels", pa.large_binary(), nullable=False),  # (height, width, 3) uint8, RGB
        pa.field("file", pa.binary(), nullable=False),  # its path below the release or the user's folder, as bytes
    ]
)


class Pack:
    """A packed split: `images(index)` yields (H, W, 3) uint8 views; nothing is copied or decoded.

    `ids` (N,) int64, `labels` (N,) int64 or None, `sizes` (N, 2) heights and widths. `manifest` is the sha256 of the
    source files and labels, see `manifest`: equal manifests give equal results on every machine.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        metadata = _metadata(folder)
        check_plain(folder / "pixels.arrow")
        self.manifest: str = metadata["manifest"]
        self.classes: tuple[str, ...] = tuple(metadata["classes"])
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

    @cached_property
    def contents(self) -> np.ndarray:
        """(N, 32) uint8: the sha256 of each image's file."""
        contents = np.load(self.folder / "contents.npy", mmap_mode="r")
        if contents.shape != (len(self), 32):
            raise ValueError(f"contents.npy is of shape {contents.shape}")
        return contents

    def __len__(self) -> int:
        """Number of images."""
        return len(self.ids)

    def files(self, index: np.ndarray) -> list[str]:
        """The source files of the images with indices (n,), as POSIX paths below the release or the user's folder."""
        return [name.decode(**_ANY) for name in self._names.take(pa.array(index)).to_pylist()]

    def images(self, index: np.ndarray) -> Iterator[np.ndarray]:
        """Yields the images with indices (n,). They are looked up together, which takes a third of the time."""
        places = self._which[index].tolist(), self._start[index].tolist(), self.sizes[index].tolist()
        for which, start, (height, width) in zip(*places, strict=True):
            yield self.chunks[which][start : start + height * width * 3].reshape(height, width, 3)

    def image(self, i: int) -> np.ndarray:
        """Image `i`, (H, W, 3) uint8."""
        return next(self.images(np.array([i])))


def _metadata(folder: Path) -> dict:
    return json.loads(read_plain(folder / "manifest.json", most=2**26))


@dataclass(frozen=True)
class FuturePack:
    """What is known of a pack that is not built yet: where it will be, the manifest it will have, and its split."""

    folder: Path
    manifest: str
    split: Split

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names by label."""
        return self.split.classes

    @property
    def labels(self) -> np.ndarray | None:
        """(N,) int64 class indices, or None."""
        return self.split.labels

    def __len__(self) -> int:
        """Number of images."""
        return len(self.split)


def future_pack(
    split: Split, folder: Path, shorter: int, checking: FileProgress = lambda done, total: None
) -> Pack | FuturePack:
    """The pack of `split` below `folder`, or what is known of it where it is not built yet. Writes nothing.

    The files of a split without a pack are read, and not decoded. Raises ImageError for one that cannot be read.
    """
    stem = f"{split.domain.name}-{split.name}-{shorter}"
    if (existing := _find(split, folder, stem, f"stamps-{_place(split)}.npy", checking, renew=False)) is not None:
        return existing
    made = manifest(split, hashes(split.root, split.files, split.domain.name, checking)[0])
    return FuturePack(folder / f"{stem}-{_key(split, made)}", made, split)


def portable_files(folder: Path) -> list[Path]:
    """The files of a pack that another machine needs. Stamps of the original files are of this machine alone."""
    return [folder / name for name in ("pixels.arrow", "contents.npy", "manifest.json")]


def class_names(folder: Path) -> tuple[str, ...]:
    """A pack's class names by label, as text that can be shown; "" for a class index that the release does not use."""
    return tuple(as_text(name) for name in _metadata(folder)["classes"])


def pack(
    split: Split,
    folder: Path,
    shorter: int,
    progress: Callable[[int], None] = lambda images: None,
    checking: FileProgress = lambda done, total: None,
) -> Pack:
    """The pack of `split` below `folder`; it is built if it does not exist yet or is damaged.

    `shorter` is the shorter side in pixels, see `resized`. `progress` is called with the number of images of each
    decoded chunk, so never if the pack exists; `checking` is called while files are checked for changes. Raises
    ImageErrors naming the images that cannot be decoded, and InputError for a full or read-only disk.
    """
    stem = f"{split.domain.name}-{split.name}-{shorter}"
    stamps_name = f"stamps-{_place(split)}.npy"
    if (existing := _find(split, folder, stem, stamps_name, checking)) is not None:
        return existing
    building, target = temporary_name(folder / stem), None
    try:
        make_folder(folder)
        clear(folder)
        building.mkdir()
        contents, marks = _write(split, building / "pixels.arrow", shorter, progress)
        np.save(building / "contents.npy", contents)
        np.save(building / stamps_name, marks)
        made = manifest(split, contents)
        metadata = {"manifest": made, "images": len(split), "classes": split.classes, "version": VERSION}
        (building / "manifest.json").write_text(json.dumps(metadata))
        target = folder / f"{stem}-{_key(split, made)}"
        if target.exists() and _complete(target) is None:  # damaged; a complete one is another process's, see below
            remove(target)
        move(building, target)
    except OSError as error:
        if target is None or _complete(target) is None:  # else another process has finished the same pack
            raise InputError(
                f"{split.domain.name}: the decoded pixels cannot be written to {folder} ({error.strerror or error}); "
                f"free some space or name another folder with {option('cache')}"
            ) from None
    finally:
        remove(building)
    return Pack(target)


def _find(
    split: Split, folder: Path, stem: str, stamps_name: str, checking: FileProgress, renew: bool = True
) -> Pack | None:
    """The pack of exactly these images, in whatever folder they were when it was made; None if there is none.

    Only files whose stamp differs from the one they were hashed under are read.
    """
    packs = [path for path in folder.glob(f"{stem}-*") if path.is_dir()]
    stamped = [marks for path in packs if (marks := _stamped(path, stamps_name, len(split))) is not None]
    if not stamped and not any(len(other) == len(split) for path in packs if (other := _complete(path)) is not None):
        return None  # decoding will read all files
    now = stamps(split.root, split.files, checking)
    contents, known = np.zeros((len(split), 32), np.uint8), np.zeros(len(split), bool)
    for marks, hashed in stamped:
        same = ~known & (marks == now).all(axis=1) & (now != NONE).any(axis=1)
        contents[same] = hashed[same]
        known |= same
    changed = np.flatnonzero(~known)
    try:
        contents[changed], now[changed] = hashes(
            split.root, [split.files[i] for i in changed], split.domain.name, checking
        )
    except InputError:
        return None  # decoding will name all unreadable files
    result = _complete(folder / f"{stem}-{_key(split, manifest(split, contents))}")
    if renew and result is not None and (len(changed) or not (result.folder / stamps_name).is_file()):
        _renew(result.folder / stamps_name, now)
    return result


def _stamped(pack: Path, stamps_name: str, images: int) -> tuple[np.ndarray, np.ndarray] | None:
    """(stamps, contents) of the files that a pack was made from; None if it has none that can be read."""
    try:
        marks, contents = np.load(pack / stamps_name), np.load(pack / "contents.npy", mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    return (marks, contents) if marks.shape == (images, 4) and contents.shape == (images, 32) else None


def _renew(path: Path, marks: np.ndarray) -> None:
    """Replaces the stamps of a pack. If that fails, the files are read again the next time, and nothing else."""
    content = io.BytesIO()
    np.save(content, marks)
    with contextlib.suppress(InputError):
        write_bytes(content.getvalue(), path)


def _complete(target: Path) -> Pack | None:
    """The pack at `target`; None if there is none, or if it was truncated, emptied or partly removed."""
    try:
        result = Pack(target)
        result.contents  # noqa: B018  raises if it is damaged
        return result
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError):
        return None


def _place(split: Split) -> str:
    """A hash of the split's folder and file names: stamps are valid for these files only."""
    files = "\n".join([str(split.root.resolve()), *split.files])
    return hashlib.sha256(files.encode(**_ANY)).hexdigest()[:16]


def manifest(split: Split, contents: np.ndarray) -> str:
    """The sha256 of everything that affects a run's numbers: names, contents (N, 32), labels and classes."""
    digest = hashlib.sha256(repr(split.classes).encode())
    for first in range(0, len(split), CHUNK):
        chunk = slice(first, first + CHUNK)
        labels = [None] * CHUNK if split.labels is None else split.labels[chunk].tolist()
        rows = zip(split.files[chunk], contents[chunk], labels, strict=False)
        lines = (f"{name} {content.tobytes().hex()} {label}\n" for name, content, label in rows)
        digest.update("".join(lines).encode(**_ANY))
    return digest.hexdigest()


def _key(split: Split, made: str) -> str:
    return hashlib.sha256(f"{VERSION} {made} ".encode() + split.ids.tobytes()).hexdigest()[:16]


def _write(split: Split, path: Path, shorter: int, progress: Callable[[int], None]) -> tuple[np.ndarray, np.ndarray]:
    """Writes the pixels and returns (contents, stamps) of the files. Raises ImageErrors after all have been tried."""
    contents, marks = np.zeros((len(split), 32), np.uint8), np.zeros((len(split), 4), np.int64)
    errors = ImageErrors(split.domain.name, split.name)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
        for first, rows in _decoded(split, shorter):
            last = first + len(rows)
            progress(len(rows))
            for row in rows:
                if isinstance(row, ImageError):
                    errors.add(row)
            if errors.total:
                continue
            contents[first:last], marks[first:last], images = zip(*rows, strict=True)
            columns = [
                split.ids[first:last],
                [None] * len(rows) if split.labels is None else split.labels[first:last].tolist(),
                [image.shape[0] for image in images],
                [image.shape[1] for image in images],
                [image.tobytes() for image in images],
                [name.encode(**_ANY) for name in split.files[first:last]],
            ]
            arrays = [pa.array(c, field.type) for c, field in zip(columns, SCHEMA, strict=True)]
            writer.write_batch(pa.record_batch(arrays, schema=SCHEMA))
    if errors.total:
        raise errors
    return contents, marks


_Decoded = tuple[np.ndarray, Stamp, np.ndarray]
"""sha256 of the file (32,), its stamp, pixels (H, W, 3)"""


def _decoded(split: Split, shorter: int) -> Iterator[tuple[int, list[_Decoded | ImageError]]]:
    """Yields (index of the first image, [image or its error]) for each chunk; Pillow decodes outside the GIL."""

    def one(name: str) -> _Decoded | ImageError:
        path = split.root / name
        try:
            data, mark = read_stamped(path, split.domain.name)
            image = decode_bytes(data, path, split.domain.name)
        except ImageError as error:
            return error
        digest = np.frombuffer(hashlib.sha256(data).digest(), np.uint8)
        return digest, mark, np.asarray(resized(image, shorter))

    with ThreadPoolExecutor(cores()) as threads:
        for first in range(0, len(split), CHUNK):
            yield first, list(threads.map(one, split.files[first : first + CHUNK]))
