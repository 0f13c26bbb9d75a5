"""Bundled backbones: the shipped records used them, they are installed by hash, and pretraining gives them again."""

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from visual_decathlon.benchmark.backbones.bundled import install_bundled_backbones, read_checksums
from visual_decathlon.benchmark.config.folders import SHIPPED, SHIPPED_RECORDS
from visual_decathlon.benchmark.config.profiles import profile
from visual_decathlon.benchmark.records.provenance import kernels, machine, versions
from visual_decathlon.benchmark.records.store import read_records
from visual_decathlon.benchmark.runs.data import open_data
from visual_decathlon.benchmark.runs.plan import plan_runs
from visual_decathlon.benchmark.runs.request import Request
from visual_decathlon.benchmark.runtime.numerics import configure_torch
from visual_decathlon.benchmark.training import pretrain
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.registry import select

FOLDER = SHIPPED / "backbones"


def about(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return file.metadata()


def losses(history: list[dict]) -> list[float]:
    return [row["loss"] for row in history]


def test_the_shipped_records_used_them():
    """Each of them and no other but a wider one; the rows of imagenet12 have the history of its pretraining."""
    by_backbone: dict[str, list[dict]] = {}
    for record in read_records(SHIPPED_RECORDS):
        if record["method"] != "res_adapter_large":
            by_backbone.setdefault(record["backbone"], []).append(record)
    metadata = {name: about(FOLDER / f"{name}.safetensors") for name in by_backbone}
    assert {f"{name}.safetensors" for name in metadata} == {file.name for file in FOLDER.glob("*.safetensors")}
    for name, records in by_backbone.items():
        assert metadata[name]["hash"] == name
        assert {record["structure"] for record in records} == {metadata[name]["structure"]}
        source = [record for record in records if record["source_cell"]]
        assert source and all(losses(r["history"]) == losses(json.loads(metadata[name]["history"])) for r in source)


def test_a_bundled_backbone_is_not_pretrained(here, bench, finished: Path, tmp_path: Path, monkeypatch):
    (pretrained,) = {r["backbone"] for r in read_records([finished / "records"]) if r["structure"] == "plain"}
    shipped = tmp_path / "shipped"
    (shipped / "backbones").mkdir(parents=True)
    shutil.copy(bench.cache / "backbones" / f"{pretrained}.safetensors", shipped / "backbones")
    write_sums(shipped / "backbones")
    monkeypatch.setattr("visual_decathlon.benchmark.runs.bench.SHIPPED", shipped)
    monkeypatch.setattr(pretrain, "pretrain", lambda *_: pytest.fail("it is there"))
    fresh = {"results": tmp_path / "results", "method": "feature"}
    done = here("--domains", "dtd", "--cache", str(tmp_path / "cache"), **fresh)
    assert done.code == 0, done.err
    assert done.out.count("the plain backbone comes with the suite") == 1
    key = lambda r: (r["hash"], r["top1"])
    wanted = {key(r) for r in read_records([finished / "records"]) if (r["method"], r["domain"]) == ("feature", "dtd")}
    assert {key(r) for r in read_records([tmp_path / "results" / "records"])} == wanted
    (tmp_path / "results" / "records" / f"{wanted.pop()[0]}.parquet").unlink()
    assert "comes with the suite" not in here("--domains", "dtd", "--cache", str(tmp_path / "cache"), **fresh).out


@pytest.fixture
def shelf(planned, tmp_path: Path):
    """(backbones of an empty cache, the folder that holds files for them, a function that installs them).

    The function returns the messages that the user sees.
    """
    runs = planned("res_adapter,feature")[2]
    wanted = [dataclasses.replace(run.backbone, cache=tmp_path / "cache") for run in runs]
    for backbone in wanted:
        (tmp_path / backbone.path.name).write_bytes(backbone.hash.encode())
    write_sums(tmp_path)

    def install(backbones) -> list[str]:
        messages = []
        install_bundled_backbones(backbones, tmp_path, messages.append)
        return messages

    return wanted, tmp_path, install


def write_sums(folder: Path) -> None:
    files = sorted(folder.glob("*.safetensors"))
    lines = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files]
    (folder / "SHA256SUMS").write_text("".join(lines))


def test_another_recipe_has_another_name(shelf):
    wanted, folder, install = shelf
    assert install(dataclasses.replace(backbone, width_multiplier=2.0) for backbone in wanted) == []
    assert not (folder / "cache").exists()
    messages = install(wanted)
    assert {line.split()[1] for line in messages} == {"plain", "series"} and len(messages) == 2
    assert all(backbone.path.read_bytes() == backbone.hash.encode() for backbone in wanted)
    assert install(wanted) == []


@pytest.mark.parametrize("damage", ["cut", "no list", "list of nothing"])
def test_a_damaged_file_is_not_installed_and_is_named(shelf, damage):
    wanted, folder, install = shelf
    (plain,) = {b for b in wanted if b.structure == "plain"}
    if damage == "cut":
        (folder / plain.path.name).write_bytes(b"version https://git-lfs")
    elif damage == "no list":
        (folder / "SHA256SUMS").unlink()
    else:
        (folder / "SHA256SUMS").write_bytes(b"\xff\n\n")
    (line,) = install([plain])
    assert str(folder / plain.path.name) in line and "damaged" in line and "git checkout" in line
    assert not plain.path.exists()


def test_the_list_is_that_of_the_files():
    sums = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in FOLDER.glob("*.safetensors")}
    assert read_checksums(FOLDER) == sums


@pytest.mark.parametrize("fault", ["hash", "history"])
def test_a_backbone_of_another_run_is_refused(planned, finished: Path, tmp_path: Path, fault):
    (run,) = {c.backbone.structure: c for c in planned("feature", domains=["dtd"])[2] if not c.source_cell}.values()
    metadata = about(run.backbone.path)
    tensors = load_file(run.backbone.path)
    changed = {k: v for k, v in metadata.items() if k != fault} | (
        {"hash": "0123456789abcdef"} if fault == "hash" else {}
    )
    other = dataclasses.replace(run.backbone, cache=tmp_path)
    save_file(tensors, other.path, changed)
    with pytest.raises(
        InputError, match="is 0123456789abcdef; remove it" if fault == "hash" else "nothing of its train"
    ):
        pretrain.load(other, "cpu")


@pytest.mark.slow
def test_pretraining_gives_it_again(tmp_path: Path):
    """To the bit, where it was made: on this kind of processor, with its instructions and this torch."""
    (record,) = [
        r
        for r in pq.read_table(SHIPPED / "records.parquet").to_pylist()
        if (r["method"], r["seed"]) == ("res_adapter", 0) and r["source_cell"]
    ]
    # Records of before have no instruction set; all that state one were made with these.
    recorded, here = {"cpu": "AVX512"} | json.loads(record["versions"]), json.loads(versions()) | kernels("cpu")
    if record["machine"] != machine() or any(recorded[name] != here[name] for name in ("torch", "cpu")):
        pytest.skip(f"it was made on {record['machine']}, {recorded['cpu']}, torch {recorded['torch']}")
    request = Request(select("res_adapter"), profile("standin"), cache=tmp_path, domains=("imagenet12",))
    (run,) = plan_runs(request, open_data(request, lambda *_: None), request.methods, (0,))
    configure_torch(request.profile, "cpu")
    pretrain.pretrain(run.backbone, "cpu", lambda row: None)
    folders = (run.backbone.path.parent, FOLDER)
    metadata = [about(folder / run.backbone.path.name) for folder in folders]
    mine, shipped = (losses(json.loads(each["history"])) for each in metadata)
    assert mine == shipped
