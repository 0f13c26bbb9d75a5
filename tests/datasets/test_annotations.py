"""The reader of official annotation files: the spellings that it accepts, and the errors that it raises."""

import json
import shutil

import numpy as np
import pytest

from visual_decathlon.datasets.annotations import annotation_path, domains_in, read_split, write_annotations
from visual_decathlon.datasets.catalogue import DOMAINS, category_id, image_id
from visual_decathlon.datasets.errors import InputError

DTD = DOMAINS["dtd"]


def edit(root, change, split="val"):
    """Applies `change(content)` to dtd's annotation file of `split`."""
    path = root / "annotations" / f"dtd_{split}.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


def test_round_trip(release):
    root = release("dtd")
    train, val = read_split(root, DTD, "train"), read_split(root, DTD, "val")
    assert train.files[0] == "data/dtd/train/0001/000001.jpg"
    assert train.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert val.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert train.ids.tolist() == [image_id(4, "train", n) for n in range(1, 10)] == list(range(40000001, 40000010))
    assert val.ids.tolist() == list(range(40100010, 40100016))
    assert train.classes == ("sign1", "sign10", "sign2")
    assert train.description == "tiny"
    assert len(train) == 9
    assert train.root == root


def test_a_byte_order_mark_is_accepted(release):
    root = release("dtd")
    before = read_split(root, DTD, "val")
    path = root / "annotations" / "dtd_val.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    after = read_split(root, DTD, "val")
    assert after.files == before.files and after.labels.tolist() == before.labels.tolist()
    path.write_text(path.read_text("utf-8-sig"), "utf-16")
    with pytest.raises(InputError, match=r"is no JSON .*; restore"):
        read_split(root, DTD, "val")


def test_labels_are_joined_on_ids_not_on_order(release):
    root = release("dtd")
    edit(root, lambda content: (content["annotations"].reverse(), content["categories"].reverse()))
    val = read_split(root, DTD, "val")
    assert val.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert val.classes == ("sign1", "sign10", "sign2")


def test_stripped_test_has_no_labels_and_the_labelled_file_is_preferred(release):
    root = release("dtd")
    stripped = read_split(root, DTD, "test")
    assert stripped.labels is None
    assert stripped.source.name == "dtd_test_stripped.json"
    assert isinstance(json.loads(stripped.source.read_text())["licenses"], dict)  # one object, not a list
    rows = [(file, 80, 72, label) for file, label in zip(stripped.files, (2, 0, 1), strict=True)]
    write_annotations(root, DTD, "test", rows, stripped.classes, "labelled", 16)
    labelled = read_split(root, DTD, "test")
    assert labelled.source.name == "dtd_test.json"
    assert labelled.labels.tolist() == [2, 0, 1]
    assert np.array_equal(labelled.ids, stripped.ids)


def double_image(content):
    content["images"].append(dict(content["images"][0]))


def two_labels(content):
    content["annotations"].append(content["annotations"][0] | {"category_id": category_id(4, 2)})


def double_category(content):
    content["categories"].append(dict(content["categories"][0]))


def setter(where, key, value):
    return lambda content: content[where][0].__setitem__(key, value)


