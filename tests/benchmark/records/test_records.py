"""Reading and writing of records, and atomic writing of files. The rules for a record are in test_schema.py."""

import os
import re
import shutil
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.benchmark.drawn_records import SETTINGS
from visual_decathlon.benchmark.records import store
from visual_decathlon.benchmark.records.predictions import read_predictions
from visual_decathlon.benchmark.records.schema import (
    FIELDS,
    NULLABLE,
    SCHEMA,
    SCHEMA_VERSION,
    SINCE,
    as_table,
)
from visual_decathlon.benchmark.records.store import (
    read_frame,
    read_record,
    read_records,
    write_record,
    write_table,
)
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.datasets.io import write_all, write_bytes

VALUES = {pa.string(): "ü|x", pa.bool_(): True, pa.float64(): 0.1, pa.int32(): 2**31 - 1, pa.int64(): 2**40}


OLD = Path(__file__).parents[1] / "record_1.parquet"  # a record as version 1 wrote it


def full(hash: str = "a" * 16) -> dict:
    """A record with a value in every field."""
    record = {name: VALUES.get(kind) for name, kind, _ in FIELDS}
    epoch = {"epoch": 1, "loss": 0.25, "train_top1": 50.0, "seconds": 1e-3}
    lists = {"history": [epoch, epoch | {"epoch": 2}], "together": ["dtd", "svhn"]}
    right = {"domain": "dtd", "top1": 100.0, "created": "2026-01-01T00:00:00+00:00"}  # of 2**40 images all
    right |= {"settings": SETTINGS, "versions": '{"torch": "2.9"}', "asked": "2026-01-02T00:00:00+00:00"}
    right |= {"layout": "channels_last", "norm": "plain", "step": "compiled graph"}
    right["presentation"] = '{"mean": [0, 0, 0], "std": [1, 1, 1], "flip": true, "crop": true}'
    return record | {"schema": SCHEMA_VERSION, "hash": hash} | lists | right


def plant(record: dict, folder: Path) -> Path:
    """Writes a record like `write_record`, but without checking it."""
    return write_table(as_table([record]), folder / f"{record['hash']}.parquet")


def test_round_trip_keeps_every_field(tmp_path: Path):
    record = full()
    path = write_record(record, tmp_path / "deep" / "er")
    assert path.name == f"{record['hash']}.parquet"
    assert read_record(path) == record and read_records([tmp_path]) == [record]
    schema = pq.read_schema(path)
    assert schema.remove_metadata().equals(SCHEMA.remove_metadata())
    assert b"%" in schema.field("top1").metadata[b"comment"], "the file explains itself"


def test_nulls_stay_null(tmp_path: Path):
    empty = full() | dict.fromkeys(NULLABLE)
    assert read_record(write_record(empty, tmp_path)) == empty
    short = {name: value for name, value in empty.items() if value is not None}
    assert read_record(write_record(short, tmp_path)) == empty


