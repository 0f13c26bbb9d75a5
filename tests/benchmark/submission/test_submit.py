"""From the runs of a bench to a submission."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.benchmark.submission.planted import METHOD, error_line, printed_rows, run_command
from visual_decathlon.benchmark.records.folder import ResultsFolder
from visual_decathlon.benchmark.records.store import read_records, write_record
from visual_decathlon.benchmark.submission.archive import read
from visual_decathlon.benchmark.submission.evaluation import against, read_labels
from visual_decathlon.datasets.catalogue import DOMAINS, category_id


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
    code, out, err = run_command(*submit(tested))
    assert code == 0, err
    rows = printed_rows(out)
    assert rows["dtd"] == ["6", "no labels", records["dtd"]["hash"]] and rows["10/10"][0] == "60"
    assert out.startswith("Data tiny, split test, profile standin") and f": {METHOD}, seed 0\n" in out
    assert "No submission to the challenge" in out
    entries = read(tmp_path / "out.zip")
    tables = [pq.read_table(ResultsFolder(tested).predictions(r["hash"])) for r in records.values()]
    pairs = {(i, c) for t in tables for i, c in zip(t["image_id"].to_pylist(), t["category_id"].to_pylist())}
    assert set(zip(entries.images.tolist(), entries.categories.tolist())) == pairs and len(entries) == 60
    first = (tmp_path / "out.zip").read_bytes()
    assert run_command(*submit(tested))[0] == 0 and (tmp_path / "out.zip").read_bytes() == first
    code, out, _ = run_command("score", "--file", tmp_path / "out.zip", "--data", tiny)
    assert code == 0 and "60 entries, one for every test image" in out

    labelled = release(tmp_path / "labelled", test_labels=True)
    scored, other = against(entries, read_labels([labelled]))
    truth = {i: s.domain.k * 10**7 + 1 + y for s in read_labels([labelled]).values() for i, y in zip(s.ids, s.labels)}
    for name, domain in DOMAINS.items():
        assert scored.right[name] == sum(truth[i] == c for i, c in pairs if i // 10**7 == domain.k)
    assert len(set(scored.right.values())) > 2 and other == list(DOMAINS) and scored.S is None
    code, out, err = run_command("score", "--file", tmp_path / "out.zip", "--labels", labelled)
    assert (
        code == 0
        and "those of all ten domains are not" in out
        and printed_rows(out)["mean"][2] == f"{scored.mean:.2f}"
        and printed_rows(out)["S"] == ["", "", ""]
    )


def test_what_cannot_be_submitted_is_one_sentence(tested: Path, submit, tmp_path: Path):
    out = tmp_path / "out.zip"
    message = error_line(*submit(tested, method="feature"))
    assert (
        "has no test run of feature, seed 0, on imagenet12, aircraft" in message and f"test runs: {METHOD}" in message
    )
    assert 'make bench METHOD="feature" SPLIT=test PREDICTIONS=1' in message
    assert "names 2 methods" in error_line(*submit(tested, method="feature,finetune"))
    assert "seed 7" in error_line(*submit(tested, "--seed", "7"))
    assert "does not exist; name a folder" in error_line(*submit(tmp_path / "nowhere"))
    usual = submit(tested)
    without_data = [word for i, word in enumerate(usual) if i not in (usual.index("--data"), usual.index("--data") + 1)]
    assert "which is no test image of imagenet12; remove it, or name its release (DATA=;" in error_line(*without_data)
    results = Path(shutil.copytree(tested, tmp_path / "r"))
    record = next(r for r in read_records([ResultsFolder(results).records]) if r["domain"] == "dtd")
    path = ResultsFolder(results).predictions(record["hash"])
    path.write_bytes(path.read_bytes()[:50])
    assert f"{path} holds no predictions" in error_line(*submit(results))
    path.unlink()
    assert f"{METHOD} without their predictions (dtd); run `make bench" in error_line(*submit(results))
    (ResultsFolder(results).records / f"{record['hash']}.parquet").unlink()
    assert f"no test run of {METHOD}, seed 0, on dtd (" in error_line(*submit(results))
    assert not out.exists() and not list(tmp_path.glob(".*"))
    out.mkdir()
    assert f"{out} cannot be written" in (message := error_line(*submit(tested))) and "OUT=" in message


def test_a_seed_is_chosen_and_the_least_is_taken_unasked(tested: Path, submit, tmp_path: Path):
    """The second seed's predictions are the first's with every category moved on by one."""
    results = Path(shutil.copytree(tested, tmp_path / "r"))
    for i, record in enumerate(read_records([ResultsFolder(results).records])):
        table = pq.read_table(ResultsFolder(results).predictions(record["hash"]))
        first = category_id(record["k"], 0)
        other = pa.array([first + (c - first + 1) % 3 for c in table["category_id"].to_pylist()])
        copy = record | {"seed": 1, "hash": f"{i:016x}"}
        write_record(copy, ResultsFolder(results).records)
        pq.write_table(table.set_column(1, "category_id", other), ResultsFolder(results).predictions(copy["hash"]))
    given = {}
    for words in ((), ("--seed", "0"), ("--seed", "1")):
        code, out, err = run_command(*submit(results, *words))
        assert code == 0, err
        assert f"seed {words[-1] if words else 0}\n" in out
        given[words] = read(tmp_path / "out.zip")
    unasked, first, second = given.values()
    assert np.array_equal(unasked.categories, first.categories) and np.array_equal(first.images, second.images)
    assert (first.categories != second.categories).all()


def test_runs_of_several_kinds_are_not_mixed(tested: Path, submit, tmp_path: Path):
    results = Path(shutil.copytree(tested, tmp_path / "r"))
    record = next(r for r in read_records([ResultsFolder(results).records]) if r["domain"] == "dtd")
    other = write_record(record | {"hash": "b" * 16, "training": 99}, ResultsFolder(results).records)
    assert "differ in `training`, and a submission is of one kind" in error_line(*submit(results))
    other.unlink()
    write_record(record | {"hash": "b" * 16, "profile": "decathlon", "lr": 0.5}, ResultsFolder(results).records)
    assert "differ in `profile`" in (message := error_line(*submit(results))) and "PROFILE=" in message
    assert run_command(*submit(results, "--profile", "standin"))[0] == 0


def test_a_release_without_some_domain_names_it(tested: Path, submit, tiny: Path, tmp_path: Path):
    part = tmp_path / "part"
    (part / "annotations").mkdir(parents=True)
    for name in ("dtd", "svhn"):
        for file in (tiny / "annotations").glob(f"{name}_*"):
            shutil.copy(file, part / "annotations")
    code, out, _ = run_command(*submit(tested, "--data", part))
    assert code == 0 and "2/10" in out and len(read(tmp_path / "out.zip")) == 12
    assert "lacks every image of imagenet12, aircraft" in error_line(
        "score", "--file", tmp_path / "out.zip", "--data", tiny
    )
    (part / "annotations" / "svhn_test_stripped.json").unlink()
    assert "svhn_test.json is missing" in error_line(*submit(tested, "--data", part))
