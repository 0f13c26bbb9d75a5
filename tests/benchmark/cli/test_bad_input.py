"""Every bad input ends in one sentence that names the file, the domain and the remedy, and leaves no partial file."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.benchmark.cli.remedies import has_remedy
from visual_decathlon.benchmark.records.store import read_records


def annotations(root: Path, split: str = "train") -> Path:
    return root / "annotations" / f"dtd_{split}.json"


def change(path: Path, edit: Callable[[dict], None]) -> None:
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def test_no_such_data(refused, tmp_path: Path):
    sentence = refused("--data", str(tmp_path / "nowhere"))
    assert f"DATA={tmp_path / 'nowhere'} does not exist" in sentence and has_remedy(sentence)


def test_data_that_is_no_release(refused, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    sentence = refused("--data", str(tmp_path / "empty"))
    assert str(tmp_path / "empty") in sentence and has_remedy(sentence)


def test_data_that_is_a_file(refused, tmp_path: Path):
    (tmp_path / "file").write_text("")
    assert str(tmp_path / "file") in refused("--data", str(tmp_path / "file"))


def test_data_without_imagenet(refused, broken: Path):
    (broken / "annotations" / "imagenet12_train.json").unlink()
    sentence = refused()
    assert "imagenet12" in sentence and "BACKBONE=" in sentence


@pytest.mark.parametrize("content", ["this is no JSON", "", "[]", "{", '{"images": 3}', '{"a": ' + "[" * 100_000])
def test_annotation_that_is_no_json(content: str, refused, broken: Path):
    annotations(broken).write_text(content)
    sentence = refused()
    assert sentence.startswith("dtd: ") and str(annotations(broken)) in sentence and has_remedy(sentence)


@pytest.mark.parametrize("key", ["images", "categories", "annotations"])
def test_annotation_that_lacks_a_key(key: str, refused, broken: Path):
    change(annotations(broken), lambda content: content.pop(key))
    sentence = refused()
    assert key in sentence and "dtd" in sentence and str(annotations(broken)) in sentence and has_remedy(sentence)


@pytest.mark.parametrize("listed", ["images", "categories"])
def test_annotation_that_repeats_an_id(listed: str, refused, broken: Path):
    change(annotations(broken, "val"), lambda content: content[listed].append(content[listed][0]))
    sentence = refused()
    assert (
        str(annotations(broken, "val")) in sentence and re.search(r"repeats|twice", sentence) and has_remedy(sentence)
    )


@pytest.mark.parametrize("wrong", [40000099, 10000001])
def test_annotation_that_names_an_unknown_class(wrong: int, refused, broken: Path):
    change(annotations(broken), lambda content: content["annotations"][3].update(category_id=wrong))
    sentence = refused()
    assert "dtd" in sentence and "unknown class" in sentence and str(wrong) in sentence


def test_val_that_is_train(refused, broken: Path):
    shutil.copy(annotations(broken), annotations(broken, "val"))
    sentence = refused()
    assert sentence.startswith("dtd: ") and "which train has too (24 in both)" in sentence and has_remedy(sentence)


def test_empty_split(refused, broken: Path):
    change(annotations(broken, "val"), lambda content: content.update(images=[], annotations=[]))
    sentence = refused()
    assert "dtd" in sentence and "empty split" in sentence and has_remedy(sentence)


def test_annotation_that_is_missing(refused, broken: Path):
    annotations(broken, "val").unlink()
    sentence = refused()
    assert "dtd" in sentence and str(annotations(broken, "val")) in sentence and "DOMAINS=" in sentence


def test_class_in_val_that_train_lacks(refused, broken: Path):
    def without_c(content: dict) -> None:
        gone = [a["image_id"] for a in content["annotations"] if a["category_id"] == 40000003]
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] not in gone]
        content["images"] = [i for i in content["images"] if i["id"] not in gone]

    change(annotations(broken), without_c)
    sentence = refused()
    assert (
        "dtd" in sentence and "'c'" in sentence and str(annotations(broken, "val")) in sentence and has_remedy(sentence)
    )


def image(root: Path) -> Path:
    return root / "data" / "dtd" / "val" / "000027.png"


@pytest.mark.parametrize("fault", ["missing", "empty", "truncated", "no image", "a folder"])
def test_image_that_does_not_open(fault: str, refused, broken: Path):
    path = image(broken)
    content = path.read_bytes()
    path.unlink()
    if fault == "a folder":
        path.mkdir()
    elif fault != "missing":
        path.write_bytes({"empty": b"", "truncated": content[: len(content) // 2], "no image": b"text" * 99}[fault])
    sentence = refused()
    assert sentence.startswith("dtd: ") and str(path) in sentence and has_remedy(sentence)


@pytest.mark.parametrize("mode", ["CMYK", "P", "I;16", "L", "LA", "1", "RGBA"])
def test_image_of_another_mode_converts(mode: str, here, broken: Path, finished: Path, tmp_path: Path):
    path = image(broken)
    picture = Image.open(path).convert("L")
    if mode == "I;16":
        picture = picture.point(lambda v: v * 256.0, "F").convert("I").convert("I;16")
    else:
        picture = picture.convert("RGB").convert(mode)
    kind = "TIFF" if mode == "CMYK" else "PNG"
    path.unlink()
    picture.save(path, kind)
    words = ("--data", str(broken), "--domains", "dtd")
    done = here(*words, method="feature", results=tmp_path / "results")
    assert done.code == 0, done.err
    assert len(read_records([tmp_path / "results" / "records"])) == 1
