"""Packs hold what PIL decodes, are known by the bytes they came from, and are whole or not there."""

import dataclasses
import errno
import hashlib
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from visual_decathlon.datasets import file_stamps
from visual_decathlon.datasets import pack as packing
from visual_decathlon.datasets.annotations import Split, read_split
from visual_decathlon.datasets.batches import Batches
from visual_decathlon.datasets.catalogue import DOMAINS
from visual_decathlon.datasets.errors import ImageErrors, InputError
from visual_decathlon.datasets.pack import Pack, pack

ROOT = Path(__file__).parents[2]


def split_of(root: Path, files: list[str], labels=None, classes=("a", "b", "c")) -> Split:
    ids = np.arange(len(files)) + 40_000_001
    labels = np.arange(len(files)) % 3 if labels is None else labels
    return Split(DOMAINS["dtd"], "train", root, files, ids, labels, tuple(classes), "tiny", root / "dtd_train.json")


@pytest.fixture
def many(tmp_path):
    """A split of ten small images, each another size and content."""
    root = tmp_path / "release"
    root.mkdir()
    rng = np.random.default_rng(0)
    for i in range(10):
        pixels = rng.integers(0, 256, (8 + i % 2, 8 + i, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{i}.png")
    return split_of(root, [f"{i}.png" for i in range(10)])


def contents(made: Pack) -> list:
    return [made.image(i).copy() for i in range(len(made))]


def entries(cache: Path) -> list[str]:
    return sorted(p.name for p in cache.iterdir())


# --- content ----------------------------------------------------------------------------------------------------


def test_a_release_as_pil_decodes_it(release, tmp_path):
    root = release("dtd")
    for name in ("train", "val", "test"):
        split = read_split(root, DOMAINS["dtd"], name)
        made = pack(split, tmp_path / "cache", 72)
        assert len(made) == len(split) and made.classes == split.classes
        assert made.ids.dtype == np.int64 and np.array_equal(made.ids, split.ids)
        assert (made.labels is None) == (name == "test")
        assert made.labels is None or np.array_equal(made.labels, split.labels)
        for i, file in enumerate(split.files):
            wanted = np.asarray(Image.open(root / file).convert("RGB"))
            assert made.image(i).dtype == np.uint8 and np.array_equal(made.image(i), wanted)
            assert tuple(made.sizes[i]) == wanted.shape[:2] == (72, 80)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ((80, 72), None),
        ((73, 95), None),
        ((144, 72), None),
        ((72, 72), None),
        ((71, 90), (72, 91)),
        ((90, 74), (88, 72)),
        ((200, 100), (144, 72)),
        ((30, 20), (108, 72)),
        ((20, 30), (72, 108)),
        ((101, 90), (81, 72)),
    ],
)
def test_resizing(tmp_path, given, kept):
    """Width and height: a shorter side of 72 or 73 is kept, all others become 72 by PIL's bilinear filter."""
    pixels = np.random.default_rng(0).integers(0, 256, (given[1], given[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    image = pack(split_of(tmp_path, ["x.png"]), tmp_path / "cache", 72).image(0)
    wanted = pixels if kept is None else np.asarray(Image.fromarray(pixels).resize(kept, Image.Resampling.BICUBIC))
    assert np.array_equal(image, wanted)


def test_grey_and_alpha_become_rgb(tmp_path):
    Image.new("L", (8, 8), 77).save(tmp_path / "grey.png")
    Image.new("RGBA", (8, 8), (1, 2, 3, 4)).save(tmp_path / "alpha.png")
    made = pack(split_of(tmp_path, ["grey.png", "alpha.png"]), tmp_path / "cache", 8)
    assert (made.image(0) == 77).all() and (made.image(1) == (1, 2, 3)).all()


def test_it_knows_its_source_files(many, tmp_path, monkeypatch):
    """By index, over chunks; a name may be any bytes."""
    monkeypatch.setattr(packing, "CHUNK", 4)
    odd = os.fsdecode(b"caf\xe9 \xc3\xa9\n.png")
    os.rename(many.root / "9.png", many.root / odd)
    made = pack(dataclasses.replace(many, files=[*many.files[:-1], odd]), tmp_path / "cache", 8)
    assert made.files(np.arange(10)) == [*(f"{i}.png" for i in range(9)), odd]
    assert made.files(np.array([9, 0, 5])) == [odd, "0.png", "5.png"] and made.files(np.arange(0)) == []
    assert Batches([(made, np.array([8, 2])), (made, np.array([5]))], many.domain, 8, 4).files() == [
        "8.png",
        "2.png",
        "5.png",
    ]


def test_one_chunk_is_many(many, tmp_path, monkeypatch):
    told = []
    one = pack(many, tmp_path / "one", 8, told.append)
    assert told == [10] and len(one.chunks) == 1
    for size in (1, 3, 5):
        monkeypatch.setattr(packing, "CHUNK", size)
        told.clear()
        cut = pack(many, tmp_path / f"cut{size}", 8, told.append)
        assert sum(told) == 10 and len(cut.chunks) == -(-10 // size)
        assert cut.manifest == one.manifest
        assert np.array_equal(cut.ids, one.ids) and np.array_equal(cut.labels, one.labels)
        assert np.array_equal(cut.sizes, one.sizes)
        assert all(np.array_equal(a, b) for a, b in zip(contents(cut), contents(one), strict=True))


def test_packed_once(many, tmp_path, monkeypatch):
    first = pack(many, tmp_path / "cache", 8)
    monkeypatch.setattr(packing, "_write", lambda *_: pytest.fail("decoded again"))
    told = []
    again = pack(many, tmp_path / "cache", 8, told.append)
    assert again.folder == first.folder and told == []  # nothing was decoded
    assert all(np.array_equal(a, b) for a, b in zip(contents(again), contents(first), strict=True))


def test_an_image_is_a_view(many, tmp_path):
    image = pack(many, tmp_path / "cache", 8).image(3)
    assert image.base is not None and not image.flags.writeable


# --- what it is known by ----------------------------------------------------------------------------------------


def test_manifest_tells_the_data(many, tmp_path):
    def manifest(split: Split, where: str) -> str:
        return pack(split, tmp_path / where, 8).manifest

    base = manifest(many, "a")
    moved = tmp_path / "elsewhere"
    shutil.copytree(many.root, moved)
    os.utime(moved / "3.png", ns=(10**18, 10**18))
    assert manifest(dataclasses.replace(many, root=moved, source=moved / "x.json"), "b") == base
    with open(moved / "3.png", "ab") as file:  # bytes behind the image: the same pixels
        file.write(b"\0")
    assert manifest(dataclasses.replace(many, root=moved), "c") != base
    labels = many.labels.copy()
    labels[0] = 2
    assert manifest(dataclasses.replace(many, labels=labels), "d") != base
    assert manifest(dataclasses.replace(many, labels=None), "e") != base
    assert manifest(dataclasses.replace(many, classes=("a", "b", "d")), "f") != base
    os.rename(many.root / "9.png", many.root / "x.png")
    assert manifest(dataclasses.replace(many, files=[*many.files[:-1], "x.png"]), "g") != base


def test_the_manifest_is_the_one_that_finished_runs_were_hashed_with(many, tmp_path, monkeypatch):
    """Written down a second time: another manifest would make every finished run of a user's own data another run."""
    for labels in (many.labels, None):
        digest = hashlib.sha256(repr(("a", "b", "c")).encode())
        for i, file in enumerate(many.files):
            content = hashlib.sha256((many.root / file).read_bytes()).hexdigest()
            digest.update(f"{file} {content} {None if labels is None else int(labels[i])}\n".encode())
        for chunk in (3, 512):
            monkeypatch.setattr(packing, "CHUNK", chunk)
            made = pack(dataclasses.replace(many, labels=labels), tmp_path / f"cache{chunk}", 8)
            assert made.manifest == digest.hexdigest()


def rewrite(path: Path, content: bytes) -> None:
    """Other content under the old times and size, in the same file, once the file system's clock has ticked."""
    stat = path.stat()
    assert stat.st_size == len(content)
    while path.stat().st_ctime_ns == stat.st_ctime_ns:
        with open(path, "r+b") as file:
            file.write(content)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.fixture
def grey(tmp_path):
    """Four images of one size in bytes, as PPM gives them."""
    root = tmp_path / "grey"
    root.mkdir()
    for i in range(4):
        Image.new("RGB", (8, 8), (i, i, i)).save(root / f"{i}.ppm")
    return split_of(root, [f"{i}.ppm" for i in range(4)])


@pytest.fixture
def read_again(monkeypatch) -> list[int]:
    """How many files each call of `pack` had to read although it decoded none; stamps are trusted at once."""
    counts = []

    def counted(root, files, *more):
        counts.append(len(files))
        return reading(root, files, *more)

    reading = packing.hashes
    monkeypatch.setattr(packing, "hashes", counted)
    monkeypatch.setattr(file_stamps, "SETTLED", -(10**18))
    return counts


@pytest.mark.parametrize("settled", [-(10**18), 2 * 10**9])
def test_other_pixels_under_the_old_times_and_size(grey, tmp_path, monkeypatch, settled):
    monkeypatch.setattr(file_stamps, "SETTLED", settled)
    first = pack(grey, tmp_path / "cache", 8)
    old = (grey.root / "2.ppm").read_bytes()
    rewrite(grey.root / "2.ppm", old[:-192] + b"\xc8" * 192)
    second = pack(grey, tmp_path / "cache", 8)
    assert second.folder != first.folder and second.manifest != first.manifest
    assert (second.image(2) == 200).all() and (second.image(1) == 1).all()
    assert (first.image(2) == 2).all()  # who reads the old one keeps it
    new = grey.root / "new"
    new.write_bytes(old)
    os.replace(new, grey.root / "2.ppm")  # and the old file comes back, as another inode
    assert pack(grey, tmp_path / "cache", 8, lambda n: pytest.fail("decoded")).folder == first.folder


def test_a_change_in_the_tick_of_the_clock_in_which_the_file_was_read(grey, tmp_path, monkeypatch):
    """Nothing tells the two apart but the content: so fresh a stamp is not believed."""
    stat = {path: (204, 5, time.time_ns(), 7) for path in map(str, grey.root.iterdir())}
    monkeypatch.setattr(file_stamps, "stamp", lambda path: stat[str(path)])
    first = pack(grey, tmp_path / "cache", 8)
    rewrite(grey.root / "2.ppm", (grey.root / "3.ppm").read_bytes())
    assert (pack(grey, tmp_path / "cache", 8).image(2) == 3).all() and (first.image(2) == 2).all()


def test_unchanged_files_are_believed_and_changed_ones_read(grey, tmp_path, read_again):
    def again(**changes) -> Pack:
        return pack(dataclasses.replace(grey, **changes), tmp_path / "cache", 8, lambda n: pytest.fail("decoded"))

    first = pack(grey, tmp_path / "cache", 8)
    assert again().folder == first.folder and read_again == [0]
    os.utime(grey.root / "1.ppm", ns=(2**62, 2**62))  # far ahead
    assert again().folder == first.folder and again().folder == first.folder
    assert read_again == [0, 1, 0]  # its stamp was renewed
    (marks,) = first.folder.glob("stamps-*")
    marks.write_bytes(marks.read_bytes()[:100])  # a damaged list costs a second look
    assert again().folder == first.folder and again().folder == first.folder
    assert read_again == [0, 1, 0, 4, 0]


def test_where_stamps_cannot_be_kept(grey, tmp_path, read_again, monkeypatch):
    first = pack(grey, tmp_path / "cache", 8)
    os.utime(grey.root / "1.ppm", ns=(5, 5))

    def refuse(*_):
        raise OSError(errno.EROFS, "read-only")

    monkeypatch.setattr(os, "replace", refuse)
    for _ in range(2):
        assert pack(grey, tmp_path / "cache", 8).folder == first.folder
    assert read_again == [1, 1] and not [p for p in first.folder.iterdir() if p.name.startswith(".")]


def test_a_moved_or_copied_release_is_found_again(grey, tmp_path, read_again):
    first = pack(grey, tmp_path / "cache", 8)
    shutil.copytree(grey.root, tmp_path / "copy")
    moved = dataclasses.replace(grey, root=tmp_path / "copy")
    for _ in range(2):
        assert pack(moved, tmp_path / "cache", 8, lambda n: pytest.fail("decoded")).folder == first.folder
    assert read_again == [4, 0]


def test_labels_ids_classes_and_sizes_have_packs_of_their_own(grey, tmp_path):
    def folder(split: Split = grey, shorter: int = 8) -> Path:
        made = pack(split, tmp_path / "cache", shorter)
        assert np.array_equal(made.ids, split.ids) and made.classes == split.classes
        assert made.labels is None if split.labels is None else np.array_equal(made.labels, split.labels)
        return made.folder

    changes = [
        {"ids": grey.ids + 1},
        {"labels": grey.labels[::-1].copy()},
        {"labels": None},
        {"classes": ("a", "b", "d")},
        {"files": grey.files[::-1]},
    ]
    splits = [grey, *(dataclasses.replace(grey, **change) for change in changes)]
    folders = [folder(split) for split in splits] + [folder(shorter=9)]
    assert len(set(folders)) == len(folders)
    assert [folder(split) for split in splits] == folders[:-1]


def test_an_image_that_vanished_after_packing_is_named(grey, tmp_path, read_again):
    pack(grey, tmp_path / "cache", 8)
    (grey.root / "3.ppm").unlink()
    with pytest.raises(ImageErrors, match=r"dtd: .*3\.ppm is missing; "):
        pack(grey, tmp_path / "cache", 8)


# --- whole or not there -----------------------------------------------------------------------------------------


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
    told = []
    (many.root / "1.png").write_bytes((many.root / "1.png").read_bytes()[:60])
    (many.root / "4.png").write_bytes(b"")
    (many.root / "8.png").write_text("no image")
    (many.root / "9.png").unlink()
    with pytest.raises(ImageErrors) as caught:
        pack(many, tmp_path / "cache", 8, told.append)
    sentence = str(caught.value)
    assert sentence.startswith("dtd: 4 images of train cannot be read: ") and sentence.endswith("remove them")
    places = [sentence.index(f"{i}.png {what}") for i, what in ((1, "is trunc"), (4, "is empty"), (8, "is not an"))]
    assert places == sorted(places) and "9.png is missing" in sentence and "\n" not in sentence
    assert sum(told) == 10 and entries(tmp_path / "cache") == []
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


def damage_nothing_left(folder: Path) -> None:
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
    "nothing left": damage_nothing_left,
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_pack_is_built_anew(many, tmp_path, what):
    cache, told = tmp_path / "cache", []
    first = pack(many, cache, 8)
    wanted = contents(first)
    DAMAGE[what](first.folder)
    again = pack(many, cache, 8, told.append)
    assert told == [10] and again.folder == first.folder and again.manifest == first.manifest
    assert all(np.array_equal(a, b) for a, b in zip(contents(again), wanted, strict=True))
    assert entries(cache) == [first.folder.name]
    assert pack(many, cache, 8, told.append).manifest == first.manifest and told == [10]


SCRIPT = """
import signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_pack import packing, split_of
packing.CHUNK = 2
def told(n):
    print(n, flush=True)
    signal.pause()  # until it is killed
packing.pack(split_of(Path({root!r}), {files!r}), Path({cache!r}), 8, told)
"""


def test_killed_in_the_middle(many, tmp_path, processes):
    cache = tmp_path / "cache"
    script = SCRIPT.format(tests=str(Path(__file__).parent), root=str(many.root), files=many.files, cache=str(cache))
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
    """A second build of the same pack runs through while the first stands between two chunks."""
    monkeypatch.setattr(packing, "CHUNK", 4)
    cache, inner = tmp_path / "cache", []
    outer = pack(many, cache, 8, lambda n: inner or inner.append(pack(many, cache, 8)))
    (inner,) = inner
    assert outer.folder == inner.folder and entries(cache) == [outer.folder.name]
    assert all(np.array_equal(a, b) for a, b in zip(contents(outer), contents(inner), strict=True))


def test_a_whole_pack_is_never_replaced(many, tmp_path):
    """Another build ends first, and has not yet cleared this one away: who reads its pack keeps it."""
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
        with pytest.raises(InputError, match=r"dtd: .*cannot be written to .*No space left.*CACHE="):
            pack(many, tmp_path / "cache", 8)
    assert entries(tmp_path / "cache") == []
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))  # and as the system itself says it, through Arrow
    try:
        with pytest.raises(InputError, match=r"dtd: .*cannot be written to .*[Ff]ile too large.*CACHE="):
            pack(many, tmp_path / "cache", 8)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert entries(tmp_path / "cache") == []
    assert len(pack(many, tmp_path / "cache", 8)) == 10


def test_a_folder_that_cannot_be_made(many, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"dtd: .*cannot be written to .*CACHE="):
        pack(many, tmp_path / "file" / "cache", 8)


MEMORY = """
import sys
import time
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_pack import packing, split_of
def peak():
    return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmHWM"))
packing.CHUNK = 64
root = Path({root!r})
files = sorted(p.name for p in root.iterdir())
packing.pack(split_of(root, files[:130]), Path({cache!r}), 144)  # two chunks: what every build needs
before = peak()
made = packing.pack(split_of(root, files), Path({cache!r}), 144)
print(len(made), (made.folder / "pixels.arrow").stat().st_size, (peak() - before) * 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="peak memory is read from /proc")
def test_memory_stays_bounded(tmp_path):
    """Two hundred megabytes of pixels in chunks of 8 MB need hardly more memory than two chunks do."""
    root, cache = tmp_path / "release", tmp_path / "cache"
    root.mkdir()
    Image.linear_gradient("L").resize((288, 144)).convert("RGB").save(root / "0000.jpg")
    for i in range(1, 1700):
        os.link(root / "0000.jpg", root / f"{i:04}.jpg")
    script = MEMORY.format(tests=str(Path(__file__).parent), root=str(root), cache=str(cache))
    done = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    shutil.rmtree(cache, ignore_errors=True)
    assert done.returncode == 0, done.stderr
    images, size, growth = map(int, done.stdout.split())
    assert images == 1700 and size > 200e6
    assert growth < 50e6
