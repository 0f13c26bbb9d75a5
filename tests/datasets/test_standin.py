"""Stand-in domains: official layout, the same pixels for any number of workers, and each domain's appearance."""

import errno
import hashlib
import json
import os
import shutil
import threading
from argparse import Namespace
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from visual_decathlon.benchmark.cli.data import run
from visual_decathlon.benchmark.runs import data
from visual_decathlon.datasets import io
from visual_decathlon.datasets.annotations import read_split
from visual_decathlon.datasets.catalogue import DOMAINS, SPLITS
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.datasets.standin import MARK, generate
from visual_decathlon.datasets.standin.sheet import _different, contact_sheet

SMALL = ("vgg-flowers", "omniglot")  # few and cheap images


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    root = tmp_path_factory.mktemp("standin") / "decathlon"
    generate.generate(root, workers=2, domains=SMALL)
    return root


def sample(name, count=40, split="train", seed=0):
    """The first `count` images of a split as (label, track, picture), drawn in memory."""
    domain = DOMAINS[name]
    rows = generate.plan(domain, split, seed)[:count]
    return [
        (label, track, generate.draw(domain, split, seed, i, label, track)) for i, (label, track) in enumerate(rows)
    ]


def digest(root):
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(f.relative_to(root)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def test_layout_reads_back(release):
    for name in SMALL:
        domain, artist = DOMAINS[name], generate.artist(DOMAINS[name])
        first = {}
        ids = []
        for split in SPLITS:
            read = read_split(release, domain, split)
            assert MARK in read.description
            assert f"version {generate.VERSION}" in read.description
            assert read.classes == artist.CLASSES
            assert tuple(np.bincount(read.labels, minlength=len(read.classes))) == artist.COUNTS[split]
            for file, label in zip(read.files, read.labels, strict=True):
                parts = file.split("/")
                assert parts[:3] == ["data", name, split]
                assert parts[3:-1] == ([] if split == "test" else [f"{label + 1:04d}"])
                assert (release / file).is_file()
            first[split] = int(read.files[0].split("/")[-1][:-4])
            ids += read.ids.tolist()
        size = len(read_split(release, domain, "train"))
        assert first == {"train": 1, "val": size + 1, "test": 1}
        numbers = [i - domain.k * 10**7 for i in ids]
        assert [n % 10**5 for n in numbers] == list(range(1, len(ids) + 1))
        stripped = json.loads((release / "annotations" / f"{name}_test_stripped.json").read_bytes())
        assert "annotations" not in stripped
        assert MARK in stripped["info"]["description"]
        with Image.open(release / read.files[0]) as image:
            assert image.size == (stripped["images"][0]["width"], stripped["images"][0]["height"])


def test_the_order_reveals_no_label(release):
    labels = read_split(release, DOMAINS["omniglot"], "test").labels
    assert np.mean(labels[1:] == labels[:-1]) < 0.1


def test_same_pixels_for_any_number_of_workers(release, tmp_path):
    generate.generate(tmp_path / "one", workers=1, domains=SMALL)
    assert digest(tmp_path / "one") == digest(release)


def test_seed_and_index_determine_an_image():
    for name in DOMAINS:
        (_, _, a), (_, _, again), (_, _, other) = (sample(name, 1)[0], sample(name, 1)[0], sample(name, 1, seed=1)[0])
        assert a.tobytes() == again.tobytes()
        assert a.size != other.size or a.tobytes() != other.tobytes()


def test_a_complete_release_is_kept_and_two_calls_at_once_both_finish(release, tmp_path):
    root = tmp_path / "shared"
    calls = [
        threading.Thread(target=generate.generate, args=(root,), kwargs={"workers": 1, "domains": SMALL[1:]})
        for _ in "ab"
    ]
    for call in calls:
        call.start()
    for call in calls:
        call.join()
    assert [path.name for path in tmp_path.iterdir()] == ["shared"]
    before = digest(root)
    assert before == {k: v for k, v in digest(release).items() if SMALL[1] in k} | {"drawn.json": before["drawn.json"]}
    generate.generate(root, workers=1, domains=SMALL[1:])
    assert digest(root) == before
    with pytest.raises(InputError, match="seed 5"):
        generate.generate(root, seed=5, workers=1, domains=SMALL[1:])
    assert digest(root) == before


def test_broken_generation_leaves_nothing(tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(generate, "draw", stop)
    with pytest.raises(KeyboardInterrupt):
        generate.generate(tmp_path / "cut", workers=1, domains=SMALL[:1])
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file"):
        generate.generate(tmp_path / "file" / "root", workers=1, domains=SMALL[:1])
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").write_text("")
    with pytest.raises(InputError, match="taken"):
        generate.generate(tmp_path / "taken", workers=1, domains=SMALL[:1])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "taken"]


def test_counts():
    for name, domain in DOMAINS.items():
        artist = generate.artist(domain)
        for split in SPLITS:
            counts = artist.COUNTS[split]
            assert len(counts) == len(artist.CLASSES) == len(set(artist.CLASSES))
            assert Counter(label for label, _ in generate.plan(domain, split)) == dict(enumerate(counts))
            if name == "gtsrb" and split == "train":
                assert max(counts) / min(counts) == 12.5
            elif name == "svhn":
                assert max(counts) > 2.5 * min(counts)
            elif name != "gtsrb":
                assert len(set(counts)) == 1
    assert generate.artist(DOMAINS["vgg-flowers"]).COUNTS["train"][0] == 10


def test_tracks_are_near_copies_and_within_one_split():
    rows = sample("gtsrb", 60)
    tracks = {}
    for label, track, picture in rows:
        tracks.setdefault((track, label), []).append(np.asarray(picture.resize((72, 72)), np.float32))
    assert len({track for track, _ in tracks}) == len(tracks)
    within = np.mean([np.abs(a - b).mean() for group in tracks.values() for a, b in pairwise(group)])
    heads = [group[0] for group in tracks.values()]
    between = np.mean([np.abs(a - b).mean() for a, b in pairwise(heads)])
    assert within < 0.5 * between
    domain = DOMAINS["gtsrb"]
    first = [generate.draw(domain, split, 0, 0, 1, 0).resize((72, 72)) for split in SPLITS]
    same = [generate.draw(domain, "train", 0, i, 1, 0).resize((72, 72)) for i in range(3)]
    apart = [np.abs(np.asarray(a, np.float32) - np.asarray(b, np.float32)).mean() for a, b in pairwise(first)]
    near = [np.abs(np.asarray(a, np.float32) - np.asarray(b, np.float32)).mean() for a, b in pairwise(same)]
    assert min(apart) > max(near)


def _lost_at_32(picture):
    """The mean change of a picture that is reduced to 32 pixels and enlarged again."""
    small = picture.resize((32, 32), Image.Resampling.BOX).resize(picture.size, Image.Resampling.BICUBIC)
    return np.abs(np.asarray(small, np.float32) - np.asarray(picture, np.float32)).mean()


def test_appearance():
    pictures = {name: [picture for _, _, picture in sample(name)] for name in DOMAINS}
    for name, drawn in pictures.items():
        assert all(min(picture.size) == 72 for picture in drawn), name
        assert all(picture.mode == ("L" if name in ("daimlerpedcls", "omniglot") else "RGB") for picture in drawn), name
    sizes = {name: {picture.size for picture in drawn} for name, drawn in pictures.items()}
    assert sizes["aircraft"] == {(107, 72)}
    assert sizes["daimlerpedcls"] == {(72, 144)}
    assert sizes["ucf101"] == {(96, 72)}
    assert all(sizes[name] == {(72, 72)} for name in ("cifar100", "omniglot", "svhn"))
    assert len(sizes["imagenet12"]) > 2
    assert all(max(size) < 1.15 * min(size) for size in sizes["gtsrb"])
    values = {
        n: np.concatenate([np.asarray(p, np.float32).ravel() for p in drawn]) / 255 for n, drawn in pictures.items()
    }
    mean, std = ({name: float(f(v)) for name, v in values.items()} for f in (np.mean, np.std))
    assert mean["omniglot"] < 0.15
    assert 0.2 < std["omniglot"] < 0.35
    assert 0.45 < mean["ucf101"] < 0.55
    assert 0.08 < std["ucf101"] < 0.13
    assert mean["gtsrb"] < 0.4
    assert std["svhn"] < std["imagenet12"]
    assert all(std[name] > 0.15 for name in DOMAINS if name != "ucf101")
    for name in ("cifar100", "svhn"):
        assert np.mean([_lost_at_32(p) for p in pictures[name]]) < 4, name


def test_contact_sheet(release, tmp_path):
    contact_sheet(release, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        pixels = np.asarray(sheet.convert("L"))
    assert pixels.shape[1] > 8 * 72
    assert pixels.shape[0] > 2 * 72
    assert pixels.std() > 40


@pytest.mark.parametrize(
    ("name", "words"),
    [("sheet", "does not end as"), ("sheet.txt", ".png"), ("sheet.xbm", ".png"), ("folder.png", "is a folder")],
)
def test_sheet_of_a_wrong_name_is_refused_before_anything_is_drawn(tmp_path, monkeypatch, name, words):
    (tmp_path / "folder.png").mkdir()
    monkeypatch.setattr(data, "ensure_standins", lambda *_: pytest.fail("drawn for nothing"))
    with pytest.raises(InputError, match=f"^sheet=.*{words}"):
        run(Namespace(own=[], sheet=tmp_path / name, data=None, download=None, cache=tmp_path / "cache"))
    assert [path.name for path in tmp_path.rglob("*")] == ["folder.png"]


def test_sheet_is_written_completely_or_not_at_all(release, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    out = tmp_path / "sheet.webp"
    out.write_bytes(b"older")
    for owner, name in ((io, "_fill"), (os, "replace"), (Image.Image, "save")):
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, full)
            with pytest.raises(InputError, match=r"sheet.webp cannot be (written|drawn) \(.*No space left.*sheet="):
                contact_sheet(release, out)
        assert [path.name for path in tmp_path.iterdir()] == ["sheet.webp"] and out.read_bytes() == b"older"
    with pytest.raises(InputError, match=r"below-a-file.png cannot be written .*sheet="):
        contact_sheet(release, out / "below-a-file.png")
    contact_sheet(release, out)
    with Image.open(out) as sheet:
        assert sheet.format == "WEBP"
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.webp"]


def test_sheet_names_the_image_that_is_missing(release, tmp_path):
    root = tmp_path / "decathlon"
    shutil.copytree(release, root)
    split = read_split(root, DOMAINS["omniglot"], "val")
    (root / split.files[_different(split)[3]]).unlink()
    with pytest.raises(InputError, match=r"^omniglot: .*\.jpg is missing; "):
        contact_sheet(root, tmp_path / "sheet.png")
    assert not (tmp_path / "sheet.png").exists()


def test_the_progress_of_drawing_is_shown(release, tmp_path, monkeypatch, capfd):
    def standins(cache, progress):
        for done in range(11):
            progress("drawing the stand-in domains", "dtd", done, 10)
        return release

    monkeypatch.setattr(data, "ensure_standins", standins)
    assert run(Namespace(own=[], sheet=tmp_path / "sheet.png", data=None, download=None, cache=tmp_path)) == 0
    shown = capfd.readouterr().out.splitlines()
    assert shown == [
        "drawing the stand-in domains: 10 of 10",
        f"{tmp_path}/sheet.png shows eight images of each domain",
    ]
