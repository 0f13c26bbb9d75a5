"""Decodes a split once into a memory-mapped Arrow file of ragged uint8 pixels, with ids and labels.

A pack is a folder: `pixels.arrow`, `contents.npy` (the hash of each file), then `manifest.json`, written last. It is
built under another name and renamed whole (datasets/io.py), so a killed or failed build leaves nothing that is later
believed. Memory stays bounded by the images in flight, however large the split.

What was packed is known by its content: the pack's name is a hash of names, contents, labels and ids, so the same
images at another place are found again, and others never are. `stamps-<place>.npy` beside the pixels spares reading
all files each time, see `visual_decathlon.datasets.file_stamps`.
"""

import contextlib
import hashlib
import io
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from visual_decathlon.datasets.annotations import Split
from visual_decathlon.datasets.cores import cores
from visual_decathlon.datasets.decode import decode_bytes, resized
from visual_decathlon.datasets.errors import ImageError, ImageErrors, InputError
from visual_decathlon.datasets.file_stamps import NONE, Counted, Stamp, hashes, read_stamped, stamps
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
        about = _about(folder)
        check_plain(folder / "pixels.arrow")
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

    @cached_property
    def contents(self) -> np.ndarray:
        """(N, 32) uint8: the sha256 of each image's file."""
        found = np.load(self.folder / "contents.npy", mmap_mode="r")
        if found.shape != (len(self), 32):
            raise ValueError(f"contents.npy is of shape {found.shape}")
        return found

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


def _about(folder: Path) -> dict:
    return json.loads(read_plain(folder / "manifest.json", most=2**26))


def class_names(folder: Path) -> tuple[str, ...]:
    """A pack's class names by label, as text that can be shown; "" where the release leaves a gap."""
    return tuple(as_text(name) for name in _about(folder)["classes"])


def pack(
    split: Split,
    folder: Path,
    shorter: int,
    progress: Callable[[int], None] = lambda images: None,
    checking: Counted = lambda done, of: None,
) -> Pack:
    """The pack of `split` below `folder`, built if it is not there yet.

    `shorter` is the shorter side in pixels, see `resized`. `progress` is called with the number of images
    done, and never where the pack is there already; `checking` while files are looked at for changes.
    A damaged pack is built anew. Raises ImageErrors naming the images that do not decode, InputError for a
    full or read-only disk.
    """
    stem = f"{split.domain.name}-{split.name}-{shorter}"
    place = f"stamps-{_place(split)}.npy"
    if (there := _find(split, folder, stem, place, checking)) is not None:
        return there
    building, target = temporary_name(folder / stem), None
    try:
        make_folder(folder)
        clear(folder)
        building.mkdir()
        contents, marks = _write(split, building / "pixels.arrow", shorter, progress)
        np.save(building / "contents.npy", contents)
        np.save(building / place, marks)
        made = manifest(split, contents)
        about = {"manifest": made, "images": len(split), "classes": split.classes, "version": VERSION}
        (building / "manifest.json").write_text(json.dumps(about))
        target = folder / f"{stem}-{_key(split, made)}"
        if target.exists() and _whole(target) is None:  # damaged; a whole one is another process's, see below
            remove(target)
        move(building, target)
    except OSError as error:
        if target is None or _whole(target) is None:  # else another process has finished the same pack
            raise InputError(
                f"{split.domain.name}: the decoded pixels cannot be written to {folder} ({error.strerror or error}); "
                "free some space or name another folder with CACHE="
            ) from None
    finally:
        remove(building)
    return Pack(target)


