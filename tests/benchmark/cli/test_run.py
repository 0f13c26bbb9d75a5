"""The whole way through the command line: records, tables, score, splits, own domains, given backbones."""

import json
import shutil
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from visual_decathlon.benchmark.records.store import read_frame, read_records
from visual_decathlon.benchmark.report.screen import Screen
from visual_decathlon.benchmark.runs import bench as bench_module
from visual_decathlon.benchmark.runtime import precision
from visual_decathlon.benchmark.training.loader import select_indices
from visual_decathlon.datasets.catalogue import DOMAINS
from visual_decathlon.datasets.errors import Unwritable
from visual_decathlon.datasets.pack import Pack

PUBLISHED_ORDER = ["ImNet", "Airc.", "C100", "DPed", "DTD", "GTSR", "Flwr", "OGlt", "SVHN", "UCF"]
NAMES = ["imagenet12", "aircraft", "cifar100", "daimlerpedcls", "dtd", "gtsrb", "vgg-flowers", "omniglot"] + [
    "svhn",
    "ucf101",
]
METHODS = ("res_adapter", "feature", "finetune")


def table1(results: Path) -> dict[str, dict]:
    """Rows of the first table by method, in order."""
    return {row["method"]: row for row in pq.read_table(results / "table1.parquet").to_pylist()}


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished results folder with its modification times."""
    return Path(shutil.copytree(finished, tmp_path / "copied"))


@pytest.fixture
def mine(picture, tmp_path: Path) -> Path:
    """An own domain: two classes of six images."""
    for label, title in enumerate(("left", "right")):
        (tmp_path / "mine" / title).mkdir(parents=True)
        for i in range(6):
            picture(label, seed=900 + 10 * label + i).save(tmp_path / "mine" / title / f"{i}.png")
    return tmp_path / "mine"


def test_every_run_has_one_record_and_nothing_else_is_left(finished: Path):
    records = read_records([finished / "records"])
    assert sorted((r["method"], r["domain"], r["seed"]) for r in records) == sorted(
        (method, name, 0) for method in METHODS for name in NAMES
    )
    assert {r["domain"] for r in records if r["source_cell"]} == {"imagenet12"}
    own = {f"{r['hash']}.safetensors" for r in records if not r["source_cell"]}
    assert {p.name for p in (finished / "adapters").iterdir()} == own
    assert {p.name for p in (finished / "records").iterdir()} == {f"{r['hash']}.parquet" for r in records}
    assert list((finished / "unfinished").iterdir()) == []
    assert list(finished.rglob(".*")) == []


def test_records_have_measurements_and_null_where_there_is_none(finished: Path):
    for r in read_records([finished / "records"]):
        assert (r["eval_images"], r["train_images"], r["classes"], r["split"]) == (12, 24, 3, "val")
        assert r["top1"] == 100 * r["correct"] / 12
        assert r["limit"] is None and r["joules"] is None and not r["standin"] and not r["off_the_shelf"]
        assert len(r["history"]) == (6 if r["source_cell"] else 2)
        assert r["train_seconds"] == pytest.approx(sum(row["seconds"] for row in r["history"]))
        assert r["cpu_seconds"] > 0 and r["runs_on_device"] >= 1, "of the pretraining for the backbone's own run"
        assert (r["layout"], r["norm"]) == ("channels_last", "plain"), "of the pretraining, too"
        assert r["merged"] and 0 <= r["merge_difference"] < 1e-3
        assert (r["prepare_seconds"] is not None) == (r["method"] == "feature" and not r["source_cell"])
        assert r["structure"] == ("series" if r["method"] == "res_adapter" else "plain")
        assert r["macs_inference"] <= r["macs_train"]
        assert {"python", "torch", "timm", "cpu"} <= json.loads(r["versions"]).keys()
        if r["source_cell"]:
            assert r["bytes"] is None and r["peak_mb"] is None and r["floats"] == 0
        else:
            assert r["bytes"] == (finished / "adapters" / f"{r['hash']}.safetensors").stat().st_size
            assert r["step_ms_p10"] <= r["step_ms"] <= r["step_ms_p90"]
    assert max(r["top1"] for r in records_of(finished, "finetune")) > 60  # it learned something


def records_of(results: Path, method: str) -> list[dict]:
    return [r for r in read_records([results / "records"]) if r["method"] == method]


def test_the_backbones_own_run_is_one_number_per_backbone(finished: Path):
    source = [r for r in read_records([finished / "records"]) if r["source_cell"]]
    assert {r["method"]: r["backbone"] for r in source}["feature"] == next(
        r["backbone"] for r in source if r["method"] == "finetune"
    )
    assert len({r["backbone"] for r in source}) == 2
    assert len({r["top1"] for r in source if r["structure"] == "plain"}) == 1


def test_the_table_has_the_published_order_and_the_score_of_the_records(finished: Path):
    names = pq.read_schema(finished / "table1.parquet").names
    assert names[:14] == ["Model", "#par.", *PUBLISHED_ORDER, "mean", "S"]
    rows = table1(finished)
    top1 = {m: {r["domain"]: r["top1"] for r in records_of(finished, m)} for m in METHODS}
    for method in METHODS:
        for column, name in zip(PUBLISHED_ORDER, NAMES, strict=True):
            assert rows[method][column] == top1[method][name]
            assert rows[method][f"{column} sd"] is None
        assert rows[method]["mean"] == pytest.approx(sum(top1[method].values()) / 10)
        score = 0.0
        for name in NAMES:
            e_max = 2 * (100 - top1["finetune"][name])
            score += 1000 / e_max**2 * max(0.0, e_max - (100 - top1[method][name])) ** 2
        assert rows[method]["S"] == pytest.approx(score)
        assert (rows[method]["domains"], rows[method]["seeds"], rows[method]["limit"]) == (10, 1, None)
    assert rows["finetune"]["S"] == pytest.approx(2500)
    assert len({row["S"] for row in rows.values()}) == 3, "the methods of the fixture differ"
    assert [row["mean"] for row in rows.values()] == sorted(row["mean"] for row in rows.values())
    text = (finished / "table1.md").read_text()
    assert f"| {rows['feature']['S']:.0f} |" in text and "not comparable" in text


def test_second_run_trains_nothing(here, copied: Path, below, monkeypatch):
    before = below(copied / "records") | below(copied / "adapters")
    monkeypatch.setattr("visual_decathlon.benchmark.runs.scheduler._Schedule", None)  # to call it would raise
    done = here(results=copied)
    assert done.code == 0, done.err
    assert below(copied / "records") | below(copied / "adapters") == before
    assert "30 of 30 runs are finished already" in done.out


def test_only_a_lost_record_is_run_again(here, copied: Path, below):
    lost = next(r for r in records_of(copied, "feature") if r["domain"] == "dtd")
    (copied / "records" / f"{lost['hash']}.parquet").unlink()
    before = below(copied / "records")
    assert here(results=copied).code == 0
    after = below(copied / "records")
    assert set(after) - set(before) == {f"{lost['hash']}.parquet"}
    assert {name: after[name] for name in before} == before
    again = next(r for r in records_of(copied, "feature") if r["domain"] == "dtd")
    assert (again["top1"], [row["loss"] for row in again["history"]]) == (
        lost["top1"],
        [row["loss"] for row in lost["history"]],
    )


def test_own_domain_has_a_column_after_the_ten_and_no_share_in_the_score(here, copied: Path, mine: Path):
    before = table1(copied)
    done = here("--own", f"mine={mine}", method="feature", results=copied)
    assert done.code == 0, done.err
    names = pq.read_schema(copied / "table1.parquet").names
    assert names[:15] == ["Model", "#par.", *PUBLISHED_ORDER, "mine", "mean", "S"]
    after = table1(copied)
    assert after["feature"]["mine"] is not None and after["finetune"]["mine"] is None
    for method in METHODS:
        assert [after[method][c] for c in ("mean", "S", "domains")] == [
            before[method][c] for c in ("mean", "S", "domains")
        ]
    assert [r["k"] for r in read_records([copied / "records"]) if r["domain"] == "mine"] == [0]


def test_own_domains_can_be_named_among_the_domains(planned, mine: Path, tmp_path: Path):
    shutil.copytree(mine, tmp_path / "other")
    own = [("mine", mine), ("other", tmp_path / "other")]

    def names(*domains: str, **more) -> list[str]:
        return [c.domain.name for c in planned("feature", own_domains=own, domains=domains, **more)[2]]

    assert names("dtd") == ["dtd", "mine", "other"]  # to give them asks for them
    assert names("dtd", "other") == ["dtd", "other"]
    assert names("mine") == ["mine"]
    own[1] = ("other", tmp_path / "nowhere")
    assert names("mine") == ["mine"], "what is not named need not be there"


def test_own_domain_is_identified_by_its_content(planned, mine: Path):
    def hashes() -> dict[str, str]:
        return {c.domain.name: c.hash for c in planned("feature", own_domains=[("mine", mine)])[2]}

    before = hashes()
    shutil.copy(mine / "left" / "0.png", mine / "left" / "1.png")
    after = hashes()
    assert before["mine"] != after["mine"] and before["dtd"] == after["dtd"]


def test_the_baseline_of_the_score_is_run_only_if_no_records_match(planned, finished: Path, mine: Path):
    request, data, asked = planned("feature", own_domains=[("mine", mine)])
    screen = Screen()
    frame = read_frame([finished / "records"])
    shipped = frame[frame["method"] == "finetune"]
    run, matching = bench_module.baseline(request, data, asked, shipped, screen)
    assert run == [] and set(matching["domain"]) == set(DOMAINS), "an own domain has no share in S"
    run, matching = bench_module.baseline(request, data, asked, shipped[1:], screen)
    assert {c.domain.name for c in run} == set(DOMAINS) and len(matching) == 9
    request, data, asked = planned("feature", settings="width=0.125 epochs=3")  # hashes do not fit
    run, matching = bench_module.baseline(request, data, asked, shipped, screen)
    assert len(run) == 10 and not len(matching)
    request, data, asked = planned("feature", domains=["dtd", "svhn"])
    assert bench_module.baseline(request, data, asked, shipped, screen) == ([], None)
    request, data, asked = planned("finetune")
    assert bench_module.baseline(request, data, asked, shipped, screen) == ([], None)


def test_shipped_records_serve_as_baseline_and_a_mismatch_is_reported(
    here, finished: Path, copied: Path, monkeypatch, tmp_path: Path
):
    for r in records_of(copied, "finetune"):
        (tmp_path / "shipped").mkdir(exist_ok=True)
        (copied / "records" / f"{r['hash']}.parquet").rename(tmp_path / "shipped" / f"{r['hash']}.parquet")
    monkeypatch.setattr(bench_module, "SHIPPED_RECORDS", [tmp_path / "shipped"])
    done = here(method="feature", results=copied)
    assert done.code == 0 and "baseline" not in done.out.replace("E_max", "")
    rows = table1(copied)
    assert set(rows) == {"feature", "res_adapter"}
    assert rows["feature"]["S"] == pytest.approx(table1(finished)["feature"]["S"])
    monkeypatch.setattr(bench_module, "SHIPPED_RECORDS", [tmp_path / "none"])
    done = here(method="feature", results=copied)
    assert done.code == 0 and "S needs the fine-tune baseline" in done.out and "it is run too" in done.out
    assert table1(copied)["finetune"]["S"] == pytest.approx(2500)


def test_failed_runs_are_reported_although_the_tables_cannot_be_written(here, copied: Path, monkeypatch):
    def full(*_) -> None:
        raise Unwritable("table1.parquet cannot be written (No space left on device); free some space")

    monkeypatch.setattr("visual_decathlon.benchmark.runs.bench.write_all", full)
    diverging = "width=0.125 epochs=2 lr=1e9 pretrain.epochs=6 batch=8 pretrain.batch=8"
    done = here("--domains", "dtd", method="finetune", settings=diverging, results=copied)
    fault, full = done.err.splitlines()
    assert done.code == 2 and fault.startswith("dtd: ") and "lower the rate" in fault
    assert full.startswith("table1.parquet cannot be written")


def test_some_domains_give_neither_mean_nor_score(here, tmp_path: Path):
    done = here("--domains", "svhn,dtd", method="feature", results=tmp_path)
    assert done.code == 0, done.err
    assert {r["domain"] for r in read_records([tmp_path / "records"])} == {"svhn", "dtd"}
    row = table1(tmp_path)["feature"]
    assert row["mean"] is None and row["S"] is None and row["domains"] == 2 and row["ImNet"] is None
    assert "(2/10)" in (tmp_path / "table1.md").read_text() and "(2/10)" in done.out


def test_split_test_trains_on_train_and_val(here, release, tmp_path: Path):
    data = release(tmp_path / "labelled", ("imagenet12", "svhn"), test_labels=True)
    words = ("--data", str(data), "--split", "test", "--domains", "svhn")
    done = here(*words, method="feature", results=tmp_path / "results")
    assert done.code == 0, done.err
    (record,) = read_records([tmp_path / "results" / "records"])
    assert (record["split"], record["train_images"], record["eval_images"]) == ("test", 36, 6)


def test_split_test_without_labels_is_refused(here, tmp_path: Path):
    sentence = here("--split", "test", "--domains", "svhn", results=tmp_path).sentence
    assert "imagenet12_test_stripped.json" in sentence or "svhn_test_stripped.json" in sentence
    assert "SPLIT=val" in sentence


def test_split_holdout_holds_a_fifth_of_train_back(here, planned, tmp_path: Path):
    done = here("--split", "holdout", "--domains", "svhn", method="feature", results=tmp_path)
    assert done.code == 0, done.err
    (record,) = read_records([tmp_path / "records"])
    assert (record["split"], record["train_images"], record["eval_images"]) == ("holdout", 21, 3)
    _, data, _ = planned("feature", split="holdout", domains=["svhn"])
    pack = Pack(data.train["svhn"].packs[0])
    fit, held = select_indices(pack, "fit", None), select_indices(pack, "held", None)
    assert sorted([*fit, *held]) == list(range(24))
    assert sorted(pack.labels[held]) == [0, 1, 2] and min(held) > 20, "the last of each class"


def test_limit_marks_its_rows(here, copied: Path):
    done = here("--limit", "6", "--domains", "imagenet12,svhn", method="feature", results=copied)
    assert done.code == 0, done.err
    assert "CUT to 6 images" in done.out
    cut = [r for r in read_records([copied / "records"]) if r["limit"]]
    assert [(r["limit"], r["train_images"], r["eval_images"]) for r in cut] == [(6, 6, 6)] * 2
    rows = pq.read_table(copied / "table1.parquet").to_pylist()
    assert [row["limit"] for row in rows].count(6) == 1 and len(rows) == 4
    assert next(row for row in rows if row["limit"] == 6)["S"] is None


def test_tables_of_limited_runs_alone_are_refused_and_not_changed(here, tmp_path: Path, command, bench):
    done = here("--limit", "6", "--domains", "imagenet12,svhn", method="feature", results=tmp_path)
    assert done.code == 0, done.err
    before = (tmp_path / "table1.parquet").read_bytes()
    words = [sys.executable, "-m", "benchmark", "tables", "--results", str(tmp_path)]
    assert "`make results LIMITED=1`" in command(words).sentence
    assert (tmp_path / "table1.parquet").read_bytes() == before
    assert command([*words, "--limited"]).code == 0


def test_seeds_give_deviations_if_something_varies(here, tmp_path: Path):
    done = here("--seeds", "2", "--domains", "imagenet12,svhn", method="finetune", results=tmp_path)
    assert done.code == 0, done.err
    records = read_records([tmp_path / "records"])
    assert sorted((r["domain"], r["seed"]) for r in records) == [(d, s) for d in ("imagenet12", "svhn") for s in (0, 1)]
    losses = {tuple(row["loss"] for row in r["history"]) for r in records if r["domain"] == "svhn"}
    assert len(losses) == 2
    row = table1(tmp_path)["finetune"]
    assert row["seeds"] == 2 and row["SVHN sd"] is not None and row["ImNet sd"] is None


def test_an_emulated_precision_is_reported_before_training(here, finished: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(precision, "times_slower", lambda device, half: 100.0)
    words = ("--domains", "dtd")
    settings = "width=0.125 epochs=1 pretrain.epochs=1 batch=8 pretrain.batch=8 precision=bf16"
    given = {"method": "feature", "settings": settings, "results": tmp_path}
    done = here(*words, **given)
    assert done.code == 0, done.err
    assert 0 < done.out.index("100.0 times as slow") < done.out.index("feature      dtd")
    again = here(*words, **given)
    assert again.code == 0 and "times as slow" not in again.out, "nothing is trained"
