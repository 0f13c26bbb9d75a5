"""Backbones that come with the suite: those that the shipped records stand on, lent by hash, and made again."""

import dataclasses
import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from safetensors import safe_open

from benchmark import networks, plan, run_command
from benchmark.lent import lend
from benchmark.profiles import profile
from benchmark.provenance import machine, versions
from benchmark.records import read_records
from benchmark.workers import settle
from methods.registry import select

FOLDER = run_command.SHIPPED / "backbones"
METHODS = {"plain": "finetune", "series": "res_adapter"}


def about(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return file.metadata()


def losses(history: list[dict]) -> list[float]:
    return [row["loss"] for row in history]


@pytest.mark.parametrize("structure", METHODS)
def test_the_shipped_records_stand_on_them(structure):
    records = [r for r in read_records([run_command.SHIPPED]) if r["method"] == METHODS[structure]]
    (name,) = {record["backbone"] for record in records}
    said = about(FOLDER / f"{name}.safetensors")
    assert (said["hash"], said["structure"]) == (name, structure)
    assert all(losses(r["history"]) == losses(json.loads(said["history"])) for r in records if r["source_cell"])
    assert len(list(FOLDER.iterdir())) == len(METHODS)


def test_what_lies_there_is_not_pretrained(here, bench, finished: Path, tmp_path: Path, monkeypatch):
    (pretrained,) = {r["backbone"] for r in read_records([finished / "records"]) if r["structure"] == "plain"}
    shipped = tmp_path / "shipped"
    (shipped / "backbones").mkdir(parents=True)
    shutil.copy(bench.cache / "backbones" / f"{pretrained}.safetensors", shipped / "backbones")
    monkeypatch.setattr(run_command, "SHIPPED", shipped)
    monkeypatch.setattr(networks, "pretrain", lambda *_: pytest.fail("it is there"))
    fresh = {"results": tmp_path / "results", "method": "feature"}
    done = here("--domains", "dtd", "--cache", str(tmp_path / "cache"), **fresh)
    assert done.code == 0, done.err
    assert done.out.count("the plain backbone comes with the suite") == 1
    key = lambda r: (r["hash"], r["top1"])
    wanted = {key(r) for r in read_records([finished / "records"]) if (r["method"], r["domain"]) == ("feature", "dtd")}
    assert {key(r) for r in read_records([tmp_path / "results" / "records"])} == wanted
    (tmp_path / "results" / "records" / f"{wanted.pop()[0]}.parquet").unlink()
    assert "comes with the suite" not in here("--domains", "dtd", "--cache", str(tmp_path / "cache"), **fresh).out


def test_another_recipe_has_another_name(planned, tmp_path: Path):
    cells = planned("res_adapter,feature")[2]
    for cell in cells:
        (tmp_path / cell.backbone.path.name).write_bytes(cell.backbone.hash.encode())
    other = [dataclasses.replace(cell.backbone, cache=tmp_path / "cache", widen=2.0) for cell in cells]
    assert lend(other, tmp_path) == [] and not (tmp_path / "cache").exists()
    same = [dataclasses.replace(cell.backbone, cache=tmp_path / "cache") for cell in cells]
    assert {b.structure for b in lend(same, tmp_path)} == {"plain", "series"}
    assert all(b.path.read_bytes() == b.hash.encode() for b in same)
    assert lend(same, tmp_path) == []


@pytest.mark.slow
def test_pretraining_gives_it_again(tmp_path: Path, one_thread):
    """To the bit where it was made, on one kind of processor and torch; elsewhere it learns as well."""
    request = plan.Request(select("res_adapter"), profile("standin"), cache=tmp_path, domains=("imagenet12",))
    (cell,) = plan.cells(request, plan.open_data(request, lambda *_: None), request.methods, (0,))
    settle("fp32")
    networks.pretrain(cell.backbone, "cpu", lambda row: None)
    ours, theirs = (about(path / cell.backbone.path.name) for path in (cell.backbone.path.parent, FOLDER))
    mine, shipped = (losses(json.loads(said["history"])) for said in (ours, theirs))
    (record,) = [
        r
        for r in pq.read_table(run_command.SHIPPED / "records.parquet").to_pylist()
        if r["backbone"] == cell.backbone.hash and r["method"] == "res_adapter" and r["source_cell"] and not r["seed"]
    ]
    recorded, here = json.loads(record["versions"]), json.loads(versions())
    if record["machine"] == machine() and recorded["torch"] == here["torch"]:
        assert mine == shipped
    assert mine[-1] == pytest.approx(shipped[-1], rel=0.1)
