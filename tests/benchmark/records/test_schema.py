"""The rules for a valid record, applied when it is written and when it is read."""

import re
from pathlib import Path

import pyarrow as pa
import pytest
from test_records import BOTH, full, plant

from tests.benchmark.drawn_records import SETTINGS
from visual_decathlon.benchmark.records.schema import FIELDS, SCHEMA, plausible
from visual_decathlon.benchmark.records.store import read_frame, read_histories, read_records, write_record, write_table
from visual_decathlon.datasets.errors import InputError


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("domain", "DTD", "names no domain"),
        ("domain", "@birds", "names no domain"),
        ("domain", "method", "names no domain"),
        ("label", "x" * 20_001, "more than 20,000 characters"),
        ("settings", SETTINGS.replace("resnet26", "r" * 201), "no profile"),
        ("settings", "{no", "no profile"),
        ("settings", "[]", "no profile"),
        ("settings", '{"network": "resnet26", "width": "x", "crop": 32}', "no profile"),
        ("versions", "{nope", "no list of versions"),
        ("versions", "[]", "no list of versions"),
        ("versions", '{"torch": [2]}', "no list of versions"),
        ("layout", "NHWC", "is none of channels_last, contiguous"),
        ("norm", "", "is none of plain, fused"),
        ("step", "graph compiled", "is none of eager, graph, compiled, compiled graph"),
        ("skipped_steps", -1, "cannot be"),
        ("first_step_seconds", -1.0, "cannot be"),
    ],
)
def test_a_record_that_no_table_can_show_is_left_out(tmp_path: Path, field: str, value: str | float, message: str):
    plant(full(), tmp_path)
    bad = plant(full("b" * 16) | {field: value}, tmp_path)
    faults = []
    frame = read_frame([tmp_path], faults=faults)
    assert frame["hash"].tolist() == ["a" * 16] and len(faults) == 1
    assert str(bad) in str(faults[0]) and message in str(faults[0])
    with pytest.raises(InputError, match=message):
        write_record(full("c" * 16) | {field: value}, tmp_path)
    write_record(full("d" * 16) | {"command": "make " + "x" * 100_000, "domain": "my-birds"}, tmp_path)


def test_every_field_has_a_comment_with_its_unit():
    names = [name for name, _, _ in FIELDS]
    assert len(set(names)) == len(names) and names[:2] == ["schema", "hash"]
    for field in SCHEMA:
        assert len(field.metadata[b"comment"]) > 5, field.name
    for unit, tail in (("s", "_seconds"), ("ms", "step_ms"), ("img/s", "_img_s"), ("MB", "_mb"), ("%", "top1")):
        for name, _, comment in FIELDS:
            assert not name.endswith(tail) or unit in re.split("[ ,;()]+", comment), name


@pytest.mark.parametrize("value", ["three", [3], 2**31])
def test_wrong_type_is_not_written(value, tmp_path: Path):
    with pytest.raises((pa.ArrowInvalid, pa.ArrowTypeError, OverflowError)):
        write_record(full() | {"seed": value}, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_impossible_time_of_the_first_step_loses_no_record():
    record = plausible(full() | {"first_step_seconds": float("nan")})
    assert record["first_step_seconds"] is None and record["skipped_steps"] == full()["skipped_steps"]


@BOTH
@pytest.mark.parametrize("field", ["top1", "multiplier"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_a_fault(read, field: str, value: float, tmp_path: Path):
    path = plant(full("b" * 16) | {field: value}, tmp_path)
    with pytest.raises(InputError, match=rf"{path}: the run {'b' * 16} has a {field} that is no number; remove it"):
        read([tmp_path])


@BOTH
@pytest.mark.parametrize(
    "field", ["hash", "k", "seed", "eval_images", "label", "machine", "threads", "standin", "split"]
)
def test_a_record_without_an_identifying_field_is_a_fault(read, field: str, tmp_path: Path):
    path = write_table(pa.Table.from_pylist([full() | {field: None}], SCHEMA), tmp_path / "x.parquet")
    with pytest.raises(InputError, match=rf"{path} holds a record whose {field} is empty; remove it"):
        read([tmp_path])


IMPOSSIBLE = {
    "top1": -5.0,
    "eval_images": 0,
    "multiplier": 0.0,
    "train_seconds": -1.0,
    "joules": -1.0,
    "head_floats": -1,
}


@pytest.mark.parametrize(("name", "value"), [("top1", 150.0), *IMPOSSIBLE.items()])
def test_an_impossible_number_is_a_fault(name: str, value: float, tmp_path: Path):
    plant(full() | {name: value}, tmp_path)
    for read in (read_records, read_frame):
        with pytest.raises(InputError, match=f"the run a+ has an? {name} that cannot be; remove it"):
            read([tmp_path])


@pytest.mark.parametrize("loss", [None, float("nan"), float("inf")])
def test_an_impossible_history_is_a_fault(loss: float | None, tmp_path: Path):
    history = full()["history"]
    history[1]["loss"] = loss
    plant(full() | {"history": history}, tmp_path)
    with pytest.raises(InputError, match=r"the run a+ has a history that holds what is no number; remove it"):
        read_histories([tmp_path], {"a" * 16})


@BOTH
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"correct": 1}, "a top1 that its correct contradicts"),
        ({"correct": 2**41}, "a top1 that its correct contradicts"),
        ({"created": "yesterday"}, "a created that is no time"),
    ],
)
def test_fields_that_contradict_each_other_are_a_fault(read, changed: dict, message: str, tmp_path: Path):
    path = plant(full() | changed, tmp_path)
    with pytest.raises(InputError, match=rf"{path}: the run a+ has {message}; remove it"):
        read([tmp_path])
