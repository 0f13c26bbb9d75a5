"""On a device: benches to their tables, their records, and runs that are killed, repeated or served."""

import math
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.processes import until
from visual_decathlon.benchmark.records.store import read_records
from visual_decathlon.benchmark.runs.data import ensure_standins
from visual_decathlon.benchmark.runtime import devices
from visual_decathlon.benchmark.runtime.nvml import millijoules
from visual_decathlon.benchmark.serving.multi_domain import MultiDomain
from visual_decathlon.methods.registry import entries

ASKED = ("--method", "res_adapter,par_adapter", "--domains", "dtd,svhn", "--set", "epochs=2")


@pytest.fixture(scope="module")
def one(bench, tmp_path_factory) -> Path:
    """The results of a bench with one worker, with predictions."""
    results = tmp_path_factory.mktemp("one")
    assert bench("run", *ASKED, "--workers", "1", "--predictions", results=results).code == 0
    return results


def numbers(results: Path) -> dict[str, tuple]:
    """Top-1 and losses of each run, by hash."""
    return {r["hash"]: (r["top1"], *(row["loss"] for row in r["history"])) for r in read_records([results])}


def test_a_bench_with_one_worker_ends_in_its_tables(one: Path, device: str):
    records = read_records([one])
    assert len(records) == 4 and {r["device"] for r in records} == {devices.name(device)}
    assert all(math.isfinite(r["history"][-1]["loss"]) and r["top1"] > 0 for r in records)
    table = (one / "table1.md").read_text()
    assert "Res. adapt." in table and "Parallel res. adapt." in table


def test_a_bench_with_several_workers_has_the_same_bits(one: Path, bench, tmp_path: Path):
    assert bench("run", *ASKED, "--workers", "3", results=tmp_path).code == 0
    assert numbers(tmp_path) == numbers(one) and (tmp_path / "table1.md").is_file()


def test_a_record_has_its_peak_and_where_it_is_counted_its_energy(one: Path, device: str, on_gpu: bool):
    records = read_records([one])
    assert all(r["peak_mb"] > 0 and r["train_img_s"] > 0 for r in records)
    if on_gpu and millijoules(device) is not None:
        assert all(r["joules"] > 0 for r in records if r["runs_on_device"] == 1)
        assert any(r["runs_on_device"] == 1 for r in records), "one worker is alone on the card"


def test_a_record_names_the_kind_of_step(one: Path, on_gpu: bool):
    for record in read_records([one]):
        assert record["step"] == ("graph" if on_gpu else "eager")
        assert record["layout"] in ("channels_last", "contiguous") and record["norm"] in ("fused", "plain")
        assert record["first_step_seconds"] > 0 and record["skipped_steps"] is None


def test_predictions_are_kept(one: Path):
    for record in read_records([one]):
        table = pq.read_table(one / "predictions" / f"{record['hash']}.parquet")
        assert len(table) == record["eval_images"] > 0 and set(table["domain"].to_pylist()) == {record["domain"]}


def test_a_trained_domain_in_use_answers_as_its_run_did(one: Path, bench, device: str):
    (record,) = (r for r in read_records([one]) if (r["method"], r["domain"]) == ("par_adapter", "dtd"))
    rows = pq.read_table(one / "predictions" / f"{record['hash']}.parquet").slice(0, 40).to_pylist()
    net = MultiDomain(bench.cache / "backbones" / f"{record['backbone']}.safetensors", device)
    name = net.load(one / "adapters" / f"{record['hash']}.safetensors")
    root = ensure_standins(bench.cache)
    answers = net.predict([root / row["file"] for row in rows], name)
    same = sum(answer.name == row["class_name"] for answer, row in zip(answers, rows, strict=True))
    assert same >= 38, "a batch of one image may round otherwise: so may an answer that was close"


def test_a_killed_run_goes_on_and_a_rerun_has_its_bits(bench, tmp_path: Path):
    asked = ("--method", "finetune", "--domains", "dtd", "--set", "epochs=60", "--workers", "1")
    run = bench.start("run", *asked, results=tmp_path)
    unfinished = tmp_path / "unfinished"
    until(run, lambda: any(unfinished.glob("[!.]*.safetensors")))
    run.kill()
    run.wait()
    assert read_records([tmp_path]) == [], "it was killed in the middle"
    assert bench("run", *asked, results=tmp_path).code == 0
    (record,) = read_records([tmp_path])
    assert len(record["history"]) == 60
    again = bench("rerun", record["hash"], results=tmp_path)
    assert again.code == 0, "trained without a break from its record, it has the same losses and top-1"


def test_every_method_trains_an_epoch_and_is_evaluated(bench, tmp_path: Path, on_gpu: bool):
    if not on_gpu:
        pytest.skip("minutes on a CPU, where other tests train every method")
    asked = ("--method", "all", "--domains", "dtd", "--set", "epochs=1", "--workers", "8")
    done = bench("run", *asked, results=tmp_path)
    assert done.code == 0, done.err
    records = read_records([tmp_path])
    able = {entry.name for entry in entries() if not entry().unsupported_reason("resnet26")}
    assert {r["method"].partition("(")[0] for r in records} == able and len(able) >= 40
    assert all(r["top1"] > 0 for r in records)
