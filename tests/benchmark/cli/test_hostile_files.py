"""Files where others belong: pipes, devices, sparse ones of 40 GB, and ZIPs that lie: a sentence, never a hang."""

import io
import os
import re
import struct
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save

from visual_decathlon.benchmark.backbones.weights import read_weights
from visual_decathlon.benchmark.perf import store
from visual_decathlon.benchmark.records import parquet_file
from visual_decathlon.benchmark.records.predictions import read_predictions
from visual_decathlon.benchmark.records.store import read_records
from visual_decathlon.benchmark.runs.data import annotation_digest
from visual_decathlon.benchmark.serving.multi_domain import MultiDomain
from visual_decathlon.benchmark.submission import archive
from visual_decathlon.datasets.annotations import read_file
from visual_decathlon.datasets.catalogue import DOMAINS
from visual_decathlon.datasets.decode import decode
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.datasets.own_domain import read_folder


def _own(path: Path) -> None:
    """An own domain whose domain.json is that file."""
    for name in ("a/1.png", "b/1.png", "a/2.png", "b/2.png"):
        (path.parent / "own" / name).parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "own" / name).touch()
    (path.parent / "own" / "domain.json").symlink_to(path)
    read_folder("mine", path.parent / "own", "train")


def _beside(path: Path) -> None:
    """A release with that file as the annotations of a domain that nobody knows."""
    (path.parent / "annotations").mkdir()
    (path.parent / "annotations" / "other_val.json").symlink_to(path)
    annotation_digest(path.parent, ["val"])


READERS: dict[str, Callable[[Path], object]] = {
    "submission": archive.read,
    "labels": lambda path: read_file(path, path.parent, DOMAINS["dtd"], "test"),
    "weights": read_weights,
    "backbone": MultiDomain,
    "predictions": read_predictions,
    "image": lambda path: decode(path, "mine"),
    "domain.json": _own,
    "annotations": _beside,
}
KINDS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a pipe": (os.mkfifo, "it is a pipe or device, not a plain file"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "it is a pipe or device, not a plain file"),
    "40 GB": (lambda path: (path.write_bytes(b"PK\x03\x04"), os.truncate(path, 40 * 10**9)), "it has 40,000,000,000"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reader", READERS)
def test_a_file_that_is_not_plain_or_too_large_is_refused(reader: str, kind: str, tmp_path: Path):
    make, expected = KINDS[kind]
    make(tmp_path / "x")
    with pytest.raises(InputError) as caught:
        READERS[reader](tmp_path / "x")
    sentence = str(caught.value)
    assert re.search(rf"{tmp_path}/\S+", sentence) and "\n" not in sentence
    assert re.search("[;:] (check|see|restore|remove|get|name|give)", sentence), "names the remedy"
    assert expected in sentence or "is not a plain file" in sentence


@contextmanager
def _little_memory(most: int = 2 * 10**6) -> Iterator[None]:
    """Asserts that Python allocates fewer bytes than `most` inside the context."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


def test_a_file_that_seems_larger_than_its_tensors_is_not_read(tmp_path: Path):
    """A safetensors file with a hole of 3 GB at its end."""
    path = tmp_path / "x.safetensors"
    path.write_bytes(save({"a": torch.ones(3)}))
    os.truncate(path, 3 * 10**9)
    with (
        _little_memory(),
        pytest.raises(InputError, match=r"x.safetensors is cut off or damaged as a safetensors file"),
    ):
        read_weights(path)


@pytest.mark.parametrize(
    "header", [b"[1]      ", b'{"a": 1}', b'{"a": {"data_offsets": [0]}}', b"{" + b'"a":[' * 9999, b"{\xff"]
)
def test_a_header_that_is_none(header: bytes, tmp_path: Path):
    (tmp_path / "x").write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(InputError, match=r"x (is cut off or damaged|is no PyTorch checkpoint)"):
        read_weights(tmp_path / "x")


def _zip(content: bytes, name: str = "results.json", method: int = zipfile.ZIP_DEFLATED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as zipped:
        zipped.writestr(name, content)
    return packed.getvalue()


def _declaring(packed: bytes, size: int) -> bytes:
    """The ZIP with another size of its member in both headers."""
    local, central = packed.index(b"PK\x03\x04") + 22, packed.index(b"PK\x01\x02") + 24
    for place in (local, central):
        packed = packed[:place] + struct.pack("<I", size) + packed[place + 4 :]
    return packed


BOMBS = {
    "declares less": (lambda: _declaring(_zip(b"[" + b" " * 10**7), 100), "cannot be read (Bad CRC-32"),
    "declares more": (lambda: _declaring(_zip(b"[]"), 2**31), "unpacks to over 268,435,456 bytes"),
    "of another kind": (lambda: _zip(b" " * 10**7, method=zipfile.ZIP_BZIP2), "pack results.json with Deflate"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_zip_with_a_false_size_is_not_unpacked(bomb: str, tmp_path: Path):
    made, expected = BOMBS[bomb]
    path = tmp_path / "x.zip"
    path.write_bytes(made())
    with _little_memory(), pytest.raises(InputError) as caught:
        archive.read(path)
    assert str(path) in str(caught.value) and expected in str(caught.value)


def test_a_zip_that_unpacks_to_much_is_stopped_in_time(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(archive, "LARGEST", 10**5)
    path = tmp_path / "x.zip"
    path.write_bytes(_zip(b" " * 10**7))
    with _little_memory(), pytest.raises(InputError, match="unpacks to over 100,000 bytes"):
        archive.read(path)


def test_stored_and_deflated_members_are_read(tmp_path: Path):
    entries = msgspec.json.encode([{"image_id": 1, "category_id": 2}])
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        (tmp_path / "x.zip").write_bytes(_zip(entries, method=method))
        assert archive.read(tmp_path / "x.zip").images.tolist() == [1]


def test_a_small_parquet_file_that_holds_much_is_not_read(tmp_path: Path, monkeypatch):
    """Values that repeat take no room: 200,000 of a list in a file of a few kB."""
    many = pa.table({"schema": [1], "hash": ["x"], "method": ["x"], "history": [[0] * 200_000]})
    pq.write_table(many, tmp_path / "x.parquet")
    assert (tmp_path / "x.parquet").stat().st_size < 10_000
    monkeypatch.setattr(parquet_file, "_VALUES", 10_000)
    with pytest.raises(InputError, match=r"x.parquet is no readable Parquet file \(.*it unpacks to 200,000 values"):
        read_records([tmp_path])
    with pytest.raises(InputError, match=r"x.parquet holds no predictions \(.*it unpacks to 200,000 values"):
        read_predictions(tmp_path / "x.parquet")


def test_a_pipe_among_the_records_is_refused(tmp_path: Path):
    os.mkfifo(tmp_path / "x.parquet")
    with pytest.raises(InputError, match=r"x.parquet is no plain file; remove it"):
        read_records([tmp_path])


@pytest.mark.parametrize("kind", KINDS)
def test_measurements_that_are_no_plain_file_are_set_aside(kind: str, tmp_path: Path, capsys):
    make, expected = KINDS[kind]
    make(tmp_path / "perf.parquet")
    assert store.load_previous(tmp_path / "perf.parquet", {"a": int}, "a", "table") == {}
    assert expected in capsys.readouterr().err and not (tmp_path / "perf.parquet").exists()
