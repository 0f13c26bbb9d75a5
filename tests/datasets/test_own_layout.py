"""Own domains as users have them: splits with other names, classes that are named like splits, links, other files."""

import json
import os

import pytest
from PIL import Image

from visual_decathlon.datasets.decode import SUFFIXES, decode
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.datasets.own_domain import read_folder, read_own
from visual_decathlon.datasets.own_layout import split_named


def fill(root, *files):
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()


def two(*folders):
    """The files of two classes with two images each, in each of the folders."""
    return [f"{folder}/{title}/{i}.jpg" for folder in folders for title in ("cat", "dog") for i in range(2)]


NAMES = [
    ("Train", "Valid", "Test"),
    ("training", "validation", "testing"),
    ("TRAIN", "dev", "TEST"),
    ("train_set", "val-set", "test_set"),
    ("train2017", "val2017", "test2017"),
    ("Training Images", "Evaluation Images", "Test Images"),
    ("tr", "va", "te"),
    ("train", "va", "TE"),
    ("birds-train", "birds-val", "birds-test"),
    ("my_train_2", "my_dev_2", "my_testing_2"),
    ("Train split of cars", "VAL of cars", "te of cars"),
]


@pytest.mark.parametrize("names", NAMES, ids=" ".join)
def test_splits_by_any_of_their_names(tmp_path, names):
    fill(tmp_path, *two(*names))
    splits = read_own("pets", tmp_path, ("train", "val", "test"))
    for name, split in zip(names, splits, strict=True):
        assert split.files == sorted(two(name)) and split.classes == ("cat", "dog")
        assert split.source == tmp_path / name and split.notes == ()
    assert splits[0].domain.counts == (4, 4, 4)


def test_names_that_mean_no_split():
    for folder in ("car", "trainer", "test_and_train", "trainval", "valley", "device", "images", "2017", "contest"):
        assert split_named(folder) is None, folder


@pytest.mark.parametrize("title", ["train", "Training", "valid"])
def test_a_class_that_is_named_like_a_split(tmp_path, title):
    fill(tmp_path, *(f"{name}/{i}.jpg" for name in (title, "car", "bus") for i in range(5)))
    train, val = read_own("own", tmp_path, ("train", "val"))
    assert train.classes == tuple(sorted((title, "car", "bus"))) and len(train) + len(val) == 15
    assert train.source == tmp_path
    assert any(f"{title} holds images itself, so it is treated as a class" in note for note in train.notes)


def test_classes_that_domain_json_says_are_classes(tmp_path):
    fill(tmp_path, *two("train"), "test/1.jpg", "test/2.jpg", "car/1.jpg", "car/2.jpg")
    with pytest.raises(InputError, match=r'write \{"splits": false\} into .*domain\.json'):
        read_folder("own", tmp_path, "train")
    (tmp_path / "domain.json").write_text(json.dumps({"splits": False}))
    assert read_folder("own", tmp_path, "train").classes == ("car", "test", "train")


REFUSED = {
    "twice": (two("train", "Train", "val"), "Train/ and train/, which would both be train"),
    "two vals": (two("train", "dev", "val"), "dev/ and val/, which would both be val"),
    "no train": (two("valid", "test"), "there is no train"),
    "test only": (two("test"), "test/, which looks like a split, and there is no train"),
    "test next to classes": ([*two("test"), "cat/1.jpg", "dog/1.jpg"], "test/, which looks like a split"),
    "flat test next to classes": (["test/1.jpg", "cat/1.jpg", "dog/1.jpg"], "test/, which looks like a split"),
    "train next to classes": ([*two("train"), "cat/1.jpg", "dog/1.jpg"], "next to the class folders cat/, dog/"),
    "no class folders": (["train/1.jpg", "train/2.jpg", "val/1.jpg"], "have no class folders"),
    "train and test flat": (["train/1.jpg", "test/1.jpg", "car/1.jpg"], "test/ and train/, which look like splits"),
    "splits in classes": (
        [f"{c}/{s}/{i}.jpg" for c in ("cat", "dog") for s in ("train", "val") for i in "12"],
        "cat/, which is a class folder with splits in it",
    ),
}


