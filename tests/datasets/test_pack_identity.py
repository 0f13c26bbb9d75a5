"""A pack is identified by the content of its files: changed files are noticed, and moved ones are recognised."""

import dataclasses
import errno
import hashlib
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from visual_decathlon.datasets import file_stamps
from visual_decathlon.datasets import pack as packing
from visual_decathlon.datasets.annotations import Split
from visual_decathlon.datasets.errors import ImageErrors
from visual_decathlon.datasets.pack import Pack, pack


def test_the_manifest_identifies_the_data(many, tmp_path):
    def manifest(split: Split, where: str) -> str:
        return pack(split, tmp_path / where, 8).manifest

    base = manifest(many, "a")
    moved = tmp_path / "elsewhere"
    shutil.copytree(many.root, moved)
    os.utime(moved / "3.png", ns=(10**18, 10**18))
    assert manifest(dataclasses.replace(many, root=moved, source=moved / "x.json"), "b") == base
    with open(moved / "3.png", "ab") as file:  # a byte after the image: the pixels are the same
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
    """The formula is repeated here: with another manifest every finished run of a user's data would be another run."""
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
    """Writes other content with the old times and size into the same file, after the file system's clock has ticked."""
    stat = path.stat()
    assert stat.st_size == len(content)
    while path.stat().st_ctime_ns == stat.st_ctime_ns:
        with open(path, "r+b") as file:
            file.write(content)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.fixture
def read_again(monkeypatch) -> list[int]:
    """The number of files that each call of `pack` read although it decoded none; stamps are trusted at once."""
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
    assert (first.image(2) == 2).all()  # a reader of the old pack keeps it
    new = grey.root / "new"
    new.write_bytes(old)
    os.replace(new, grey.root / "2.ppm")  # the old content comes back with another inode
    assert pack(grey, tmp_path / "cache", 8, lambda n: pytest.fail("decoded")).folder == first.folder


def test_a_change_in_the_tick_of_the_clock_in_which_the_file_was_read(grey, tmp_path, monkeypatch):
    """The two files differ only in their content, so a stamp as recent as this is not trusted."""
    stat = {path: (204, 5, time.time_ns(), 7) for path in map(str, grey.root.iterdir())}
    monkeypatch.setattr(file_stamps, "stamp", lambda path: stat[str(path)])
    first = pack(grey, tmp_path / "cache", 8)
    rewrite(grey.root / "2.ppm", (grey.root / "3.ppm").read_bytes())
    assert (pack(grey, tmp_path / "cache", 8).image(2) == 3).all() and (first.image(2) == 2).all()


def test_only_changed_files_are_read_again(grey, tmp_path, read_again):
    def again(**changes) -> Pack:
        return pack(dataclasses.replace(grey, **changes), tmp_path / "cache", 8, lambda n: pytest.fail("decoded"))

    first = pack(grey, tmp_path / "cache", 8)
    assert again().folder == first.folder and read_again == [0]
    os.utime(grey.root / "1.ppm", ns=(2**62, 2**62))  # far in the future
    assert again().folder == first.folder and again().folder == first.folder
    assert read_again == [0, 1, 0]  # its stamp was renewed
    (marks,) = first.folder.glob("stamps-*")
    marks.write_bytes(marks.read_bytes()[:100])  # damaged stamps only cost a second read
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
