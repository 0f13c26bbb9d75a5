"""Submissions: planted error rates come back exactly, and everything that is no submission ends in one sentence."""

import contextlib
import io
import json
import shutil
import sys
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from visual_decathlon.benchmark.cli.main import main
from visual_decathlon.benchmark.records.predictions import predictions_path
from visual_decathlon.benchmark.records.store import read_records, write_record
from visual_decathlon.benchmark.submission import archive
from visual_decathlon.benchmark.submission.archive import Submission, official, read, write
from visual_decathlon.benchmark.submission.evaluation import against, read_labels
from visual_decathlon.benchmark.tables.published import published_baseline
from visual_decathlon.datasets.annotations import write_annotations
from visual_decathlon.datasets.catalogue import DOMAINS, category_id
from visual_decathlon.datasets.errors import InputError

METHOD = "finetune"  # learns something in two epochs
WRONG = {name: 100 * (i + 1) for i, name in enumerate(DOMAINS)}  # planted images of each domain


def write_labels(root: Path, domain, description: str = "labels of the real shape") -> tuple[np.ndarray, np.ndarray]:
    """A label file with the official ids and drawn labels, the images in another order; (ids, labels)."""
    train, val, test = domain.counts
    labels = np.random.default_rng(domain.k).integers(domain.classes, size=test)
    rows = [(f"data/{domain.name}/test/{i + 1:06}.jpg", 72, 72, int(label)) for i, label in enumerate(labels)]
    names = map(str, range(domain.classes))
    path = write_annotations(root, domain, "test", rows, names, description, train + val + 1)
    content = msgspec.json.decode(path.read_bytes())
    content["images"].reverse()
    path.write_bytes(msgspec.json.encode(content))
    return domain.k * 10**7 + 200_000 + train + val + 1 + np.arange(test), labels


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Submission]:
    """Label files of all ten domains, and a shuffled submission with so many wrong as WRONG says."""
    root, images, categories = tmp_path_factory.mktemp("planted"), [], []
    for domain in DOMAINS.values():
        ids, labels = write_labels(root, domain)
        rng = np.random.default_rng(domain.k)
        wrong = rng.permutation(len(ids))[: WRONG[domain.name]]
        given = labels.copy()
        given[wrong] = (given[wrong] + rng.integers(1, domain.classes, size=len(wrong))) % domain.classes
        images.append(ids)
        categories.append(domain.k * 10**7 + 1 + given)
    order = np.random.default_rng(0).permutation(sum(map(len, images)))
    return root, Submission("planted", np.concatenate(images)[order], np.concatenate(categories)[order])


def entries_of(entries: Submission) -> list[dict]:
    pairs = zip(entries.images.tolist(), entries.categories.tolist(), strict=True)
    return [{"image_id": image, "category_id": category} for image, category in pairs]


def run(*words: str | Path) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([str(word) for word in words])
        except SystemExit as end:
            code = end.code
    return code, out.getvalue(), err.getvalue()


def sentence(*words: str | Path) -> str:
    code, _, err = run(*words)
    assert code == 2 and err.count("\n") == 1 and len(err) > 20 and "Traceback" not in err, err
    return err.strip()


def lines(out: str) -> dict[str, list[str]]:
    """Rows of the printed table by their first cell."""
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in out.splitlines() if line[:1] == "│"]
    return {row[0]: row[1:] for row in rows}


