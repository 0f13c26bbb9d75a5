"""The check of a release lists every fault and continues after it."""

import json
import os
from argparse import Namespace

import pytest
from PIL import Image

from visual_decathlon.benchmark.cli.data import run
from visual_decathlon.datasets.check import check_release
from visual_decathlon.datasets.errors import InputError


def quiet(*_):
    pass


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def all_of(rows, kind):
    return [sentence for row in rows for sentence in getattr(row, kind)]


def test_a_sound_release(release):
    calls = []
    rows = check_release(release("dtd", "svhn"), lambda *call: calls.append(call))
    assert [(row.domain, row.split, row.images, row.classes) for row in rows] == [
        (name, split, images, 3)
        for name in ("dtd", "svhn")
        for split, images in (("train", 9), ("val", 6), ("test", 3))
    ]
    assert all_of(rows, "faults") == all_of(rows, "notes") == []
    assert rows[0].official == (1_880, 47)
    assert rows[0].sizes == ((80, 80), (72, 72))
    assert calls[-1] == ("svhn test", 3, 3)


def plant(root):
    """Makes five faults; returns the words that the sentence about each one must contain."""
    data, annotations = root / "data", root / "annotations"
    (data / "dtd/train/0001/000002.jpg").unlink()
    (data / "dtd/val/0002/000012.jpg").write_bytes(b"")
    cut = data / "svhn/train/0003/000009.jpg"
    cut.write_bytes(cut.read_bytes()[:900])
    (annotations / "svhn_val.json").write_text("{")

    def new_class(content):
        content["categories"].append({"id": 70000004, "name": "rune", "supercategory": ""})
        content["annotations"][0]["category_id"] = 70000004

    edit(annotations / "omniglot_val.json", new_class)
    return [
        ("dtd: ", "train/0001/000002.jpg", "is missing"),
        ("dtd: ", "val/0002/000012.jpg", "0 bytes"),
        ("omniglot: ", "omniglot_val.json", "'rune' (category id 70000004)"),
        ("svhn: ", "train/0003/000009.jpg", "truncated"),
        ("svhn: ", "svhn_val.json", "no JSON"),
    ]


def test_five_faults_give_five_sentences(release, capfd):
    root = release("dtd", "svhn", "omniglot")
    planted = plant(root)
    faults = all_of(check_release(root, quiet), "faults")
    assert len(faults) == 5
    for fault, words in zip(faults, planted, strict=True):
        assert fault.startswith(words[0])
        assert all(word in fault for word in words)
        assert ";" in fault
    assert run(Namespace(data=root, download=None, sheet=None, own=[])) == 2
    shown = capfd.readouterr()
    assert shown.err.splitlines() == faults
    assert "5 faults" in shown.out.splitlines()[-1]


def test_command_on_a_sound_release_and_on_none(release, tmp_path, capfd):
    assert run(Namespace(data=release("dtd"), download=None, sheet=None, own=[])) == 0
    shown = capfd.readouterr()
    assert shown.err == ""
    assert "no fault" in shown.out
    assert max(map(len, shown.out.splitlines())) <= 80
    with pytest.raises(InputError, match="data="):
        run(Namespace(data=tmp_path / "absent", download=None, sheet=None, own=[]))
    with pytest.raises(InputError, match="nothing to do"):
        run(Namespace(data=None, download=None, sheet=None, own=[]))


def test_more_faults(release):
    root = release("dtd", "svhn", "gtsrb", "aircraft")
    edit(root / "annotations/dtd_train.json", lambda c: c["images"][1].update(id=c["images"][0]["id"]))
    edit(root / "annotations/dtd_val.json", lambda c: c["annotations"][0].update(category_id=40000009))
    edit(root / "annotations/svhn_val.json", lambda c: (c["images"].clear(), c["annotations"].clear()))

    def ids_of_train(content):
        content["images"][0]["id"] = content["annotations"][0]["image_id"] = 50000003

    edit(root / "annotations/gtsrb_val.json", ids_of_train)
    (root / "annotations/aircraft_train.json").unlink()
    (root / "data/svhn/test").rename(root / "elsewhere")
    faults = all_of(check_release(root, quiet), "faults")
    wanted = [
        "aircraft_train.json is missing while",
        "repeats the image id 40000001",
        "unknown class: category id 40000009",
        "repeats 1 image id(s) of gtsrb_train.json (first: 50000003)",
        "empty split",
        "none of the 3 images",
    ]
    assert len(faults) == len(wanted)
    assert all(word in fault for word, fault in zip(wanted, faults, strict=True))


