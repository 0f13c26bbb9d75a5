"""Own domains and changed images through the whole command: what is reported, what is refused, what is run again."""

import dataclasses
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from visual_decathlon.benchmark.runs.data import Data, open_data
from visual_decathlon.datasets.catalogue import DOMAINS
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.datasets.pack import Pack
from visual_decathlon.datasets.standin.drawn import note_drawn
from visual_decathlon.datasets.standin.generate import VERSION


def paint(root: Path, *folders: str, each: int = 4, suffix: str = "ppm") -> Path:
    """Two classes of one-coloured images below each folder, all of one size in bytes, no two alike."""
    shade = 0
    for folder in folders or ("",):
        for label, title in enumerate(("cat", "dog")):
            for i in range(each):
                path = root / folder / title / f"{i}.{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                shade += 1
                Image.new("RGB", (72, 72), (shade, 250 * label, 9)).save(path)
    return root


@pytest.fixture
def opened(planned, tmp_path, monkeypatch):
    """`opened(**own)` opens own domains and dtd; returns (reported sentences, data)."""

    def run(split: str = "val", **own: Path) -> tuple[list[str], Data]:
        sentences: list[str] = []
        folders = tuple(own.items())
        request, _, _ = planned("feature", split=split, domains=("dtd", "imagenet12"), cache=tmp_path / "cache")
        request = dataclasses.replace(request, own_domains=folders, domains=("dtd", *own))
        return sentences, open_data(request, lambda *_: None, sentences.append)

    return run


def swap_cats_and_dogs(folder: Path) -> None:
    """As from an archive with fixed times: new files under the old names, sizes and times."""
    for one, other in zip(sorted(folder.glob("cat/*")), sorted(folder.glob("dog/*")), strict=True):
        times, contents = os.stat(one), (one.read_bytes(), other.read_bytes())
        for path, content in zip((one, other), reversed(contents), strict=True):
            new = path.with_suffix(".new")
            new.write_bytes(content)
            os.utime(new, ns=(times.st_atime_ns, times.st_mtime_ns))
            new.replace(path)


def test_images_replaced_under_their_old_names_sizes_and_times_are_other_data(opened, tmp_path):
    root = paint(tmp_path / "pets", "train", "val")
    _, first = opened(pets=root)
    _, again = opened(pets=root)
    assert again.evaluate["pets"] == first.evaluate["pets"]
    swap_cats_and_dogs(root / "val")
    _, after = opened(pets=root)
    assert after.train["pets"] == first.train["pets"]
    assert after.evaluate["pets"].manifest != first.evaluate["pets"].manifest
    old, new = (Pack(data.evaluate["pets"].packs[0]) for data in (first, after))
    for i in range(4):
        assert np.array_equal(new.image(i), old.image(i + 4)) and np.array_equal(new.image(i + 4), old.image(i))


@pytest.mark.slow
def test_their_run_is_trained_again_and_has_the_other_score(here, tmp_path):
    root = paint(tmp_path / "pets", "train", "val")

    def run() -> tuple[str, list[float]]:
        words = ("--own", f"pets={root}", "--domains", "pets")
        done = here(*words, method="feature", results=tmp_path / "results")
        assert done.code == 0, done.err
        records = (tmp_path / "results" / "records").glob("*.parquet")
        return done.out, sorted(pd.read_parquet(path)["top1"].iloc[0] for path in records)

    before, (score,) = run()
    assert "finished already" not in before
    assert "1 of 1 runs are finished already" in run()[0]
    swap_cats_and_dogs(root / "val")
    after, scores = run()
    assert "finished already" not in after
    assert scores == pytest.approx(sorted((score, 100 - score)), abs=1e-4)


def test_files_left_out_and_repeated_images_are_reported(here, tmp_path, monkeypatch):
    monkeypatch.setattr("visual_decathlon.benchmark.runs.bench.run_jobs", lambda *_: [])  # nothing is trained
    root = paint(tmp_path / "pets", "Train", "Valid")
    shutil.copy(root / "Train/cat/1.ppm", root / "Valid/cat/1.ppm")
    (root / "Train/cat/readme.txt").touch()
    done = here("--own", f"pets={root}", "--domains", "pets", method="feature", results=tmp_path / "results")
    assert done.code == 0, done.err
    assert f"pets: left out of {root}: 1 file(s) of a kind that is not read (1 .txt)" in done.out
    twice = "pets: 1 of the 8 images of val are in train too, byte for byte (Valid/cat/1.ppm is Train/cat/1.ppm)"
    assert twice in done.out