ALIKE = {
    "folds": (
        two("fold0", "fold1", "fold2"),
        "fold0/ and fold1/ and fold2/, which hold folders of the same names (cat/,",
    ),
    "another language": (two("Treino", "Teste"), "Teste/ and Treino/, which hold"),
    "re-identification": (two("query", "gallery") + ["gallery/cow/1.jpg"], "gallery/ and query/, which hold"),
    "train and another language": (two("train", "Teste"), "Teste/ and train/, which hold"),
    "trainval": (two("trainval", "test"), "test/ and trainval/, which hold"),
    "short and another": (two("tr", "va", "mine"), "mine/ and tr/ and va/, which hold"),
    "birds and another": (two("birds-train", "birds-val", "mine"), "birds-train/ and birds-val/ and mine/, which hold"),
    "one level deeper": (two("pets/a", "pets/b"), "pets/a/ and pets/b/, which hold"),
    "images/ between": (two("a/images", "b/images"), "a/ and b/, which hold folders of the same names (cat/, dog/)"),
    "another case": (["a/Car/1.jpg", "a/BUS/1.jpg", "b/car/1.jpg", "b/bus/1.jpg"], "a/ and b/, which hold"),
    "images/ within": (two("a", "b/images"), "a/ and b/, which hold"),
    "next to a class": (two("a", "b") + ["c/1.jpg"], "a/ and b/, which hold"),
}


@pytest.mark.parametrize("case", ALIKE)
def test_folders_with_the_same_classes_are_refused(tmp_path, case):
    files, words = ALIKE[case]
    fill(tmp_path, *files)
    with pytest.raises(InputError) as caught:
        read_folder("own", tmp_path, "train")
    sentence = str(caught.value)
    assert words in sentence and "; name them train/, val/ and test/; if they are classes, write" in sentence
    if "pets" not in sentence:
        (tmp_path / "domain.json").write_text('{"splits": false}')
        assert len(read_folder("own", tmp_path, "train").classes) > 1


CLASSES = {
    "one name in both": ["car/side/1.jpg", "car/side/2.jpg", "bus/side/1.jpg", "bus/side/2.jpg", "bus/rear/1.jpg"],
    "folders of other names": ["car/a/1.jpg", "car/b/2.jpg", "bus/c/1.jpg", "bus/d/2.jpg"],
    "languages": [f"{language}/{i}.jpg" for language in ("en", "te", "tr", "va") for i in "12"],
    "a word that all share": [f"{title}/{i}.jpg" for title in ("toy-train", "toy-plane") for i in "12"],
    "empty folders": ["car/1.jpg", "car/2.jpg", "bus/1.jpg", *(f"{c}/{s}/x.txt" for c in ("car", "bus") for s in "ab")],
}


@pytest.mark.parametrize("case", CLASSES)
def test_classes_are_not_taken_for_splits(tmp_path, case):
    fill(tmp_path, *CLASSES[case])
    train = read_folder("own", tmp_path, "train")
    assert train.classes == tuple(sorted({file.partition("/")[0] for file in CLASSES[case]}))


@pytest.mark.parametrize("case", REFUSED)
def test_ambiguous_folders_are_refused_by_name(tmp_path, case):
    files, words = REFUSED[case]
    fill(tmp_path, *files)
    with pytest.raises(InputError) as caught:
        read_folder("own", tmp_path, "train")
    sentence = str(caught.value)
    assert sentence.startswith("own: ") and words in sentence and "\n" not in sentence and ";" in sentence


def test_splits_one_level_deeper(tmp_path):
    fill(tmp_path, *two("pets/train", "pets/val"), "readme.txt")
    assert read_folder("own", tmp_path, "val").files == sorted(two("pets/val"))


def test_no_val_and_an_empty_one(tmp_path):
    fill(tmp_path, *two("train"))
    for _ in range(2):
        assert len(read_folder("own", tmp_path, "train")) == 4  # a holdout needs no more
        with pytest.raises(InputError, match=r"holds no images for val in class folders; put them into val/<class>/"):
            read_folder("own", tmp_path, "val")
        (tmp_path / "val").mkdir(exist_ok=True)