CASES = {
    "no images key": (lambda c: c.pop("images"), "images"),
    "no categories key": (lambda c: c.pop("categories"), "categories"),
    "no annotations key": (lambda c: c.pop("annotations"), "annotations"),
    "no id": (lambda c: c["images"][0].pop("id"), "id"),
    "id of the wrong type": (setter("images", "id", "one"), 'has "one" as `id` in images[0]; give each a whole number'),
    "id of null": (setter("images", "id", None), "has null as `id` in images[0]; "),
    "half an id": (setter("annotations", "image_id", 1.5), "has 1.5 as `image_id` in annotations[0]; write the id of"),
    "label of null": (setter("annotations", "category_id", None), "has null as `category_id` in annotations[0]; "),
    "no category id": (lambda c: c["categories"][2].pop("id"), "lacks the key `id` in categories[2]; "),
    "no name of a file": (lambda c: c["images"][5].pop("file_name"), "lacks the key `file_name` in images[5]; write"),
    "images no list": (lambda c: c.update(images={"1": {}}), "as `images`; write a list"),
    "an image no object": (lambda c: c["images"].insert(1, "a.jpg"), 'has "a.jpg" as images[1]; write a list'),
    "drive": (setter("images", "file_name", "C:\\data\\1.jpg"), "outside the release"),
    "path climbs out of Windows": (setter("images", "file_name", "data\\..\\..\\x"), "outside the release"),
    "image id twice": (double_image, "repeats the image id 40100010"),
    "two labels": (two_labels, "labels the image id 40100010 twice, with the category ids 40000001 and 40000003; keep"),
    "category twice": (double_category, "repeats the category id 40000001"),
    "unknown class": (setter("annotations", "category_id", category_id(4, 3)), "unknown class: category id 40000004"),
    "another domain's label": (setter("annotations", "category_id", category_id(8, 0)), "category id 80000001"),
    "another domain's class": (setter("categories", "id", category_id(8, 0)), "not of domain number 4"),
    "label of no image": (setter("annotations", "image_id", 7), "labels the image id 7"),
    "image without label": (lambda c: c["annotations"].pop(0), "no label for the image id 40100010"),
    "empty split": (lambda c: (c["images"].clear(), c["annotations"].clear()), "empty split"),
    "no class": (lambda c: c["categories"].clear(), "no category"),
    "a class in a gap": (lambda c: c["categories"].pop(1), "unknown class: category id 40000002"),
    "no file name": (setter("images", "file_name", ""), "`file_name` ''"),
    "no possible file name": (setter("images", "file_name", "a\0b.jpg"), r"`file_name` 'a\x00b.jpg'"),
    "path climbs out": (setter("images", "file_name", "data/../../etc/passwd"), "outside the release"),
    "absolute path": (setter("images", "file_name", "/etc/passwd"), "outside the release"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_content_is_one_sentence(release, case):
    change, words = CASES[case]
    root = release("dtd")
    path = edit(root, change)
    with pytest.raises(InputError) as error:
        read_split(root, DTD, "val")
    sentence = str(error.value)
    assert words in sentence
    assert sentence.startswith("dtd: ")
    assert str(path) in sentence
    assert "\n" not in sentence


def without(*keys, where="images"):
    return lambda content: [entry.pop(key) for entry in content[where] for key in keys]


def windows(content):
    for image in content["images"]:
        image["file_name"] = image["file_name"].replace("/", "\\")


def shorter(start):
    def change(content):
        for image in content["images"]:
            image["file_name"] = image["file_name"].removeprefix(start)

    return change


def put(start):
    def change(content):
        for image in content["images"]:
            image["file_name"] = start + image["file_name"]

    return change


def mixed(content):
    ways = [shorter("data/"), put("./"), shorter("data/dtd/"), lambda c: None, shorter("data/dtd/val/"), put("/")]
    for image, way in zip(content["images"], ways, strict=True):
        way({"images": [image]})


def as_text(content):
    for entry in (*content["images"], *content["categories"], *content["annotations"]):
        entry.update({key: str(value) for key, value in entry.items() if key.endswith("id")})


def as_floats(content):
    for entry in (*content["images"], *content["categories"], *content["annotations"]):
        entry.update({k: float(v) for k, v in entry.items() if k.endswith("id") or k in ("width", "height")})


def nan(content):
    content["annotations"][0]["area"] = content["images"][0]["width"] = float("nan")
    content["info"]["version"] = float("inf")


FINE = {
    "no info": lambda c: c.pop("info"),
    "info of null": lambda c: c.update(info=None),
    "info a list": lambda c: c.update(info=["me"]),
    "no licenses": lambda c: c.pop("licenses"),
    "no sizes": without("width", "height"),
    "sizes of null": lambda c: [image.update(width=None, height=None) for image in c["images"]],
    "sizes as text": lambda c: [image.update(width="80", height="tall") for image in c["images"]],
    "whole floats": as_floats,
    "numbers as text": as_text,
    "not a number": nan,
    "Windows": windows,
    "without data/": shorter("data/"),
    "without data/dtd/": shorter("data/dtd/"),
    "the name in the split's folder": shorter("data/dtd/val/"),
    "from the top": put("/"),
    "from here": put("./"),
    "two strokes": put("//"),
    "from the top of Windows": lambda c: (put("/")(c), windows(c)),
    "each otherwise": mixed,
    "no supercategory": without("supercategory", where="categories"),
    "only what is needed": without("id", "segmentation", "area", "bbox", "iscrowd", where="annotations"),
    "nulls in unused fields": lambda c: [a.update(bbox=None, iscrowd=None, x=1) for a in c["annotations"]],
    "a repeated label": lambda c: c["annotations"].append(dict(c["annotations"][0])),
}


@pytest.mark.parametrize("case", FINE)
def test_fields_that_training_does_not_need_may_be_missing_or_odd(release, case):
    root = release("dtd")
    before = read_split(root, DTD, "val")
    path = edit(root, FINE[case])
    after = read_split(root, DTD, "val")
    assert after.files == before.files and after.classes == before.classes
    assert after.ids.tolist() == before.ids.tolist() and after.labels.tolist() == before.labels.tolist()
    path.write_text(json.dumps(json.loads(path.read_text())), "utf-8-sig")
    assert read_split(root, DTD, "val").labels.tolist() == before.labels.tolist()


def test_absolute_paths_into_the_release(release, tmp_path, monkeypatch):
    root = release("dtd")
    before = read_split(root, DTD, "val").files
    (tmp_path / "link").symlink_to(root)
    edit(root, put(f"{root}/"))
    assert read_split(root, DTD, "val").files == read_split(tmp_path / "link", DTD, "val").files == before
    monkeypatch.chdir(tmp_path)
    assert read_split(root.relative_to(tmp_path), DTD, "val").files == before
    edit(root, shorter(f"{root}"))
    edit(root, put(f"{tmp_path}/elsewhere"))
    with pytest.raises(InputError, match=r"outside the release: the `file_name` '.*/elsewhere/data/.*; write its path"):
        read_split(root, DTD, "val")


def test_a_missing_first_image_changes_no_path(release):
    root = release("dtd")
    before = read_split(root, DTD, "val").files
    (root / before[0]).unlink()
    edit(root, shorter("data/dtd/"))
    assert read_split(root, DTD, "val").files == before


def test_categories_without_a_name_are_named_by_their_id(release):
    root = release("dtd")
    edit(root, lambda c: (c["categories"][0].pop("name"), c["categories"][1].update(name=None)))
    edit(root, lambda c: c["categories"][2].update(name=7))
    assert read_split(root, DTD, "val").classes == ("40000001", "40000002", "7")


def test_an_empty_list_of_labels_means_no_labels_in_test_only(release):
    root = release("dtd")
    stripped = root / "annotations" / "dtd_test_stripped.json"
    content = json.loads(stripped.read_text())
    stripped.write_text(json.dumps(content | {"annotations": []}))
    assert read_split(root, DTD, "test").labels is None
    edit(root, lambda c: c.update(annotations=[]))
    with pytest.raises(InputError, match=r"no label for the image id 40100010 \(nor 5 others\); add its annotation"):
        read_split(root, DTD, "val")


@pytest.mark.parametrize("content", [b"", b"{", b"not json", b"\xff\xfe", b"[]", b"null", b'{"info": {"a": "\xff"}}'])
def test_no_json(release, content):
    root = release("dtd")
    (root / "annotations" / "dtd_val.json").write_bytes(content)
    with pytest.raises(InputError, match=r"dtd: .*dtd_val.json"):
        read_split(root, DTD, "val")


def test_missing_file_and_no_release(release, tmp_path):
    root = release("dtd")
    assert [domain.name for domain in domains_in(root)] == ["dtd"]
    (root / "annotations" / "dtd_val.json").unlink()
    with pytest.raises(InputError, match=r"dtd_val.json is missing"):
        read_split(root, DTD, "val")
    assert annotation_path(root, "dtd", "val") is None
    with pytest.raises(InputError, match=r"data=.*dtd_train.json is no folder"):
        domains_in(root / "annotations" / "dtd_train.json")
    with pytest.raises(InputError, match=r"data=.*absent does not exist"):
        domains_in(root / "absent")
    (tmp_path / "empty").mkdir()
    for root in (tmp_path / "empty", tmp_path / "absent"):
        with pytest.raises(InputError, match="data="):
            domains_in(root)


def test_gaps_and_nameless_classes(release):
    """A release of a subset may leave out a category. A category with the name "" exists, and labels may use it."""
    root = release("dtd")
    edit(
        root, lambda c: (c["categories"].pop(1), [c[key].__delitem__(slice(2, 4)) for key in ("images", "annotations")])
    )
    val = read_split(root, DTD, "val")
    assert val.labels.tolist() == [0, 0, 2, 2] and val.classes == ("sign1", "", "sign2")
    edit(root, setter("categories", "name", ""))
    assert read_split(root, DTD, "val").labels.tolist() == [0, 0, 2, 2]


def test_a_train_split_needs_two_classes(release):
    root = release("dtd")

    def one_class(content):
        for annotation in content["annotations"]:
            annotation["category_id"] = category_id(4, 1)

    edit(root, one_class)
    assert set(read_split(root, DTD, "val").labels) == {1}  # a small val may have one class only
    edit(root, one_class, "train")
    with pytest.raises(InputError, match=r"^dtd: .*dtd_train.json has images of one class only .*40000002.*; "):
        read_split(root, DTD, "train")


@pytest.mark.parametrize(("name", "count"), [("dtd", 1_880), ("omniglot", 8_115)])
def test_official_files(shared, tmp_path, name, count):
    official = shared / "official" / f"{name}_test.json"
    if not official.is_file():
        pytest.skip(f"../shared/official/{name}_test.json is not there")
    (tmp_path / "annotations").mkdir()
    shutil.copy(official, tmp_path / "annotations")
    domain = DOMAINS[name]
    split = read_split(tmp_path, domain, "test")
    assert len(split) == count == domain.counts[2]
    assert len(split.classes) == domain.classes
    first = image_id(domain.k, "test", sum(domain.counts[:2]) + 1)
    assert split.ids.tolist() == list(range(first, first + count))
    assert np.bincount(split.labels, minlength=domain.classes).min() > 0
    # Compared with the file itself, by a plain dictionary.
    content = json.loads(official.read_text())
    by_image = {a["image_id"]: a["category_id"] for a in content["annotations"]}
    assert [by_image[i] - domain.k * 10**7 - 1 for i in split.ids.tolist()] == split.labels.tolist()
    names = {c["id"] - domain.k * 10**7 - 1: c["name"] for c in content["categories"]}
    assert [names[i] for i in range(domain.classes)] == list(split.classes)