def test_the_real_test_split_has_139_760_images():
    assert sum(len(one.ids) for one in official()) == 139_760
    assert len(np.unique(np.concatenate([one.ids for one in official()]))) == 139_760
    for one in official():
        assert set(one.ids // 10**7) == {one.domain.k}


def test_official_files_have_the_ids_that_are_expected(shared: Path):
    labels = read_labels([shared / "official"])
    assert set(labels) == {"dtd", "omniglot"}
    for split in labels.values():
        one = archive.of_split(split)
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
    code, out, _ = run("score", "--file", tmp_path / "r.zip", "--labels", root)
    rows = lines(out)
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
        archive.check(read(tmp_path / "r.zip"), official())
    finally:
        sys.setprofile(None)
    assert calls["call"] < 2.5 * 139_760 and calls["c_call"] < 10_000, calls
    code, out, _ = run("score", "--file", tmp_path / "r.zip")
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
    code, out, err = run("score", "--file", tmp_path / "results.json", "--labels", shared / "official")
    assert code == 0, err
    rows = lines(out)
    assert rows["dtd"] == ["1,880", "1,645", "87.50", "55.53"]
    assert rows["omniglot"] == ["8,115", "5,410", "66.67", "87.69"]
    assert rows["mean (2/10)"] == ["9,995", "7,055", "", ""] and rows["S"] == [""] * 4
    assert "Mean and S stay empty where not all ten domains are there." in out
    file = shared / "official" / "dtd_test.json"
    code, out, _ = run("score", "--file", tmp_path / "results.json", "--labels", file)
    assert code == 0 and "mean (1/10)" in out and "without labels, so not scored: omniglot" in out


def test_labels_of_stand_ins_give_no_score(planted, tmp_path: Path):
    """Nor do any that are not the real test split's: S has no baseline of its own there."""
    root, entries = planted
    shutil.copytree(root, tmp_path / "labels")
    write_labels(tmp_path / "labels", DOMAINS["dtd"], "a stand-in")
    write(entries, tmp_path / "r.zip")
    code, out, _ = run("score", "--file", tmp_path / "r.zip", "--labels", tmp_path / "labels")
    assert code == 0 and "those of dtd are not" in out
    assert lines(out)["S"][-1] == "" and "2500" not in out and len(lines(out)["mean"]) == 3


def test_what_is_only_in_the_labels_is_named(planted, tmp_path: Path):
    root, entries = planted
    write(entries.of(DOMAINS["svhn"]), tmp_path / "r.zip")
    files = [root / "annotations" / f"{name}_test.json" for name in ("svhn", "dtd")]
    code, out, _ = run("score", "--file", tmp_path / "r.zip", "--labels", files[0], "--labels", files[1])
    assert code == 0 and "mean (1/10)" in out and "Not in the file: dtd." in out
    assert "r.zip has no entry of dtd" in sentence("score", "--file", tmp_path / "r.zip", "--labels", files[1])


# --- bad submissions ------------------------------------------------------------------------------


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
    told = spoil(entries)
    (tmp_path / "results.json").write_bytes(msgspec.json.encode(entries))
    says = sentence("score", "--file", tmp_path / "results.json")
    assert told in says and "results.json" in says and ";" in says


def test_a_partly_missing_domain_is_counted(planted, tmp_path: Path):
    root, entries = planted
    dtd = entries.of(DOMAINS["dtd"])
    kept = dtd.images != dtd.images.min()
    write(Submission("x", dtd.images[kept], dtd.categories[kept]), tmp_path / "r.zip")
    says = sentence("score", "--file", tmp_path / "r.zip", "--labels", root)
    assert f"lacks 1 image(s) of dtd (first: {dtd.images.min()}); give every test image its entry" in says


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "holds no JSON"),
        (b"\xff\xfe[]", "holds no JSON"),
        (b"[{", "holds no JSON"),
        (b"[" * 100_000, "is no submission (Expected `object`, got `array`"),
        (b"{}", "is no submission (Expected `array`, got `object`)"),
        (b"PK\x03\x04 and then nothing", "is a ZIP that cannot be read"),
    ],
)
def test_what_is_no_submission_is_one_sentence(content: bytes, told: str, tmp_path: Path):
    (tmp_path / "r.zip").write_bytes(content)
    assert told in sentence("score", "--file", tmp_path / "r.zip")


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
        assert "is a ZIP that cannot be read" in sentence("score", "--file", path)
    path.write_bytes(_zip(path, "decathlon/results.json", b"[]"))
    assert "holds no results.json at its top (it has decathlon/results.json)" in sentence("score", "--file", path)
    flagged = bytearray(_zip(path, "results.json", b"[]"))
    flagged[6] |= 1  # says that it is encrypted
    flagged[flagged.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(flagged)
    assert "is a ZIP that cannot be read" in sentence("score", "--file", path)


def test_a_zip_that_unpacks_without_end_is_not_unpacked(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(archive, "LARGEST", 10**6)
    _zip(tmp_path / "r.zip", "results.json", b" " * 10**7)
    assert "unpacks to over 1,000,000 bytes" in sentence("score", "--file", tmp_path / "r.zip")


def test_files_that_are_not_there(planted, tmp_path: Path):
    assert "nowhere.zip cannot be read" in sentence("score", "--file", tmp_path / "nowhere.zip")
    assert "is a folder; name a ZIP" in sentence("score", "--file", tmp_path)
    write(planted[1], tmp_path / "r.zip")
    (tmp_path / "empty").mkdir()
    says = sentence("score", "--file", tmp_path / "r.zip", "--labels", tmp_path / "empty")
    assert says.startswith(f"LABELS={tmp_path / 'empty'} holds no <domain>_test.json")
    says = sentence("score", "--file", tmp_path / "r.zip", "--labels", tmp_path / "dtd_test.json")
    assert f"LABELS={tmp_path / 'dtd_test.json'} does not exist; name" in says


def test_labels_that_are_none(planted, tmp_path: Path):
    root, entries = planted
    write(entries, tmp_path / "r.zip")
    dtd, svhn = (root / "annotations" / f"{name}_test.json" for name in ("dtd", "svhn"))

    def says(*labels: Path) -> str:
        return sentence("score", "--file", tmp_path / "r.zip", *(w for label in labels for w in ("--labels", label)))

    shutil.copy(dtd, tmp_path / "svhn_test.json")
    assert "svhn: " in (told := says(tmp_path / "svhn_test.json")) and "not of domain number 8" in told
    shutil.copy(dtd, tmp_path / "labels.json")
    assert "labels.json is named after no domain" in says(tmp_path / "labels.json")
    assert "dtd: its labels are given twice" in says(dtd, root)
    content = json.loads(dtd.read_bytes())
    stripped = {key: value for key, value in content.items() if key != "annotations"}
    (tmp_path / "dtd_test.json").write_text(json.dumps(stripped))
    assert "dtd_test.json holds no labels" in says(tmp_path / "dtd_test.json")
    for image, annotation in zip(content["images"], content["annotations"], strict=True):
        image["id"] = annotation["image_id"] = image["id"] + 40_000_000
    (tmp_path / "dtd_test.json").write_text(json.dumps(content))
    assert "which is not of domain number 4" in says(tmp_path / "dtd_test.json")
    (tmp_path / "dtd_test.json").write_bytes(svhn.read_bytes()[:-5])
    assert "is no JSON" in says(tmp_path / "dtd_test.json")


# --- from runs ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tested(bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the unlabelled test split of all ten domains; nobody writes into it."""
    results = tmp_path_factory.mktemp("tested")
    done = bench("--split", "test", "--predictions", method=METHOD, results=results)
    assert done.code == 0, done.err
    return results


@pytest.fixture
def submit(bench, tmp_path: Path) -> Callable[..., tuple]:
    def words(source: Path, *more: str | Path, method: str = METHOD) -> tuple:
        data = () if "--data" in more else ("--data", bench.data)
        return "submit", "--method", method, "--from", source, *data, "--out", tmp_path / "out.zip", *more

    return words


def test_stripped_labels_to_a_scored_submission(tested: Path, submit, release, tiny: Path, tmp_path: Path):
    records = {r["domain"]: r for r in read_records([tested / "records"])}
    assert {r["top1"] for r in records.values()} == {None} and set(records) == set(DOMAINS)
    code, out, err = run(*submit(tested))
    assert code == 0, err
    rows = lines(out)
    assert rows["dtd"] == ["6", "no labels", records["dtd"]["hash"]] and rows["10/10"][0] == "60"
    assert out.startswith("Data tiny, split test, profile standin") and f": {METHOD}, seed 0\n" in out
    assert "No submission to the challenge" in out
    entries = read(tmp_path / "out.zip")
    tables = [pq.read_table(predictions_path(tested, r["hash"])) for r in records.values()]
    pairs = {(i, c) for t in tables for i, c in zip(t["image_id"].to_pylist(), t["category_id"].to_pylist())}
    assert set(zip(entries.images.tolist(), entries.categories.tolist())) == pairs and len(entries) == 60
    first = (tmp_path / "out.zip").read_bytes()
    assert run(*submit(tested))[0] == 0 and (tmp_path / "out.zip").read_bytes() == first
    code, out, _ = run("score", "--file", tmp_path / "out.zip", "--data", tiny)
    assert code == 0 and "60 entries, one for every test image" in out

    labelled = release(tmp_path / "labelled", test_labels=True)
    scored, other = against(entries, read_labels([labelled]))
    truth = {i: s.domain.k * 10**7 + 1 + y for s in read_labels([labelled]).values() for i, y in zip(s.ids, s.labels)}
    for name, domain in DOMAINS.items():
        assert scored.right[name] == sum(truth[i] == c for i, c in pairs if i // 10**7 == domain.k)
    assert len(set(scored.right.values())) > 2 and other == list(DOMAINS) and scored.S is None
    code, out, err = run("score", "--file", tmp_path / "out.zip", "--labels", labelled)
    assert (
        code == 0
        and "those of all ten domains are not" in out
        and lines(out)["mean"][2] == f"{scored.mean:.2f}"
        and lines(out)["S"] == ["", "", ""]
    )


def test_what_cannot_be_submitted_is_one_sentence(tested: Path, submit, tmp_path: Path):
    out = tmp_path / "out.zip"
    says = sentence(*submit(tested, method="feature"))
    assert "has no test run of feature, seed 0, on imagenet12, aircraft" in says and f"test runs: {METHOD}" in says
    assert 'make bench METHOD="feature" SPLIT=test PREDICTIONS=1' in says
    assert "names 2 methods" in sentence(*submit(tested, method="feature,finetune"))
    assert "seed 7" in sentence(*submit(tested, "--seed", "7"))
    assert "does not exist; name a folder" in sentence(*submit(tmp_path / "nowhere"))
    usual = submit(tested)
    without_data = [word for i, word in enumerate(usual) if i not in (usual.index("--data"), usual.index("--data") + 1)]
    assert "which is no test image of imagenet12; remove it, or name its release (DATA=;" in sentence(*without_data)
    results = Path(shutil.copytree(tested, tmp_path / "r"))
    record = next(r for r in read_records([results / "records"]) if r["domain"] == "dtd")
    path = predictions_path(results, record["hash"])
    path.write_bytes(path.read_bytes()[:50])
    assert f"{path} holds no predictions" in sentence(*submit(results))
    path.unlink()
    assert f"{METHOD} without their predictions (dtd); run `make bench" in sentence(*submit(results))
    (results / "records" / f"{record['hash']}.parquet").unlink()
    assert f"no test run of {METHOD}, seed 0, on dtd (" in sentence(*submit(results))
    assert not out.exists() and not list(tmp_path.glob(".*"))
    out.mkdir()
    assert f"{out} cannot be written" in (told := sentence(*submit(tested))) and "OUT=" in told


def test_a_seed_is_chosen_and_the_least_is_taken_unasked(tested: Path, submit, tmp_path: Path):
    """The second seed's predictions are the first's with every category moved on by one."""
    results = Path(shutil.copytree(tested, tmp_path / "r"))
    for i, record in enumerate(read_records([results / "records"])):
        table = pq.read_table(predictions_path(results, record["hash"]))
        first = category_id(record["k"], 0)
        other = pa.array([first + (c - first + 1) % 3 for c in table["category_id"].to_pylist()])
        copy = record | {"seed": 1, "hash": f"{i:016x}"}
        write_record(copy, results / "records")
        pq.write_table(table.set_column(1, "category_id", other), predictions_path(results, copy["hash"]))
    given = {}
    for words in ((), ("--seed", "0"), ("--seed", "1")):
        code, out, err = run(*submit(results, *words))
        assert code == 0, err
        assert f"seed {words[-1] if words else 0}\n" in out
        given[words] = read(tmp_path / "out.zip")
    unasked, first, second = given.values()
    assert np.array_equal(unasked.categories, first.categories) and np.array_equal(first.images, second.images)
    assert (first.categories != second.categories).all()


def test_runs_of_several_kinds_are_not_mixed(tested: Path, submit, tmp_path: Path):
    results = Path(shutil.copytree(tested, tmp_path / "r"))
    record = next(r for r in read_records([results / "records"]) if r["domain"] == "dtd")
    other = write_record(record | {"hash": "b" * 16, "training": 99}, results / "records")
    assert "differ in `training`, and a submission is of one kind" in sentence(*submit(results))
    other.unlink()
    write_record(record | {"hash": "b" * 16, "profile": "decathlon", "lr": 0.5}, results / "records")
    assert "differ in `profile`" in (told := sentence(*submit(results))) and "PROFILE=" in told
    assert run(*submit(results, "--profile", "standin"))[0] == 0


def test_a_release_without_some_domain_names_it(tested: Path, submit, tiny: Path, tmp_path: Path):
    part = tmp_path / "part"
    (part / "annotations").mkdir(parents=True)
    for name in ("dtd", "svhn"):
        for file in (tiny / "annotations").glob(f"{name}_*"):
            shutil.copy(file, part / "annotations")
    code, out, _ = run(*submit(tested, "--data", part))
    assert code == 0 and "2/10" in out and len(read(tmp_path / "out.zip")) == 12
    assert "lacks every image of imagenet12, aircraft" in sentence(
        "score", "--file", tmp_path / "out.zip", "--data", tiny
    )
    (part / "annotations" / "svhn_test_stripped.json").unlink()
    assert "svhn_test.json is missing" in sentence(*submit(tested, "--data", part))


def test_labels_and_data_are_not_asked_for_together(tmp_path: Path):
    assert "not allowed with" in sentence("score", "--file", "x", "--labels", tmp_path, "--data", tmp_path)
    with pytest.raises(InputError):
        read(tmp_path / "x")