def test_repeats_of_each_split(opened, tmp_path):
    root = paint(tmp_path / "pets", "train", "val", "test")
    shutil.copy(root / "train/cat/1.ppm", root / "train/cat/x.ppm")
    shutil.copy(root / "val/dog/0.ppm", root / "test/dog/0.ppm")
    assert opened("val", pets=root)[0] == []
    (note,) = opened("holdout", pets=root)[0]
    assert "1 image(s) of train repeat another" in note
    shutil.copy(root / "val/dog/0.ppm", root / "test/cat/0.ppm")
    assert opened("val", pets=root)[0] == []


def test_all_images_that_cannot_be_read_come_in_one_sentence(here, tmp_path):
    pets, cars = paint(tmp_path / "pets", "train", "val"), paint(tmp_path / "cars", suffix="png")
    for file in ("train/cat/0.ppm", "train/dog/2.ppm", "val/dog/1.ppm"):
        (pets / file).write_bytes(b"P6")
    (cars / "cat/3.png").write_bytes(b"")
    words = ("--own", f"pets={pets} cars={cars}", "--domains", "pets,cars")
    sentence = here(*words, method="feature", results=tmp_path / "results").sentence
    assert "pets: 2 images of train cannot be read: " in sentence and f"pets: {pets}/val/dog/1.ppm " in sentence
    assert f"cars: {cars}/cat/3.png is empty (0 bytes)" in sentence
    assert sentence.endswith(f'`make data "OWN=pets={pets}"` and `make data "OWN=cars={cars}"` shows every one')
    assert not (tmp_path / "results" / "records").exists() or not list((tmp_path / "results" / "records").iterdir())


def test_all_domains_that_cannot_be_read_come_in_one_sentence(opened, planned, tmp_path, tiny):
    pets, cars = paint(tmp_path / "pets", "train", "Train", "val"), paint(tmp_path / "cars", "fold0", "fold1")
    fine, gone = paint(tmp_path / "fine"), tmp_path / "gone"
    with pytest.raises(InputError) as caught:
        opened(pets=pets, fine=fine, cars=cars, gone=gone)
    expected = [
        f"pets: {pets} holds Train/ and train/, which would both be train; ",
        f"; cars: {cars} holds fold0/ and fold1/, which hold folders of the same names",
        f"; gone: {gone} is no folder; ",
    ]
    places = [str(caught.value).find(words) for words in expected]
    assert places == sorted(places) and places[0] == 0 and "fine: " not in str(caught.value)
    with pytest.raises(InputError, match=rf"^cars: {cars} holds fold0/"):
        opened(fine=fine, cars=cars)

    root = tmp_path / "release"
    shutil.copytree(tiny, root)
    for split in ("train", "val"):
        (root / f"annotations/dtd_{split}.json").write_text("{")
    request, _, _ = planned("feature", domains=("dtd", "imagenet12"), cache=tmp_path / "cache")
    for data in (root, None):  # without data, nothing is drawn first
        request = dataclasses.replace(request, data=data, own_domains=(("pets", pets), ("gone", gone)))
        with pytest.raises(InputError) as caught:
            open_data(request, lambda *_: None)
        words = ["pets: ", "gone: ", *(f"dtd: {root}/annotations/dtd_{s}.json" for s in ("train", "val") if data)]
        assert all(word in str(caught.value) for word in words)


def test_a_damaged_stand_in_is_drawn_again(planned, tmp_path, tiny, monkeypatch):
    request, _, _ = planned("feature", domains=("dtd",), cache=tmp_path / "cache")
    root = tmp_path / "cache" / f"standin-v{VERSION}-seed0"
    shutil.copytree(tiny, root)
    next((root / "data/dtd/val").iterdir()).write_bytes(b"")
    with pytest.raises(InputError, match=rf"is empty \(0 bytes\); remove {root}, and the stand-ins are drawn again"):
        open_data(dataclasses.replace(request, data=None), lambda *_: None)


def test_a_stand_in_that_is_no_longer_as_it_was_drawn(planned, tmp_path, tiny):
    """Its hash is the generator's version: other pixels must not be trained on under it."""
    request, _, _ = planned("feature", domains=("dtd",), cache=tmp_path / "cache")
    request = dataclasses.replace(request, data=None)
    root = tmp_path / "cache" / f"standin-v{VERSION}-seed0"
    shutil.copytree(tiny, root)
    note_drawn(root, [DOMAINS["dtd"], DOMAINS["imagenet12"]])
    assert open_data(request, lambda *_: None).standin
    one, other = sorted((root / "data/dtd/val").iterdir())[:2]
    shutil.copy(one, other)
    with pytest.raises(InputError, match=rf"^dtd: val of the stand-ins in {root} is not as it was drawn; remove"):
        open_data(request, lambda *_: None)
