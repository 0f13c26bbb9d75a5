"""Finished runs are known by their files; files that cannot be read are named, set aside, and trained again."""

import os
import shutil
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.benchmark.records.test_records import full, plant
from visual_decathlon.benchmark.cli.main import main
from visual_decathlon.benchmark.records.files import Fault, record_files, set_aside
from visual_decathlon.benchmark.records.folder import ResultsFolder
from visual_decathlon.benchmark.records.schema import SCHEMA, SCHEMA_VERSION
from visual_decathlon.benchmark.records.store import read_frame, read_record, read_records, write_record
from visual_decathlon.benchmark.runs.finished import finished_record, make_current, move_conflicting_files
from visual_decathlon.datasets.errors import InputError

NAMES = ("dtd", "svhn", "gtsrb", "ucf101", "omniglot", "aircraft", "vgg-flowers")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:500])


def of_another_schema(path: Path) -> None:
    plant(read_record(path) | {"schema": SCHEMA_VERSION + 1}, path.parent)


def contradictory(path: Path) -> None:
    plant(read_record(path) | {"top1": 1.5}, path.parent)


def infinite(path: Path) -> None:
    plant(read_record(path) | {"multiplier": float("inf")}, path.parent)


def without_a_loss(path: Path) -> None:
    record = read_record(path)
    record["history"][0]["loss"] = None
    plant(record, path.parent)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def no_record(path: Path) -> None:
    pq.write_table(SCHEMA.empty_table(), path)


DAMAGES = (truncated, of_another_schema, contradictory, infinite, without_a_loss, emptied, no_record)


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "r"))


def of(results: Path, method: str) -> dict[str, dict]:
    return {r["domain"]: r for r in read_records([ResultsFolder(results).records]) if r["method"] == method}


def test_all_damaged_records_are_named_set_aside_and_trained_again(here, copied: Path):
    """In one bench, with one sentence; the tables have the other records and the new ones."""
    before = of(copied, "feature")
    paths = {name: copied / "records" / f"{before[name]['hash']}.parquet" for name in NAMES}
    for damage, path in zip(DAMAGES, paths.values(), strict=True):
        damage(path)
    spoiled = {path.name: path.read_bytes() for path in paths.values()}
    done = here("--domains", *NAMES, method="feature", results=copied)
    assert done.code == 0, done.err
    line = " ".join(done.out.split())  # the screen breaks it
    assert line.count("cannot be read") == 1
    assert f"7 records cannot be read and are set aside in {copied / 'records' / 'damaged'}" in line
    assert [path.name for path in paths.values() if str(path) not in line] == [] and "trained again" in line, line
    aside = copied / "records" / "damaged"
    assert {path.name: path.read_bytes() for path in aside.iterdir()} == spoiled, "nothing is lost"
    after = of(copied, "feature")
    assert {name: r["correct"] for name, r in after.items()} == {name: r["correct"] for name, r in before.items()}
    again = here("--domains", *NAMES, method="feature", results=copied)
    assert "7 of 7 runs are finished already" in again.out and "cannot be read" not in again.out


def test_commands_that_only_read_leave_damaged_records_in_place(copied: Path, tmp_path: Path, capsys, below):
    paths = [copied / "records" / f"{r['hash']}.parquet" for r in of(copied, "finetune").values()][:2]
    truncated(paths[0])
    emptied(paths[1])
    before = below(copied)
    common = ("--from", str(copied), "--results", str(tmp_path / "out"))
    for words, wanted in (
        (("tables", *common, "--only", "gap"), "Finetune"),
        (("compare", "finetune", "feature", "--from", str(copied)), "A: finetune"),
        (("tables", *common, "--collect", str(tmp_path / "all.parquet")), "28 records in"),
    ):
        assert main(list(words)) == 0, words
        out, err = capsys.readouterr()
        assert err.count("\n") == 1 and all(str(path) in err for path in paths) and wanted in out
        assert err.startswith("left out, the rest counts: 2 records cannot be read: ") and "remove them" in err
    assert below(copied) == before
    assert len(pq.read_table(tmp_path / "all.parquet")) == 28


def test_one_bad_row_spoils_no_other_row(tmp_path: Path):
    rows = [full(16 * letter) for letter in "abc"]
    rows[1] |= {"top1": 5.0}
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), tmp_path / "all.parquet")
    faults: list[Fault] = []
    assert [r["hash"][0] for r in read_records([tmp_path], faults)] == ["a", "c"]
    assert read_frame([tmp_path], faults=faults)["hash"].str[0].tolist() == ["a", "c"]
    assert {str(f) for f in faults} == {
        f"{tmp_path / 'all.parquet'}: the run {'b' * 16} has a top1 that its correct contradicts"
    }
    assert not any(fault.whole for fault in faults), "the file stays where it is"


def test_of_two_records_of_one_run_the_newer_counts(tmp_path: Path):
    write_record(full(), tmp_path / "a")
    newer = full() | {"correct": 2**38, "top1": 25.0, "asked": None, "created": "2027-01-01T00:00:00+00:00"}
    write_record(newer, tmp_path / "b")
    faults: list[Fault] = []
    assert read_records([tmp_path], faults) == [newer]
    assert read_frame([tmp_path], faults=faults)["top1"].tolist() == [25.0]
    assert "with different numbers" in str(faults[0]) and "the older" in str(faults[0]) and len(set(faults)) == 1