def _find(split: Split, folder: Path, stem: str, place: str, checking: Counted) -> Pack | None:
    """The pack of these very images, wherever they lay when it was made; None where there is none.

    Only files whose stamp is no longer the one they were hashed under are read.
    """
    packs = [path for path in folder.glob(f"{stem}-*") if path.is_dir()]
    stamped = [marks for path in packs if (marks := _stamped(path, place, len(split))) is not None]
    if not stamped and not any(len(there) == len(split) for path in packs if (there := _whole(path)) is not None):
        return None  # decoding will read them all
    now = stamps(split.root, split.files, checking)
    contents, known = np.zeros((len(split), 32), np.uint8), np.zeros(len(split), bool)
    for marks, of in stamped:
        same = ~known & (marks == now).all(axis=1) & (now != NONE).any(axis=1)
        contents[same] = of[same]
        known |= same
    changed = np.flatnonzero(~known)
    try:
        contents[changed], now[changed] = hashes(
            split.root, [split.files[i] for i in changed], split.domain.name, checking
        )
    except InputError:
        return None  # decoding names every such file
    there = _whole(folder / f"{stem}-{_key(split, manifest(split, contents))}")
    if there is not None and (len(changed) or not (there.folder / place).is_file()):
        _renew(there.folder / place, now)
    return there


def _stamped(pack: Path, place: str, images: int) -> tuple[np.ndarray, np.ndarray] | None:
    """(stamps, contents) of the files of a place as a pack has them; None where it has none that can be read."""
    try:
        marks, contents = np.load(pack / place), np.load(pack / "contents.npy", mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    return (marks, contents) if marks.shape == (images, 4) and contents.shape == (images, 32) else None


def _renew(path: Path, marks: np.ndarray) -> None:
    """Put new stamps in place of old ones. Where that cannot be, the files are only read again the next time."""
    content = io.BytesIO()
    np.save(content, marks)
    with contextlib.suppress(InputError):
        write_bytes(content.getvalue(), path)


def _whole(target: Path) -> Pack | None:
    """The pack at `target`; None where there is none, or what is there was cut, emptied or partly removed."""
    try:
        there = Pack(target)
        there.contents  # noqa: B018  raises where it is damaged
        return there
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError):
        return None


def _place(split: Split) -> str:
    """Of which files, and where."""
    files = "\n".join([str(split.root.resolve()), *split.files])
    return hashlib.sha256(files.encode(**_ANY)).hexdigest()[:16]


def manifest(split: Split, contents: np.ndarray) -> str:
    """What decides a run's numbers: names, contents (N, 32), labels and classes."""
    digest = hashlib.sha256(repr(split.classes).encode())
    for first in range(0, len(split), CHUNK):
        some = slice(first, first + CHUNK)
        labels = [None] * CHUNK if split.labels is None else split.labels[some].tolist()
        rows = zip(split.files[some], contents[some], labels, strict=False)
        digest.update("".join(f"{name} {of.tobytes().hex()} {label}\n" for name, of, label in rows).encode(**_ANY))
    return digest.hexdigest()


def _key(split: Split, made: str) -> str:
    return hashlib.sha256(f"{VERSION} {made} ".encode() + split.ids.tobytes()).hexdigest()[:16]


def _write(split: Split, path: Path, shorter: int, progress: Callable[[int], None]) -> tuple[np.ndarray, np.ndarray]:
    """Write the pixels; (contents, stamps) of the files. Raises ImageErrors, once all were looked at."""
    contents, marks = np.zeros((len(split), 32), np.uint8), np.zeros((len(split), 4), np.int64)
    bad = ImageErrors(split.domain.name, split.name)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
        for first, rows in _decoded(split, shorter):
            last = first + len(rows)
            progress(len(rows))
            for row in rows:
                if isinstance(row, ImageError):
                    bad.add(row)
            if bad.total:
                continue
            digests, of, images = zip(*rows, strict=True)
            contents[first:last], marks[first:last] = digests, of
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
    if bad.total:
        raise bad
    return contents, marks


_Decoded = tuple[np.ndarray, Stamp, np.ndarray]
"""sha256 of the file (32,), its stamp, pixels (H, W, 3)"""


def _decoded(split: Split, shorter: int) -> Iterator[tuple[int, list[_Decoded | ImageError]]]:
    """(index of the first, [(sha256 of the file, its stamp, pixels)]) by chunks; Pillow decodes outside the GIL."""

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
