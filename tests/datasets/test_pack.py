"""A pack contains the images as PIL decodes them, with ids, labels and source files, within bounded memory."""

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.datasets.packs import contents, split_of
from visual_decathlon.datasets import pack as packing
from visual_decathlon.datasets.annotations import read_split
from visual_decathlon.datasets.batches import Batches
from visual_decathlon.datasets.catalogue import DOMAINS
from visual_decathlon.datasets.pack import pack

ROOT = Path(__file__).parents[2]


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
    """Width and height: a shorter side of 72 or 73 is kept, all others become 72 by PIL's bicubic filter."""
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


def test_source_files(many, tmp_path, monkeypatch):
    """They are given by index, across chunks; a name may consist of any bytes."""
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


def test_the_number_of_chunks_changes_nothing(many, tmp_path, monkeypatch):
    progress = []
    one = pack(many, tmp_path / "one", 8, progress.append)
    assert progress == [10] and len(one.chunks) == 1
    for size in (1, 3, 5):
        monkeypatch.setattr(packing, "CHUNK", size)
        progress.clear()
        cut = pack(many, tmp_path / f"cut{size}", 8, progress.append)
        assert sum(progress) == 10 and len(cut.chunks) == -(-10 // size)
        assert cut.manifest == one.manifest
        assert np.array_equal(cut.ids, one.ids) and np.array_equal(cut.labels, one.labels)
        assert np.array_equal(cut.sizes, one.sizes)
        assert all(np.array_equal(a, b) for a, b in zip(contents(cut), contents(one), strict=True))


def test_packed_once(many, tmp_path, monkeypatch):
    first = pack(many, tmp_path / "cache", 8)
    monkeypatch.setattr(packing, "_write", lambda *_: pytest.fail("decoded again"))
    progress = []
    again = pack(many, tmp_path / "cache", 8, progress.append)
    assert again.folder == first.folder and progress == []  # nothing was decoded
    assert all(np.array_equal(a, b) for a, b in zip(contents(again), contents(first), strict=True))


def test_an_image_is_a_view(many, tmp_path):
    image = pack(many, tmp_path / "cache", 8).image(3)
    assert image.base is not None and not image.flags.writeable


MEMORY = """
from pathlib import Path
from tests.datasets.packs import split_of
from visual_decathlon.datasets import pack as packing
def peak():
    return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmHWM"))
packing.CHUNK = 64
root = Path({root!r})
files = sorted(p.name for p in root.iterdir())
packing.pack(split_of(root, files[:130]), Path({cache!r}), 144)  # two chunks: the memory that every build needs
before = peak()
made = packing.pack(split_of(root, files), Path({cache!r}), 144)
print(len(made), (made.folder / "pixels.arrow").stat().st_size, (peak() - before) * 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="peak memory is read from /proc")
def test_memory_stays_bounded(tmp_path):
    """200 MB of pixels in chunks of 8 MB: at most half of them at a time, however late the disk writes."""
    root, cache = tmp_path / "release", tmp_path / "cache"
    root.mkdir()
    Image.linear_gradient("L").resize((288, 144)).convert("RGB").save(root / "0000.jpg")
    for i in range(1, 1700):
        os.link(root / "0000.jpg", root / f"{i:04}.jpg")
    script = MEMORY.format(root=str(root), cache=str(cache))
    done = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    shutil.rmtree(cache, ignore_errors=True)
    assert done.returncode == 0, done.stderr
    images, size, growth = map(int, done.stdout.split())
    assert images == 1700 and size > 200e6
    assert growth < 100e6