def test_files_under_a_runs_name_are_checked(here, copied: Path):
    """The record of another run, whose own file exists or not; a run whose adapters are missing; a folder."""
    runs = of(copied, "feature")
    path = {name: copied / "records" / f"{run['hash']}.parquet" for name, run in runs.items()}
    adapters = {name: copied / "adapters" / f"{run['hash']}.safetensors" for name, run in runs.items()}
    shutil.copy(path["svhn"], path["dtd"])
    path["gtsrb"].replace(path["ucf101"])
    adapters["omniglot"].unlink()
    path["aircraft"].unlink()
    path["aircraft"].mkdir()
    names = ("dtd", "svhn", "gtsrb", "ucf101", "omniglot", "aircraft")
    done = here("--domains", *names, method="feature", results=copied)
    assert done.code == 0, done.err
    assert "2 of 6 runs are finished already" in done.out, "svhn and gtsrb"
    assert "1 have a record, but the file of their adapters is gone or cut off: trained again" in done.out
    assert done.out.count("was not the record of the run") == 3
    after = of(copied, "feature")
    assert all(after[name]["hash"] == path[name].stem and path[name].is_file() for name in names)
    assert {n: after[n]["correct"] for n in names} == {n: runs[n]["correct"] for n in names}
    assert after["gtsrb"] == runs["gtsrb"] and adapters["omniglot"].is_file()
    assert finished_record(copied, runs["dtd"]["hash"]) is not None


def test_records_are_followed_through_links_each_once(tmp_path: Path, capsys):
    """The folder, a folder above it, one file; loops end."""
    write_record(full(), tmp_path / "disk" / "records")
    write_record(full("b" * 16), tmp_path / "elsewhere")
    results = tmp_path / "results"
    results.mkdir()
    (ResultsFolder(results).records).symlink_to(tmp_path / "disk" / "records")
    (results / "again").symlink_to("records")
    (tmp_path / "disk" / "records" / "loop").symlink_to(results)
    (results / f"{'b' * 16}.parquet").symlink_to(tmp_path / "elsewhere" / f"{'b' * 16}.parquet")
    (tmp_path / "link").symlink_to(results)
    for folder in (results, tmp_path / "link"):
        assert [r["hash"][0] for r in read_records([folder])] == ["a", "b"]
        assert len(record_files(folder, pytest.fail)) == 2
    assert [r["hash"][0] for r in read_records([ResultsFolder(results).records])] == ["a", "b"]


def test_the_bench_and_make_results_see_the_same_through_links(here, copied: Path, tmp_path: Path, capsys):
    for name in ("records", "adapters"):
        (copied / name).rename(tmp_path / name)
        (copied / name).symlink_to(tmp_path / name)
    assert "2 of 2 runs are finished already" in here("--domains", "dtd", "svhn", method="feature", results=copied).out
    table = (copied / "table1.md").read_text()
    (copied / "table1.md").unlink()
    assert main(["tables", "--results", str(copied), "--only", "gap"]) == 0
    assert (copied / "table1.md").read_text() == table


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_only_plain_files_are_opened(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.parquet")
    (tmp_path / "gone.parquet").symlink_to("nowhere")
    write_record(full(), tmp_path)
    faults: list[Fault] = []
    assert len(read_records([tmp_path], faults)) == 1
    assert [fault.what.partition(" (")[0] for fault in faults] == [" is a link that leads nowhere", " is no plain file"]


def test_setting_aside_writes_over_nothing(tmp_path: Path):
    for content in (b"1", b"2", b"3"):
        (tmp_path / "x.parquet").write_bytes(content)
        set_aside([tmp_path / "x.parquet", tmp_path / "gone.parquet"])
    contents = {path.name: path.read_bytes() for path in (tmp_path / "damaged").iterdir()}
    assert contents == {"x.parquet": b"1", "x.1.parquet": b"2", "x.2.parquet": b"3"}
    (tmp_path / "damaged" / "y").write_bytes(b"")
    assert read_records([tmp_path]) == [], "files set aside are not read again"
    (tmp_path / "there").write_bytes(b"")
    (tmp_path / "link.parquet").symlink_to("there")
    (moved,) = set_aside([tmp_path / "link.parquet"])
    assert moved.resolve() == (tmp_path / "there").resolve()


def test_a_record_that_cannot_be_moved_is_an_error(tmp_path: Path):
    (tmp_path / "x.parquet").write_bytes(b"")
    (tmp_path / "damaged").write_bytes(b"")
    with pytest.raises(InputError, match=r"x.parquet cannot be read, nor moved to .*damaged \(.*; see the rights of"):
        set_aside([tmp_path / "x.parquet"])


def test_runs_that_are_asked_for_again_are_current_again(tmp_path: Path):
    """A bench shows earlier finished runs if they are what it asks for, and `make results` agrees with its screen."""
    data = {"asked": None, "seed": 0}
    write_record(full() | data, tmp_path / "records")
    newer = {"train_manifest": "corrected", "created": "2027-01-01T00:00:00+00:00"}
    write_record(full("b" * 16) | data | newer, tmp_path / "records")
    before = (tmp_path / "records" / f"{'b' * 16}.parquet").read_bytes()
    make_current(tmp_path, ["b" * 16])
    assert (tmp_path / "records" / f"{'b' * 16}.parquet").read_bytes() == before, "it is current already"
    frame = make_current(tmp_path, ["a" * 16])
    assert pd.notna(frame.set_index("hash").loc["a" * 16, "asked"])
    assert [r["asked"] is not None for r in read_records([tmp_path])] == [True, False]


def test_a_runs_own_record_is_not_moved(tmp_path: Path, planned):
    (run,) = planned("feature", domains=["svhn"])[2]
    assert move_conflicting_files([run], tmp_path) == []
    mine = full(run.hash)
    path = write_record(mine, tmp_path / "records")
    assert move_conflicting_files([run], tmp_path) == [] and read_record(path) == mine, "a run's own record stays"
