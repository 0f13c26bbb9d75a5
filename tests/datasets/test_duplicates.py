"""Duplicate images are counted by content: across splits, within one split, and with two labels."""

from hashlib import sha256

import numpy as np

from visual_decathlon.datasets.duplicates import HashedImages, duplicates_within, in_two_classes, overlap


def hashed(name: str, **contents: str) -> HashedImages:
    """A split with the files a0, a1, … of class a and so on; the content of each file is one letter."""
    files = [f"{title}{i}" for title, letters in contents.items() for i in range(len(letters))]
    rows = [
        np.frombuffer(sha256(letter.encode()).digest(), np.uint8) for letters in contents.values() for letter in letters
    ]
    labels = [label for label, letters in enumerate(contents.values()) for _ in letters]
    return HashedImages(name, [f"{name}/{file}" for file in files], np.array(rows), np.array(labels))


def test_evaluation_images_in_the_training_data():
    train, val, test = hashed("train", a="xyz", b="uv"), hashed("val", a="zzk", b="v"), hashed("test", a="kq", b="p")
    (note,) = overlap("own", [train], val)
    assert note.startswith("own: 3 of the 4 images of val are in train too, byte for byte (first: val/a0 is train/a2)")
    (note,) = overlap("own", [train], val, shown=2)
    assert "(val/a0 is train/a2; val/a1 is train/a2; and 1 more)" in note
    (note,) = overlap("own", [train, val], test)
    assert note.startswith("own: 1 of the 3 images of test are in train and val too, byte for byte (test/a0 is val/a2)")
    assert overlap("own", [train], test) == []


def test_within_a_split():
    (note,) = duplicates_within("own", hashed("train", a="xyx", b="ux"), shown=5)
    assert note == "own: 2 image(s) of train repeat another, byte for byte (train/a2 is train/a0; train/b1 is train/a2)"
    assert duplicates_within("own", hashed("train", a="xy", b="u")) == []


def test_two_labels():
    train, val = hashed("train", a="xyx", b="ux"), hashed("val", a="u", b="q")
    (note,) = in_two_classes("own", [train, val])
    assert note.startswith("own: 2 image(s) are in more than one class, byte for byte (")
    (note,) = in_two_classes("own", [train], shown=3)
    assert "own: 1 image(s) are in more than one class, byte for byte (train/a2 is train/b1); one" in note
    unlabelled = HashedImages("test", train.files, train.contents, None)
    assert in_two_classes("own", [hashed("train", a="xx", b="y"), unlabelled]) == []
    assert in_two_classes("own", [unlabelled]) == []