def test_skipped_files_are_counted(tmp_path):
    fill(tmp_path, *two("train", "val"), "extra/1.jpg", "extra/a/2.jpg", "test/1.jpg", "train/3.jpg", "LICENSE")
    fill(tmp_path, "train/cat/notes.txt", "train/cat/Thumbs.db", "train/dog/.DS_Store", "train/dog/x.heic", "0.jpg")
    (note,) = read_folder("own", tmp_path, "val").notes
    assert note.startswith(f"own: left out of {tmp_path}: 4 file(s) of a kind that is not read (")
    for words in (
        "1 .txt",
        "1 .db",
        "1 .heic",
        "1 LICENSE".lower(),
        "1 hidden",
        "3 image(s) outside of the class folders",
    ):
        assert words in note.lower(), words
    assert "2 image(s) in folders that are neither train, val nor test (first: extra/)" in note
    with pytest.raises(InputError, match=r"no images for test .*1 hidden"):
        read_folder("own", tmp_path, "test")


def test_a_flat_folder_counts_each_file_once(tmp_path):
    fill(
        tmp_path,
        *(f"{c}/{i}.jpg" for c in "ab" for i in range(5)),
        "x.jpg",
        "y.txt",
        ".z",
        "empty/q.txt",
        "domain.json",
    )
    (tmp_path / "domain.json").write_text("{}")
    (note,) = read_folder("own", tmp_path, "val").notes
    for words in ("2 file(s) of a kind", "1 hidden", "1 image(s) outside of the class", "1 folder(s) without an image"):
        assert words in note, words


def test_links_are_followed(tmp_path):
    root, disk = tmp_path / "own", tmp_path / "disk"
    fill(
        disk, *(f"cat{i}.jpg" for i in range(3)), *(f"more/deep/{i}.jpg" for i in range(4)), "dogs/1.jpg", "dogs/2.jpg"
    )
    fill(root, "train/cat/0.jpg", "train/cow/0.jpg")
    (root / "train/cat/1.jpg").symlink_to(disk / "cat1.jpg")  # a file
    (root / "train/cat/more").symlink_to(disk / "more")  # a folder in a class
    (root / "train/dog").symlink_to(disk / "dogs", target_is_directory=True)  # a class
    (root / "val").symlink_to("train")  # a split
    (tmp_path / "link").symlink_to(root)  # the root
    train, val = read_own("own", tmp_path / "link", ("train", "val"))
    cats = ["0.jpg", "1.jpg", "more/deep/0.jpg", "more/deep/1.jpg", "more/deep/2.jpg", "more/deep/3.jpg"]
    files = [*(f"cat/{cat}" for cat in cats), "cow/0.jpg", "dog/1.jpg", "dog/2.jpg"]
    assert train.files == [f"train/{file}" for file in files] and val.files == [f"val/{file}" for file in files]
    assert train.notes == ()


def test_loops_and_double_links(tmp_path):
    root = tmp_path / "own"
    fill(root, "cat/a/1.jpg", "cat/a/2.jpg", "dog/1.jpg", "dog/2.jpg")
    (root / "cat/loop").symlink_to(root)
    (root / "cat/a/up").symlink_to("..")
    (root / "all").symlink_to(".")
    (root / "cat/again").symlink_to("a")
    (root / "cat/0.jpg").symlink_to("a/1.jpg")
    (root / "dog/3.jpg").symlink_to("/nowhere/3.jpg")  # a missing image: packing reports it
    (root / "dog/lost").symlink_to("/nowhere/at all")
    (root / "dog/self").symlink_to("self")
    train, val = read_own("own", root, ("train", "val"))
    assert sorted(train.files + val.files) == [
        *("cat/a/1.jpg", "cat/a/2.jpg"),
        *("dog/1.jpg", "dog/2.jpg", "dog/3.jpg"),
    ]
    (note,) = train.notes
    for words in (
        "3 link(s) to a folder that contains them (first: all)",
        "1 link(s) to a folder of the same class (first: cat/again)",
        "1 link(s) to an image of the same class (first: cat/0.jpg)",
        "2 broken link(s) (first: dog/lost)",
    ):
        assert words in note, note
    with pytest.raises(InputError, match=r"3\.jpg is a link to /nowhere/3\.jpg, which is missing; "):
        decode(root / "dog/3.jpg", "own")


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("val/bus/loop", ".."),
        ("val/bus/loop", "../.."),
        ("val/bus/loop", "../../.."),
        ("val/bus/loop", "."),
        ("val/loop", "."),
        ("val/bus/deep/loop", "../.."),
        ("val/van/loop", "/ROOT/val"),
        ("val/van/loop", "/ROOT/../disk"),
    ],
)
def test_a_link_to_a_folder_above_adds_no_image(tmp_path, link, target):
    root, disk = tmp_path / "own", tmp_path / "disk"
    fill(root, *(f"{s}/{c}/{i}.jpg" for s in ("train", "val") for c in ("car", "bus") for i in "12"))
    fill(root, "train/van/1.jpg", "val/bus/deep/3.jpg")
    fill(disk, "van/1.jpg", "more/1.jpg")
    (root / "val/van").symlink_to(disk / "van")
    before = read_folder("own", root, "val")
    (root / link).symlink_to(target.replace("/ROOT", str(root)))
    after = read_folder("own", root, "val")
    assert after.files == before.files and after.labels.tolist() == before.labels.tolist()
    assert before.notes == ()
    assert after.notes == (f"own: left out of {root}: 1 link(s) to a folder that contains them (first: {link})",)


