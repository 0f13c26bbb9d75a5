"""A folder of class folders as a user's own domain."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from visual_decathlon.datasets.catalogue import IMAGENET_MEAN, IMAGENET_STD
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.datasets.own_domain import read_folder
from visual_decathlon.datasets.pack import pack


def fill(root, *files):
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()


@pytest.fixture
def three(tmp_path):
    """train, val and test with two classes that sort as strings, and with files that are not images."""
    fill(tmp_path, "train/cat10/b.jpg", "train/cat10/a.PNG", "train/cat2/x.jpeg", "train/cat2/deep/y.webp")
    fill(tmp_path, "val/cat2/1.jpg", "val/cat2/2.jpg", "test/cat10/1.tif")
    fill(tmp_path, "train/cat2/.hidden.jpg", "train/cat2/notes.txt", "train/.git/x.jpg", "train/readme.md")
    return tmp_path


def test_three_splits(three):
    train, val, test = (read_folder("pets", three, split) for split in ("train", "val", "test"))
    assert train.files == ["train/cat10/a.PNG", "train/cat10/b.jpg", "train/cat2/deep/y.webp", "train/cat2/x.jpeg"]
    assert train.labels.tolist() == [0, 0, 1, 1]
    assert train.classes == ("cat10", "cat2")
    assert val.labels.tolist() == [1, 1]
    assert test.labels.tolist() == [0]
    assert [split.ids.tolist() for split in (train, val, test)] == [[1, 2, 3, 4], [5, 6], [7]]
    domain = test.domain
    assert (domain.name, domain.k, domain.official, domain.classes) == ("pets", 0, False, 2)
    assert domain.counts == (4, 2, 1)
    assert (domain.mean, domain.std, domain.flip, domain.crop) == (IMAGENET_MEAN, IMAGENET_STD, True, True)
    assert train.labels.dtype == train.ids.dtype == np.int64


def test_labels_are_those_of_image_folder(three):
    for hidden in ("train/.git/x.jpg", "train/cat2/.hidden.jpg"):  # ImageFolder reads them as images
        (three / hidden).unlink()
    (three / "train/.git").rmdir()
    reference = ImageFolder(three / "train")
    split = read_folder("pets", three, "train")
    assert list(split.classes) == reference.classes
    samples = {str(three / file): label for file, label in zip(split.files, split.labels.tolist(), strict=True)}
    assert samples == dict(reference.samples)


def test_flat_folder_is_split_80_20_and_adding_moves_nothing(tmp_path):
    fill(tmp_path, *(f"{name}/{i}.jpg" for name in "abc" for i in range(400)))
    before = {split: read_folder("own", tmp_path, split) for split in ("train", "val")}
    train, val = before["train"], before["val"]
    assert len(train) + len(val) == 1200
    assert not set(train.files) & set(val.files)
    shares = np.bincount(val.labels) / 400
    assert ((shares > 0.14) & (shares < 0.26)).all()  # three standard deviations of a binomial share
    assert val.ids.tolist() == list(range(len(train) + 1, 1201))
    fill(tmp_path, *(f"{name}/new{i}.jpg" for name in "abcd" for i in range(100)))
    for split in before.values():
        after = set(read_folder("own", tmp_path, split.name).files)
        assert set(split.files) <= after
    # Fixed: a change of the hash would move users' images between train and val unnoticed.
    fill(tmp_path / "pin", *(f"{name}/{i}.jpg" for name in "ab" for i in range(10)))
    assert read_folder("own", tmp_path / "pin", "val").files == ["a/0.jpg", "b/8.jpg"]


def test_small_classes_have_images_on_both_sides(tmp_path):
    fill(tmp_path, *(f"class{c:02}/{i}.png" for c in range(60) for i in range(2)))
    train, val = (read_folder("own", tmp_path, split) for split in ("train", "val"))
    assert np.bincount(train.labels).tolist() == np.bincount(val.labels).tolist() == [1] * 60
    assert train.classes == val.classes


def test_domain_json(three):
    look = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 1], "flip": False}
    (three / "domain.json").write_text(json.dumps(look))
    domain = read_folder("pets", three, "val").domain
    assert (domain.mean, domain.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 1.0))
    assert domain.flip is False
    assert domain.crop is True


@pytest.mark.parametrize(
    "content",
    [
        "{",
        '{"mean": [124, 116, 104]}',
        '{"std": [0, 0.2, 0.2]}',
        '{"std": [0.2, 0.2]}',
        '{"flip": 1}',
        '{"flips": true}',
        "[]",
        b'{"\xff": 1}',
    ],
)
def test_bad_domain_json(three, content):
    (three / "domain.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=r"^pets: .*domain.json is wrong"):
        read_folder("pets", three, "train")


@pytest.mark.parametrize("name", ["Pets", "my pets", "", "pets/..", "pets\n", "dtd", "imagenet12"])
def test_bad_names(three, name):
    with pytest.raises(InputError, match="name"):
        read_folder(name, three, "train")


def test_bad_folders(three, tmp_path):
    fill(three, "val/dog/1.jpg")
    with pytest.raises(InputError, match=r"^pets: .*val/dog is a class that train lacks"):
        read_folder("pets", three, "train")
    (three / "val/dog/1.jpg").unlink()
    read_folder("pets", three, "val")  # an empty class folder is not a class
    (three / "train/dog").mkdir()
    with pytest.raises(InputError, match="train/dog holds no image"):
        read_folder("pets", three, "val")
    with pytest.raises(InputError, match="is no folder"):
        read_folder("pets", three / "absent", "train")
    with pytest.raises(InputError, match="no split"):
        read_folder("pets", three, "valid")


def test_names_that_are_no_text(tmp_path):
    """On Linux a file name may consist of any bytes; different bytes are different data."""
    manifests = set()
    for i, odd in enumerate((b"\xf0", b"\xf1")):
        root = tmp_path / str(i)
        for title, name in ((b"a", b"1.png"), (b"a", odd + b".png"), (b"\xff", b"1.png")):
            folder = Path(os.fsdecode(os.path.join(os.fsencode(root), b"train", title)))
            folder.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8)).save(folder / os.fsdecode(name))
        split = read_folder("own", root, "train")
        made = pack(split, tmp_path / "cache", 8)
        assert made.labels.tolist() == [0, 0, 1] and made.classes == split.classes == ("a", os.fsdecode(b"\xff"))
        assert pack(split, tmp_path / "cache", 8).folder == made.folder
        manifests.add(made.manifest)
    assert len(manifests) == 2


def test_missing_splits_and_single_classes(tmp_path):
    fill(tmp_path, "flat/a/1.jpg", "flat/b/1.jpg", "one/a/1.jpg", "one/a/2.jpg", "nothing/readme.md")
    for split in ("test", "val"):  # one image a class leaves none for val
        with pytest.raises(InputError, match=f"^own: .*holds no images for {split}"):
            read_folder("own", tmp_path / "flat", split)
    for folder in ("one", "nothing"):
        with pytest.raises(InputError, match="at least two"):
            read_folder("own", tmp_path / folder, "train")
