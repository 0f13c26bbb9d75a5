"""Values that only a GPU, another system or another version of a package has are written to records and read again."""

import importlib.metadata
import json
import platform
import subprocess
from pathlib import Path

import pytest
import torch

from tests.benchmark.records.test_records import full, plant
from visual_decathlon.benchmark.perf import store
from visual_decathlon.benchmark.records import build, provenance
from visual_decathlon.benchmark.records.schema import check, plausible
from visual_decathlon.benchmark.records.store import read_frame, read_record, read_records, write_record
from visual_decathlon.benchmark.tables.table1 import tables
from visual_decathlon.datasets.errors import InputError

# (torch.version.cuda, torch.version.hip, cudnn.version()) -> versions in the record
KERNELS = {
    "H100": (("12.8", None, 91002), {"cuda": "12.8", "cudnn": "91002"}),
    "without cuDNN": (("12.8", None, None), {"cuda": "12.8"}),
    "ROCm": ((None, "6.4.43482", 3004000), {"hip": "6.4.43482", "cudnn": "3004000"}),
    "built from source": ((None, None, None), {}),
}


@pytest.mark.parametrize(("versions", "wanted"), KERNELS.values(), ids=KERNELS)
def test_versions_of_a_gpu_are_read_again(versions, wanted: dict, tmp_path: Path, monkeypatch):
    cuda, hip, cudnn = versions
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.version, "hip", hip, raising=False)
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: cudnn)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100 80GB HBM3")
    record = build.on_device(full() | {"versions": provenance.versions()}, "cuda:0")
    again = read_record(write_record(record, tmp_path))
    assert again == record and again["device"] == "NVIDIA H100 80GB HBM3"
    assert wanted.items() <= json.loads(again["versions"]).items()
    assert all(isinstance(text, str) for text in json.loads(again["versions"]).values())
    assert len(tables(read_frame([tmp_path]))) == 1


def test_a_cudnn_that_does_not_match_torch_is_left_out(monkeypatch):
    def unfit():
        raise RuntimeError("cuDNN version incompatibility")

    monkeypatch.setattr(torch.backends.cudnn, "version", unfit)
    assert "cudnn" not in provenance.kernels("cuda")


@pytest.mark.parametrize("cudnn", [91002, None])
def test_older_records_of_a_gpu_are_read(cudnn: int | None, tmp_path: Path):
    old = full() | {"versions": json.dumps({"torch": "2.11.0", "cuda": "12.8", "cudnn": cudnn})}
    plant(old, tmp_path)
    assert read_records([tmp_path]) == [old] and len(tables(read_frame([tmp_path]))) == 1


def no_git(*_, **__):
    raise FileNotFoundError("git")


def refused(*_, **__):
    raise subprocess.CalledProcessError(128, "git", stderr=b"fatal: detected dubious ownership in repository")


class Nothing:
    """Replaces a package without metadata."""

    def __call__(self, name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)


SYSTEMS = {
    "no git": [(provenance.subprocess, "run", no_git)],
    "outside git, or another's repository": [(provenance.subprocess, "run", refused)],
    "packages without metadata": [(importlib.metadata, "version", Nothing())],
    "packages without a version": [(importlib.metadata, "version", lambda name: None)],
    "Windows": [
        (platform, "processor", lambda: ""),
        (platform, "machine", lambda: ""),
        (platform, "system", lambda: "Windows"),
        (provenance, "Path", lambda name: Path("nowhere")),
    ],
    "a processor of no Latin name": [(platform, "processor", lambda: "ARMv8 \udcff")],
}


@pytest.mark.parametrize("replaced", SYSTEMS.values(), ids=SYSTEMS)
def test_values_of_another_system_are_read_again(replaced: list, tmp_path: Path, monkeypatch):
    for place, name, value in replaced:
        monkeypatch.setattr(place, name, value)
    here = {"commit": provenance.commit(), "versions": provenance.versions(), "machine": provenance.machine()}
    record = full() | here
    check([record], here)
    again = read_record(write_record(record, tmp_path))
    assert json.loads(again["versions"])["python"] and again["machine"].strip(" ,") and again["commit"] is not None
    assert all(isinstance(text, str) and text for text in json.loads(again["versions"]).values())


def test_a_path_that_is_not_utf8_loses_no_run(tmp_path: Path):
    again = read_record(write_record(full() | {"command": "--data /\udcffx", "data": "\udcff"}, tmp_path))
    assert again["command"] == "--data /\\udcffx" and again["data"] == "\\udcff"


def test_the_load_is_none_where_the_system_has_none(monkeypatch):
    monkeypatch.delattr(store.os, "getloadavg")
    assert store.load() is None


@pytest.mark.parametrize(
    ("field", "value"), [("joules", -3.5), ("train_img_s", float("inf")), ("eval_img_s", float("nan"))]
)
def test_an_impossible_measurement_is_null_and_the_run_is_kept(field: str, value: float, tmp_path: Path):
    """An energy counter that was reset falls; a step shorter than the clock's tick has an infinite throughput."""
    again = read_record(write_record(plausible(full() | {field: value}), tmp_path))
    assert again == full() | {field: None}


def test_a_record_that_no_reader_accepts_is_not_written(tmp_path: Path):
    for wrong, message in (
        ({"versions": "[]"}, "versions that are no list of versions"),
        ({"settings": "[]"}, "settings that are no profile"),
        ({"top1": float("nan")}, "a top1 that is no number"),
        ({"seed": None}, "a seed that is empty"),
        ({"top1": 1.0}, "a top1 that its correct contradicts"),
        ({"presentation": "{}"}, "a presentation that is none"),
        ({"asked": "now"}, "an asked that is no time"),
    ):
        with pytest.raises(InputError, match=rf"the run a+ could not be read again, as it has {message}"):
            write_record(full() | wrong, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_record_is_checked_before_anything_is_trained(planned, monkeypatch):
    _, data, runs = planned("feature", domains=["svhn"])
    who = provenance.Provenance.here(data, 1, "test")
    build.check_known(runs, who)
    fields = set(build.on_device(build.known_fields(runs[0], who), "cpu"))
    assert {"versions", "machine", "settings", "presentation", "device", "command"} <= fields
    broken = provenance.Provenance(**{**vars(who), "versions": "no list"})
    with pytest.raises(InputError, match="versions that are no list of versions"):
        build.check_known(runs, broken)