@pytest.mark.parametrize("cut", [0, 4, 100, -1, -8])
def test_half_a_file_is_a_fault(cut: int, tmp_path: Path):
    path = write_record(full(), tmp_path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(InputError, match=r"no readable Parquet file .*; remove it and run again") as caught:
        read_records([tmp_path])
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_records_of_version_1_are_read(tmp_path: Path):
    old = pq.read_table(OLD)
    assert old["schema"].to_pylist() == [1] and "together" not in old.column_names
    shutil.copy(OLD, tmp_path / "old.parquet")
    write_record(full(), tmp_path)
    (record,) = (r for r in read_records([tmp_path]) if r["domain"] == "svhn")
    lacking = dict.fromkeys(SINCE)
    assert record == old.to_pylist()[0] | {"schema": SCHEMA_VERSION} | lacking
    assert read_record(write_record(record, tmp_path / "again")) == record
    lying = old.set_column(0, "schema", pa.array([SCHEMA_VERSION], pa.int32()))
    pq.write_table(lying, tmp_path / "old.parquet")
    with pytest.raises(InputError, match="without the field presentation"):
        read_records([tmp_path])


@pytest.mark.parametrize("version", [2, 3, 4])
def test_records_of_each_version_lack_later_fields(version: int, tmp_path: Path):
    later = {name for name, since in SINCE.items() if since > version}
    assert "routed" in later
    assert ({"layout", "norm", "step", "first_step_seconds", "skipped_steps"} <= later) == (version < 4)
    record = full() | {"schema": version}
    write_table(as_table([record]).drop_columns(sorted(later)), tmp_path / "old.parquet")
    assert read_records([tmp_path]) == [record | {"schema": SCHEMA_VERSION} | dict.fromkeys(later)]


def test_an_unknown_schema_is_a_fault(tmp_path: Path):
    path = plant(full() | {"schema": SCHEMA_VERSION + 1}, tmp_path)
    with pytest.raises(InputError, match=rf"{path} holds records of schema {SCHEMA_VERSION + 1}, .*; remove or move"):
        read_records([tmp_path])
    write_table(pa.table({"schema": [SCHEMA_VERSION], "hash": ["x"], "method": ["x"]}), path)
    with pytest.raises(InputError, match="without the field method_full; remove it"):
        read_records([tmp_path])
    write_table(pa.table({"schema": ["theirs"], "hash": ["x"]}), path)
    assert read_records([tmp_path]) == [], "somebody else's table, no record"


def test_other_tables_next_to_the_records_are_ignored(tmp_path: Path):
    write_record(full(), tmp_path / "records")
    write_table(pa.table({"Model": ["x"]}), tmp_path / "table1.parquet")
    (tmp_path / "records" / ".x.parquet.1").write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("")
    assert len(read_records([tmp_path, tmp_path / "nowhere"])) == 1


def test_one_hash_counts_once_and_the_content_decides_the_order(tmp_path: Path):
    a, b = full("a"), full("b") | {"method": "a"}
    write_record(a, tmp_path / "1")
    write_record(b, tmp_path / "2")
    write_record(a | {"train_seconds": 7.0}, tmp_path / "3")
    assert [r["hash"] for r in read_records([tmp_path / "1", tmp_path / "2", tmp_path / "3"])] == ["b", "a"]
    assert read_records([tmp_path / "3", tmp_path / "1"])[0]["train_seconds"] == 7.0


def test_folder_with_an_equals_sign_adds_no_field(tmp_path: Path):
    write_record(full(), tmp_path / "lr=0.1")
    assert set(read_records([tmp_path])[0]) == set(SCHEMA.names)


def test_threads_that_write_one_record_leave_it_whole(tmp_path: Path):
    """They have the same process id. A reader at the same time never sees half of a record."""
    store = [full() | {"history": full()["history"] * 200 * (i + 1)} for i in range(2)]
    faults = []

    def work(action) -> None:
        try:
            for _ in range(30):
                action()
        except Exception as fault:
            faults.append(fault)

    write_record(store[0], tmp_path)
    jobs = [lambda r=r: write_record(r, tmp_path) for r in (*store, *store)] + [lambda: read_records([tmp_path])]
    threads = [threading.Thread(target=work, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert read_records([tmp_path])[0] in store
    assert [p.name for p in tmp_path.iterdir()] == [f"{'a' * 16}.parquet"]


def test_a_frame_holds_the_same_records(tmp_path: Path):
    shutil.copy(OLD, tmp_path / "old.parquet")
    write_record(full(), tmp_path)
    write_record(full() | {"train_seconds": 1.0}, tmp_path / "again")
    write_table(pa.table({"Model": ["a table next to them"]}), tmp_path / "table.parquet")
    frame, store = read_frame([tmp_path]), read_records([tmp_path])
    assert list(frame.columns) == [name for name in SCHEMA.names if name != "history"]
    for name in frame.columns:
        read = [None if np.ndim(v) == 0 and pd.isna(v) else v for v in frame[name]]
        wanted = [record[name] for record in store]
        assert [list(v) if np.ndim(v) else v for v in read] == wanted, name
    assert read_frame([tmp_path], history=True)["history"].map(len).tolist() == [len(r["history"]) for r in store]
    assert len(read_frame([tmp_path / "nowhere"])) == 0
    write_record(full("b" * 16) | {"top1": None, "correct": None}, tmp_path)  # predicted, without labels
    again = read_frame([tmp_path])
    assert again["hash"].tolist() == frame["hash"].tolist() and again.dtypes["correct"] == "int64"
    assert len(read_records([tmp_path])) == len(store) + 1


def test_a_field_of_another_type_is_a_fault(tmp_path: Path):
    path = write_record(full(), tmp_path)
    table = pq.read_table(path)
    i = table.column_names.index("top1")
    pq.write_table(table.set_column(i, "top1", pa.array(["much"])), path)
    for read in (read_records, read_frame):
        with pytest.raises(InputError, match=r"field of another type .*; remove it"):
            read([tmp_path])


@pytest.mark.parametrize("together", [1, 3, 512])
def test_faults_among_many_files_are_those_of_each_alone(together: int, tmp_path: Path, monkeypatch):
    """Files of the same columns are checked together: a fault keeps its file, its place, and spares its neighbours."""
    monkeypatch.setattr(store, "_TOGETHER", together)
    for i in range(8):
        write_record(full(f"{i:016}"), tmp_path)
    for hash, change in {"2" * 16: {"top1": float("nan")}, "3" * 16: {"schema": 99}, "6" * 16: {"k": None}}.items():
        plant(full(hash) | change, tmp_path)
    (tmp_path / f"{'4' * 16}.parquet").write_bytes(b"no Parquet")
    old = pq.read_table(tmp_path / f"{0:016}.parquet").drop_columns(["top1"])  # other columns than its neighbours
    pq.write_table(old, tmp_path / f"{'5' * 16}.parquet")
    two = pa.concat_tables([as_table([full("7" * 16) | {"top1": float("inf")}]), as_table([full("8" * 16)])])
    write_table(two, tmp_path / f"{'7' * 16}.parquet")
    for read in (read_records, read_frame):
        faults = []
        found = read([tmp_path], faults=faults)
        hashes = set(found["hash"]) if isinstance(found, pd.DataFrame) else {r["hash"] for r in found}
        assert hashes == {f"{i:016}" for i in range(8)} | {"8" * 16}
        assert [fault.path.stem[0] for fault in faults] == list("234567"), "in the order of the files"
        assert [fault.whole for fault in faults] == [True] * 5 + [False]
        words = ["is no number", "schema 99", "no readable", "without the field top1", "k is empty", "is no number"]
        assert all(part in fault.what for fault, part in zip(faults, words, strict=True)), faults


def test_the_message_on_a_too_large_file_is_complete(tmp_path: Path):
    """It gives the size, is not cut off, and does not show the error number of the system."""
    with (tmp_path / "x.parquet").open("wb") as file:
        file.truncate(40_000_000_000)
    message = (
        "x.parquet is no readable Parquet file (it has 40,000,000,000 bytes, more than the 8,589,934,592 that such a "
    )
    for read in (read_records, read_frame):
        with pytest.raises(InputError, match=re.escape(message + "file may have); remove it")):
            read([tmp_path])
    with pytest.raises(InputError, match=r"x.parquet holds no predictions \(it has 40,.* may have\); remove it"):
        read_predictions(tmp_path / "x.parquet")


BOTH = pytest.mark.parametrize("read", [read_records, read_frame])


@BOTH
def test_two_records_of_one_hash_that_differ_name_both_files(read, tmp_path: Path):
    changed = {"correct": 2**38, "top1": 25.0}
    a = write_record(full(), tmp_path / "a")
    b = write_record(full() | changed, tmp_path / "b")
    for folders in ([tmp_path], [tmp_path / "a", tmp_path / "b"]):
        with pytest.raises(InputError, match=rf"{a} and {b} hold the run a{{16}} with different numbers .*; remove"):
            read(folders)
    two = pa.Table.from_pylist([full(), full() | changed], SCHEMA)
    write_table(two, tmp_path / "c" / "two.parquet")
    with pytest.raises(InputError, match=r"two.parquet twice holds the run"):
        read([tmp_path / "c"])


@BOTH
def test_repeated_runs_are_read_where_their_folder_is_named(read, tmp_path: Path):
    write_record(full(), tmp_path / "records")
    write_record(full() | {"correct": 2**38, "top1": 25.0}, tmp_path / "reruns" / "records")
    assert len(read([tmp_path])) == len(read([tmp_path / "reruns"])) == 1


@BOTH
@pytest.mark.parametrize("what", ["folder", "file"])
def test_unreadable_files_and_folders_are_faults(read, what: str, tmp_path: Path, monkeypatch):
    """The system's refusal is simulated, as root may read everything."""
    path = write_record(full(), tmp_path / "records")
    refused = PermissionError(13, "Permission denied", str(path.parent))

    def refuse(*_, **__):
        raise refused

    monkeypatch.setattr(*((os, "scandir") if what == "folder" else (store, "open_parquet")), refuse)
    place = path.parent if what == "folder" else path
    with pytest.raises(InputError, match=rf"{place} cannot be read \(Permission denied\); see its rights"):
        read([tmp_path])


@BOTH
def test_an_impossible_name_of_a_folder_is_a_fault(read, tmp_path: Path):
    with pytest.raises(InputError, match=r"x{300} cannot be read \(File name too long\)"):
        read([tmp_path / ("x" * 300)])


@pytest.mark.parametrize(("folder", "option"), [("backbones", "cache="), ("records", "results=")])
def test_a_full_disk_names_the_folder_that_helps(folder: str, option: str, tmp_path: Path):
    (tmp_path / folder).write_text("")
    with pytest.raises(InputError, match=rf"or name another place with {option}"):
        write_bytes(b"", tmp_path / folder / "x")


@pytest.mark.parametrize("last", ["a folder", "a file in its parents' place"])
def test_files_that_belong_together_are_written_all_or_none(last: str, tmp_path: Path):
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "gone").write_bytes(b"old")
    if last == "a folder":
        (tmp_path / "z").mkdir()
        wrong, reason = tmp_path / "z", "a folder has this name"
    else:
        (tmp_path / "z").write_bytes(b"")
        wrong, reason = tmp_path / "z" / "z", "a file is where a folder is needed"
    before = {path: path.is_dir() or path.read_bytes() for path in tmp_path.iterdir()}
    some = {tmp_path / "a": b"new", tmp_path / "b": b"new", tmp_path / "gone": None}
    with pytest.raises(InputError, match=rf"^{wrong} cannot be written \({reason}\); remove that, or name another"):
        write_all(some | {wrong: b"new"})
    assert {path: path.is_dir() or path.read_bytes() for path in tmp_path.iterdir()} == before
    assert write_all(some) == [tmp_path / "a", tmp_path / "b"]
    assert (tmp_path / "a").read_bytes() == b"new" and not (tmp_path / "gone").exists()