SHARED = {  # link: (target, the classes whose images it would give two labels)
    "train/car/b": ("../bus", "bus", "car"),
    "train/car/deep/b": ("../../bus", "bus", "car"),
    "train/bus/c": ("../car/deep", "bus", "car"),
    "train/auto": ("car", "auto", "car"),
    "val/auto": ("../train/car", "auto", "car"),
    "val/car/b": ("../../train/bus", "bus", "car"),
    "train/car/val": ("../../val", "bus", "car"),
}


@pytest.mark.parametrize("link", SHARED)
def test_a_link_to_another_class_would_give_two_labels(tmp_path, link):
    root, (target, *classes) = tmp_path / "own", SHARED[link]
    fill(root, *(f"{s}/{c}/{i}.jpg" for s in ("train", "val") for c in ("car", "bus") for i in "12"))
    fill(root, "train/car/deep/3.jpg")
    (root / link).symlink_to(target)
    with pytest.raises(InputError) as caught:
        read_folder("own", root, "train")
    sentence = str(caught.value)
    real = (root / link).resolve()
    assert sentence.startswith(f"own: {root / link} is a link to {real}, so that the images of {root}/")
    assert all(repr(title) in sentence for title in classes) and sentence.endswith("; remove the link")


def test_two_classes_that_are_links_to_one_folder(tmp_path):
    root = tmp_path / "own"
    fill(tmp_path, "disk/1.jpg", "disk/2.jpg", "own/bus/1.jpg", "own/bus/2.jpg", "own/van/1.jpg")
    for title in ("auto", "car"):
        (root / title).symlink_to("../disk")
    with pytest.raises(InputError, match=r"own/car is a link to .*/disk, .* of .*own/auto would have two labels"):
        read_folder("own", root, "train")
    (root / "auto").unlink()
    (root / "van/all").symlink_to("../../disk")
    with pytest.raises(InputError, match=r"two labels, 'car' and 'van'; remove the link"):
        read_folder("own", root, "train")


def test_every_accepted_suffix_can_be_decoded(tmp_path):
    kinds = {".jpe": "JPEG", ".jfif": "JPEG", ".mpo": "JPEG", ".apng": "PNG", ".pbm": "PPM", ".pnm": "PPM"}
    for suffix in sorted(SUFFIXES):
        Image.new("RGB", (8, 8), (9, 9, 9)).save(tmp_path / f"x{suffix.upper()}", kinds.get(suffix))
        assert decode(tmp_path / f"x{suffix.upper()}", "own").size == (8, 8)
    (tmp_path / "b").mkdir()
    for file in os.listdir(tmp_path):
        if file != "b":
            (tmp_path / "a").mkdir(exist_ok=True)
            (tmp_path / file).rename(tmp_path / "a" / file)
    fill(tmp_path, "b/1.png", "b/2.png")
    train, val = read_own("own", tmp_path, ("train", "val"))
    assert len(train) + len(val) == len(SUFFIXES) + 2
