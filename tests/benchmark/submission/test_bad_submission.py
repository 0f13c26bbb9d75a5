"""Everything that is no submission ends in one sentence with its remedy."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from tests.benchmark.submission.planted import entries_of, error_line
from visual_decathlon.benchmark.submission import archive
from visual_decathlon.benchmark.submission.archive import Submission, read, write
from visual_decathlon.datasets.catalogue import DOMAINS
from visual_decathlon.datasets.errors import InputError


def _double(entries: list) -> str:
    entries.append(entries[5])
    return f"has the image id {entries[5]['image_id']} more than once"


def _foreign(entries: list) -> str:
    entries[5]["image_id"] = 40_000_001  # a train image of dtd
    return "has the image id 40000001, which is no test image of dtd"


def _nobodys(entries: list) -> str:
    entries[5]["image_id"] = 110_200_001
    return "has the image id 110200001, which is no test image of any domain"


def _other_domains(entries: list) -> str:
    entry = next(e for e in entries if e["image_id"] // 10**7 == 4)
    entry["category_id"] = 10_000_001
    return (
        f"image {entry['image_id']} of dtd the category id 10000001, which is of aircraft; take one from 40000001 to 4"
    )


def _no_class(entries: list) -> str:
    entry = next(e for e in entries if e["image_id"] // 10**7 == 4)
    entry["category_id"] = 40_000_048
    return "the category id 40000048, which is no class of it; take one from 40000001 to 40000047"


def _zeroth(entries: list) -> str:
    entry = next(e for e in entries if e["image_id"] // 10**7 == 4)
    entry["category_id"] = 40_000_000
    return "the category id 40000000, which is no class of it"


def _missing(entries: list) -> str:
    gone = [e for e in entries if e["image_id"] // 10**7 in (4, 8)][:-1]
    gone.sort(key=lambda e: e["image_id"])
    entries[:] = [e for e in entries if e["image_id"] // 10**7 not in (4, 8, 9)]
    entries += [e for e in gone if e["image_id"] // 10**7 == 4][2:]
    return "lacks every image of svhn, ucf101, "


def _text(entries: list) -> str:
    entries[5]["image_id"] = str(entries[5]["image_id"])
    return "is no submission (Expected `int`, got `str` - at `$[5].image_id`); it must be a list of"


def _negative(entries: list) -> str:
    entries[5]["category_id"] = -1
    return "`$[5].category_id`); it must be a list of"


def _null(entries: list) -> str:
    entries[5]["category_id"] = None
    return "`$[5].category_id`); it must be a list of"


def _key(entries: list) -> str:
    entries[5]["score"] = 0.5
    return "Object contains unknown field `score`"


def _lacking_key(entries: list) -> str:
    del entries[5]["category_id"]
    return "Object missing required field `category_id`"


def _empty(entries: list) -> str:
    entries.clear()
    return "has no entry"


SPOILT = [_double, _foreign, _nobodys, _other_domains, _no_class, _zeroth, _missing, _text, _negative, _null]
SPOILT += [_key, _lacking_key, _empty]


@pytest.mark.parametrize("spoil", SPOILT, ids=lambda spoil: spoil.__name__.strip("_"))
def test_wrong_entries_are_one_sentence(spoil: Callable[[list], str], planted, tmp_path: Path):
    entries = entries_of(planted[1])
    expected = spoil(entries)
    (tmp_path / "results.json").write_bytes(msgspec.json.encode(entries))
    message = error_line("score", "--file", tmp_path / "results.json")
    assert expected in message and "results.json" in message and ";" in message


def test_a_partly_missing_domain_is_counted(planted, tmp_path: Path):
    root, entries = planted
    dtd = entries.for_domain(DOMAINS["dtd"])
    kept = dtd.images != dtd.images.min()
    write(Submission("x", dtd.images[kept], dtd.categories[kept]), tmp_path / "r.zip")
    message = error_line("score", "--file", tmp_path / "r.zip", "--labels", root)
    assert f"lacks 1 image(s) of dtd (first: {dtd.images.min()}); give every test image its entry" in message


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "holds no JSON"),
        (b"\xff\xfe[]", "holds no JSON"),
        (b"[{", "holds no JSON"),
        (b"[" * 100_000, "is no submission (Expected `object`, got `array`"),
        (b"{}", "is no submission (Expected `array`, got `object`)"),
        (b"PK\x03\x04 and then nothing", "is a ZIP that cannot be read"),
    ],
)
def test_what_is_no_submission_is_one_sentence(content: bytes, expected: str, tmp_path: Path):
    (tmp_path / "r.zip").write_bytes(content)
    assert expected in error_line("score", "--file", tmp_path / "r.zip")


def _zip(path: Path, name: str, content: bytes) -> bytes:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr(name, content)
    return path.read_bytes()


def test_a_broken_zip_is_one_sentence(planted, tmp_path: Path):
    path = tmp_path / "r.zip"
    write(planted[1], path)
    whole = path.read_bytes()
    for broken in (whole[:1000], whole[: len(whole) // 2], whole[:9000] + b"\0" * 99 + whole[9099:]):
        path.write_bytes(broken)
        assert "is a ZIP that cannot be read" in error_line("score", "--file", path)
    path.write_bytes(_zip(path, "decathlon/results.json", b"[]"))
    assert "holds no results.json at its top (it has decathlon/results.json)" in error_line("score", "--file", path)
    flagged = bytearray(_zip(path, "results.json", b"[]"))
    flagged[6] |= 1  # the flag of an encrypted file
    flagged[flagged.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(flagged)
    assert "is a ZIP that cannot be read" in error_line("score", "--file", path)


def test_a_zip_that_unpacks_without_end_is_not_unpacked(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(archive, "LARGEST", 10**6)
    _zip(tmp_path / "r.zip", "results.json", b" " * 10**7)
    assert "unpacks to over 1,000,000 bytes" in error_line("score", "--file", tmp_path / "r.zip")


def test_files_that_are_not_there(planted, tmp_path: Path):
    assert "nowhere.zip cannot be read" in error_line("score", "--file", tmp_path / "nowhere.zip")
    assert "is a folder; name a ZIP" in error_line("score", "--file", tmp_path)
    write(planted[1], tmp_path / "r.zip")
    (tmp_path / "empty").mkdir()
    message = error_line("score", "--file", tmp_path / "r.zip", "--labels", tmp_path / "empty")
    assert message.startswith(f"LABELS={tmp_path / 'empty'} holds no <domain>_test.json")
    message = error_line("score", "--file", tmp_path / "r.zip", "--labels", tmp_path / "dtd_test.json")
    assert f"LABELS={tmp_path / 'dtd_test.json'} does not exist; name" in message


def test_labels_that_are_none(planted, tmp_path: Path):
    root, entries = planted
    write(entries, tmp_path / "r.zip")
    dtd, svhn = (root / "annotations" / f"{name}_test.json" for name in ("dtd", "svhn"))

    def message(*labels: Path) -> str:
        return error_line("score", "--file", tmp_path / "r.zip", *(w for label in labels for w in ("--labels", label)))

    shutil.copy(dtd, tmp_path / "svhn_test.json")
    assert "svhn: " in (expected := message(tmp_path / "svhn_test.json")) and "not of domain number 8" in expected
    shutil.copy(dtd, tmp_path / "labels.json")
    assert "labels.json is named after no domain" in message(tmp_path / "labels.json")
    assert "dtd: its labels are given twice" in message(dtd, root)
    content = json.loads(dtd.read_bytes())
    stripped = {key: value for key, value in content.items() if key != "annotations"}
    (tmp_path / "dtd_test.json").write_text(json.dumps(stripped))
    assert "dtd_test.json holds no labels" in message(tmp_path / "dtd_test.json")
    for image, annotation in zip(content["images"], content["annotations"], strict=True):
        image["id"] = annotation["image_id"] = image["id"] + 40_000_000
    (tmp_path / "dtd_test.json").write_text(json.dumps(content))
    assert "which is not of domain number 4" in message(tmp_path / "dtd_test.json")
    (tmp_path / "dtd_test.json").write_bytes(svhn.read_bytes()[:-5])
    assert "is no JSON" in message(tmp_path / "dtd_test.json")


def test_labels_and_data_are_not_asked_for_together(tmp_path: Path):
    assert "not allowed with" in error_line("score", "--file", "x", "--labels", tmp_path, "--data", tmp_path)
    with pytest.raises(InputError):
        read(tmp_path / "x")