def test_notes_are_not_faults(release):
    root = release("dtd")
    image = Image.open(root / "data/dtd/train/0001/000001.jpg")
    image.resize((50, 40)).convert("CMYK").save(root / "data/dtd/train/0001/000001.jpg")
    edit(root / "annotations/dtd_val.json", lambda c: c["images"][0].update(file_name=c["images"][1]["file_name"]))
    edit(root / "annotations/dtd_val.json", lambda c: c["categories"][1].update(name="sign11"))
    (root / "data/dtd/train/new.jpg").touch()
    (root / "data/dtd.tar").touch()

    def foreign(content):
        content["images"][0]["id"] = 7

    edit(root / "annotations/dtd_test_stripped.json", foreign)
    rows = check_release(root, quiet)
    assert all_of(rows, "faults") == []
    notes = all_of(rows, "notes")
    for words in (
        "1 image(s) have a shorter side other than 72 or 73 pixels (first: data/dtd/train/0001/000001.jpg, 50×40)",
        "1 image(s) are of mode CMYK",
        "1 file(s) are listed twice (first: data/dtd/val/0001/000011.jpg)",
        "2 file(s) in data/dtd are listed by no annotation (first: data/dtd/train/new.jpg)",
        "data/ holds 1 name(s) that no domain uses (first: data/dtd.tar)",
        "1 image id(s) are not of domain number 4 (first: 7)",
        "1 class name(s) differ from train's (first: 'sign11', there 'sign10')",
        "1 image(s) have another size than dtd_train.json gives (first: data/dtd/train/0001/000001.jpg, 50×40)",
    ):
        assert any(words in note for note in notes), words
    assert len(notes) == 8


def test_impossible_sizes_are_a_note(release):
    root = release("dtd")
    edit(root / "annotations/dtd_val.json", lambda c: c["images"][0].update(width=2**63, height=-1))
    rows = check_release(root, quiet)
    assert all_of(rows, "faults") == []
    (note,) = all_of(rows, "notes")
    assert "1 image(s) have another size than dtd_val.json gives" in note


@pytest.mark.parametrize("listing", [True, False])
def test_folders_that_cannot_be_read(listing, release, monkeypatch):
    """Root may read everything, so the system's refusal is simulated."""
    root = release("dtd")

    def refuse(path, *_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(*((os, "listdir") if listing else (os, "stat")), refuse)
    with pytest.raises(InputError, match=r"cannot be read \(Permission denied\); check its permissions"):
        check_release(root, quiet)


def test_names_that_no_file_can_have(release):
    root = release("dtd")
    edit(root / "annotations/dtd_test_stripped.json", lambda c: c["images"][0].update(file_name=f"{'x' * 300}.jpg"))

    def far(content):
        for image in content["images"]:
            image["file_name"] = f"{'x' * 300}/{image['id']}.jpg"

    edit(root / "annotations/dtd_val.json", far)
    val, test = all_of(check_release(root, quiet), "faults")
    assert val.startswith("dtd: ") and val.endswith(
        "x cannot be read (File name too long); check the name and its permissions"
    )
    assert "x.jpg cannot be read (File name too long)" in test


VAL = "data/dtd/val/0001/000010.jpg"
SPELLINGS = {  # spelling: (how every `file_name` is changed, the path that the message suggests)
    "the release before it": (lambda file: f"decathlon-1.0/{file}", VAL),
    "another case": (str.upper, VAL),
    "another suffix's case": (lambda file: file.replace(".jpg", ".JPG"), VAL),
    "a blank before": (lambda file: f" {file}", VAL),
    "a blank behind": (lambda file: f"{file} ", VAL),
    "another folder": (lambda file: file.replace("data/dtd", "data/textures"), VAL),
    "no folder of the class": (lambda file: f"data/dtd/val/{file[-10:]}", VAL),
    "another suffix": (lambda file: file.replace(".jpg", ".png"), f"{VAL}', …"),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_if_no_image_exists_the_right_path_is_suggested(release, spelling):
    root = release("dtd")
    change, path = SPELLINGS[spelling]
    edit(root / "annotations/dtd_val.json", lambda c: [i.update(file_name=change(i["file_name"])) for i in c["images"]])
    (fault,) = all_of(check_release(root, quiet), "faults")
    annotations = f"{root}/annotations/dtd_val.json"
    start = f"dtd: none of the 6 images that {annotations} lists is there: its `file_name` {change(VAL)!r} "
    assert fault.startswith(f"{start}leads to no file below {root}; write ") and path in fault
    assert "unpack" not in fault


def test_a_folder_in_another_case_is_suggested_as_it_is(release):
    root = release("dtd")
    (root / "data/dtd").rename(root / "data/DTD")
    train, _, _ = all_of(check_release(root, quiet), "faults")
    assert train.endswith("; write it as 'data/DTD/train/0001/000001.jpg', and the others in the same way")


def test_a_split_that_is_not_unpacked(release):
    root = release("dtd")
    (root / "data/dtd/val").rename(root / "val")
    (fault,) = all_of(check_release(root, quiet), "faults")
    assert "; unpack dtd.tar of decathlon-1.0-data.tar.gz below" in fault and "file_name" not in fault


def test_mini(shared):
    rows = check_release(shared / "decathlon-mini", quiet)
    assert sum(row.images for row in rows) == 9_055
    assert all_of(rows, "faults") == []
