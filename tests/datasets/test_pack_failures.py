"""A pack is complete or does not exist: damaged images, damaged packs, killed and simultaneous builds, full disks."""

import errno
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.datasets.packs import contents, entries
from visual_decathlon.datasets import pack as packing
from visual_decathlon.datasets.errors import ImageErrors, InputError
from visual_decathlon.datasets.pack import pack

ROOT = Path(__file__).parents[2]


def test_a_damaged_image_is_named_and_nothing_stays(many, tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "CHUNK", 2)
    good = (many.root / "7.png").read_bytes()
    for data in (good[:50], b"", None):
        if data is None:
            (many.root / "7.png").unlink()
        else:
            (many.root / "7.png").write_bytes(data)
        with pytest.raises(InputError, match=r"dtd.*7\.png") as caught:
            pack(many, tmp_path / "cache", 8)
        assert "\n" not in str(caught.value)
        assert entries(tmp_path / "cache") == []
    (many.root / "7.png").write_bytes(good)
    assert len(pack(many, tmp_path / "cache", 8)) == 10


def test_all_damaged_images_are_named_together(many, tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "CHUNK", 3)
    progress = []
    (many.root / "1.png").write_bytes((many.root / "1.png").read_bytes()[:60])
    (many.root / "4.png").write_bytes(b"")
    (many.root / "8.png").write_text("no image")
    (many.root / "9.png").unlink()
    with pytest.raises(ImageErrors) as caught:
        pack(many, tmp_path / "cache", 8, progress.append)
    sentence = str(caught.value)
    assert sentence.startswith("dtd: 4 images of train cannot be read: ") and sentence.endswith("remove them")
    problems = ((1, "is trunc"), (4, "is empty"), (8, "is not an"))
    places = [sentence.index(f"{i}.png {problem}") for i, problem in problems]
    assert places == sorted(places) and "9.png is missing" in sentence and "\n" not in sentence
    assert sum(progress) == 10 and entries(tmp_path / "cache") == []
    for i in range(10):
        (many.root / f"{i}.png").write_bytes(b"")
    with pytest.raises(ImageErrors, match=r"10 images of train .* and 5 more; "):
        pack(many, tmp_path / "cache", 8)


def test_a_pipe_in_place_of_an_image_does_not_hang(many, tmp_path):
    (many.root / "7.png").unlink()
    os.mkfifo(many.root / "7.png")
    with pytest.raises(InputError, match=r"dtd: .*7\.png is not a plain file; "):
        pack(many, tmp_path / "cache", 8)
    assert entries(tmp_path / "cache") == []


def remove_all_files(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


DAMAGE = {
    "pixels cut": lambda folder: os.truncate(folder / "pixels.arrow", 1000),
    "pixels empty": lambda folder: os.truncate(folder / "pixels.arrow", 0),
    "pixels gone": lambda folder: (folder / "pixels.arrow").unlink(),
    "manifest cut": lambda folder: os.truncate(folder / "manifest.json", 20),
    "manifest of another kind": lambda folder: (folder / "manifest.json").write_text("[]"),
    "manifest lacks a key": lambda folder: (folder / "manifest.json").write_text("{}"),
    "manifest no text": lambda folder: (folder / "manifest.json").write_bytes(b"\xff"),
    "manifest gone": lambda folder: (folder / "manifest.json").unlink(),
    "contents cut": lambda folder: os.truncate(folder / "contents.npy", 200),
    "contents of another kind": lambda folder: np.save(folder / "contents.npy", np.zeros(3)),
    "contents gone": lambda folder: (folder / "contents.npy").unlink(),
    "nothing left": remove_all_files,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_pack_is_built_anew(many, tmp_path, damage):
    cache, progress = tmp_path / "cache", []
    first = pack(many, cache, 8)
    wanted = contents(first)
    DAMAGE[damage](first.folder)
    again = pack(many, cache, 8, progress.append)
    assert progress == [10] and again.folder == first.folder and again.manifest == first.manifest
    assert all(np.array_equal(a, b) for a, b in zip(contents(again), wanted, strict=True))
    assert entries(cache) == [first.folder.name]
    assert pack(many, cache, 8, progress.append).manifest == first.manifest and progress == [10]


SCRIPT = """
import signal
from pathlib import Path
from tests.datasets.packs import split_of
from visual_decathlon.datasets import pack as packing
packing.CHUNK = 2
def wait(n):
    print(n, flush=True)
    signal.pause()  # until it is killed
packing.pack(split_of(Path({root!r}), {files!r}), Path({cache!r}), 8, wait)
"""


def test_killed_in_the_middle(many, tmp_path, processes):
    cache = tmp_path / "cache"
    script = SCRIPT.format(root=str(many.root), files=many.files, cache=str(cache))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    child = processes.start([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"2\n"
    processes.end()
    (left,) = entries(cache)
    assert left.startswith(".") and (cache / left / "pixels.arrow").is_file()
    made = pack(many, cache, 8)
    assert made.ids.tolist() == many.ids.tolist()
    assert entries(cache) == [made.folder.name]  # what the killed build had left is gone


def test_two_at_once_both_finish(many, tmp_path, monkeypatch):
    """A second build of the same pack runs completely while the first is between two chunks."""
    monkeypatch.setattr(packing, "CHUNK", 4)
    cache, inner = tmp_path / "cache", []
    outer = pack(many, cache, 8, lambda n: inner or inner.append(pack(many, cache, 8)))
    (inner,) = inner
    assert outer.folder == inner.folder and entries(cache) == [outer.folder.name]
    assert all(np.array_equal(a, b) for a, b in zip(contents(outer), contents(inner), strict=True))


def test_a_complete_pack_is_never_replaced(many, tmp_path):
    """Another build finishes first, and its pack may be in use: it is kept, and this build is discarded."""
    cache, kept = tmp_path / "cache", []
    elsewhere = pack(many, tmp_path / "elsewhere", 8).folder

    def meanwhile(n: int) -> None:
        shutil.copytree(elsewhere, cache / elsewhere.name)
        kept.append((cache / elsewhere.name / "pixels.arrow").open("rb"))

    made = pack(many, cache, 8, meanwhile)
    with kept[0] as reader:
        assert os.path.samestat(os.fstat(reader.fileno()), os.stat(made.folder / "pixels.arrow"))
    assert entries(cache) == [elsewhere.name]


def test_full_disk(many, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(pa.RecordBatchFileWriter, "write_batch", full, raising=False)
        patched.setattr(pa.ipc.RecordBatchFileWriter, "write_batch", full, raising=False)
        with pytest.raises(InputError, match=r"dtd: .*cannot be written to .*No space left.*cache="):
            pack(many, tmp_path / "cache", 8)
    assert entries(tmp_path / "cache") == []
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))  # the system's own error, through Arrow
    try:
        with pytest.raises(InputError, match=r"dtd: .*cannot be written to .*[Ff]ile too large.*cache="):
            pack(many, tmp_path / "cache", 8)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert entries(tmp_path / "cache") == []
    assert len(pack(many, tmp_path / "cache", 8)) == 10


def test_a_folder_that_cannot_be_made(many, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"dtd: .*cannot be written to .*cache="):
        pack(many, tmp_path / "file" / "cache", 8)
