"""Submissions are read, checked, scored and written: planted error rates come back exactly."""

import json
import shutil
import sys
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.benchmark.submission.planted import (
    WRONG,
    entries_of,
    error_line,
    printed_rows,
    run_command,
    write_labels,
)
from visual_decathlon.benchmark.submission import archive
from visual_decathlon.benchmark.submission.archive import Submission, official_test_images, read, write
from visual_decathlon.benchmark.submission.evaluation import against, read_labels
from visual_decathlon.benchmark.tables.published import published_baseline
from visual_decathlon.datasets.catalogue import DOMAINS, category_id


def test_the_real_test_split_has_139_760_images():
    assert sum(len(one.ids) for one in official_test_images()) == 139_760
    assert len(np.unique(np.concatenate([one.ids for one in official_test_images()]))) == 139_760
    for one in official_test_images():
        assert set(one.ids // 10**7) == {one.domain.k}


def test_official_files_have_the_ids_that_are_expected(shared: Path):
    labels = read_labels([shared / "official"])
    assert set(labels) == {"dtd", "omniglot"}
    for split in labels.values():
        one = archive.split_test_images(split)
        assert one.official and one.classes == split.domain.classes


def test_planted_errors_come_back_exactly(planted, tmp_path: Path):
    root, entries = planted
    write(entries, tmp_path / "r.zip")
    scored, other = against(read(tmp_path / "r.zip"), read_labels([root]))
    assert other == []
    score = 0.0
    for name, domain in DOMAINS.items():
        images = domain.counts[2]
        assert (scored.images[name], scored.right[name]) == (images, images - WRONG[name])
        assert scored.top1[name] == 100 * (images - WRONG[name]) / images
        e_max, error = 2 * (100 - published_baseline()[name]), 100 * WRONG[name] / images
        score += 1000 * e_max**-2 * max(0.0, e_max - error) ** 2
    assert 0 < score < 10_000
    assert (scored.S, scored.mean) == pytest.approx((score, sum(scored.top1.values()) / 10))
    code, out, _ = run_command("score", "--file", tmp_path / "r.zip", "--labels", root)
    rows = printed_rows(out)
    assert code == 0 and list(rows) == ["domain", *DOMAINS, "mean", "S"][-12:]
    assert rows["dtd"] == ["1,880", "1,380", "73.40", "55.53"]
    assert rows["mean"] == ["139,760", f"{139_760 - 5_500:,}", f"{scored.mean:.2f}", "76.51"]
    assert rows["S"] == ["", "", f"{score:.0f}", "2500"]


def test_the_perfect_score_is_10_000(planted):
    labels = read_labels([planted[0]])
    right = np.concatenate([category_id(s.domain.k, 0) + s.labels for s in labels.values()])
    perfect = Submission("perfect", np.concatenate([s.ids for s in labels.values()]), right)
    scored, _ = against(perfect, labels)
    assert (scored.mean, scored.S) == pytest.approx((100, 10_000))


def test_a_whole_submission_is_checked_as_columns(planted, tmp_path: Path):
    """Of each of its 139,760 entries two numbers are taken and nothing else: then it takes about a second."""
    _, entries = planted
    write(entries, tmp_path / "r.zip")
    calls = Counter()
    sys.setprofile(lambda frame, event, what: calls.update([event]))
    try:
        archive.check(read(tmp_path / "r.zip"), official_test_images())
    finally:
        sys.setprofile(None)
    assert calls["call"] < 2.5 * 139_760 and calls["c_call"] < 10_000, calls
    code, out, _ = run_command("score", "--file", tmp_path / "r.zip")
    assert code == 0 and "139,760 entries, one for every test image of the real release (10/10 domains)" in out


def test_the_same_entries_are_the_same_bytes(planted, tmp_path: Path):
    _, entries = planted
    order = np.random.default_rng(1).permutation(len(entries))
    again = Submission("again", entries.images[order], entries.categories[order])
    write(entries, tmp_path / "1.zip")
    write(again, tmp_path / "2.zip")
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "1.zip") as zipped:
        assert zipped.namelist() == ["results.json"] and zipped.testzip() is None
        content = json.loads(zipped.read("results.json"))
    assert [e["image_id"] for e in content] == sorted(entries.images.tolist())
    assert all(list(e) == ["image_id", "category_id"] for e in content)
    assert {e["image_id"]: e["category_id"] for e in content} == {
        e["image_id"]: e["category_id"] for e in entries_of(entries)
    }


def test_json_is_read_as_its_zip(planted, tmp_path: Path):
    _, entries = planted
    for encoding in ("utf-8", "utf-8-sig"):  # some editors put a byte order mark in front
        (tmp_path / "anything").write_text(json.dumps(entries_of(entries), indent=1), encoding)
        read_back = read(tmp_path / "anything")
        assert np.array_equal(read_back.images, entries.images)
        assert np.array_equal(read_back.categories, entries.categories)


def test_some_domains_have_no_mean_and_no_score(shared: Path, tmp_path: Path):
    """On the two official label files, an eighth of dtd planted wrong and every third of omniglot."""
    entries = []
    for name, each in (("dtd", 8), ("omniglot", 3)):
        content = json.loads((shared / "official" / f"{name}_test.json").read_bytes())
        k, classes = DOMAINS[name].k * 10**7, DOMAINS[name].classes
        for i, a in enumerate(content["annotations"]):
            category = a["category_id"] if i % each else k + (a["category_id"] - k) % classes + 1
            entries.append({"image_id": a["image_id"], "category_id": category})
    (tmp_path / "results.json").write_text(json.dumps(entries))
    code, out, err = run_command("score", "--file", tmp_path / "results.json", "--labels", shared / "official")
    assert code == 0, err
    rows = printed_rows(out)
    assert rows["dtd"] == ["1,880", "1,645", "87.50", "55.53"]
    assert rows["omniglot"] == ["8,115", "5,410", "66.67", "87.69"]
    assert rows["mean (2/10)"] == ["9,995", "7,055", "", ""] and rows["S"] == [""] * 4
    assert "Mean and S stay empty where not all ten domains are there." in out
    file = shared / "official" / "dtd_test.json"
    code, out, _ = run_command("score", "--file", tmp_path / "results.json", "--labels", file)
    assert code == 0 and "mean (1/10)" in out and "without labels, so not scored: omniglot" in out


def test_labels_of_stand_ins_give_no_score(planted, tmp_path: Path):
    """Nor do any that are not the real test split's: S has no baseline of its own there."""
    root, entries = planted
    shutil.copytree(root, tmp_path / "labels")
    write_labels(tmp_path / "labels", DOMAINS["dtd"], "a stand-in")
    write(entries, tmp_path / "r.zip")
    code, out, _ = run_command("score", "--file", tmp_path / "r.zip", "--labels", tmp_path / "labels")
    assert code == 0 and "those of dtd are not" in out
    assert printed_rows(out)["S"][-1] == "" and "2500" not in out and len(printed_rows(out)["mean"]) == 3


def test_what_is_only_in_the_labels_is_named(planted, tmp_path: Path):
    root, entries = planted
    write(entries.for_domain(DOMAINS["svhn"]), tmp_path / "r.zip")
    files = [root / "annotations" / f"{name}_test.json" for name in ("svhn", "dtd")]
    code, out, _ = run_command("score", "--file", tmp_path / "r.zip", "--labels", files[0], "--labels", files[1])
    assert code == 0 and "mean (1/10)" in out and "Not in the file: dtd." in out
    assert "r.zip has no entry of dtd" in error_line("score", "--file", tmp_path / "r.zip", "--labels", files[1])
