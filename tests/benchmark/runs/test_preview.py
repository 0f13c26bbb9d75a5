"""PLAN=1 tells what a bench would do, and writes nothing."""

import statistics
import sys
from pathlib import Path

import pytest

from visual_decathlon.benchmark.records.store import read_frame, read_records
from visual_decathlon.benchmark.report.console import PlainConsole
from visual_decathlon.benchmark.report.planned import Planned, PlannedMethod, duration
from visual_decathlon.benchmark.runs.estimate import Estimates, together
from visual_decathlon.benchmark.runs.job import JointTrainingJob, PretrainingJob, RunJob


def rows(out: str) -> dict[str, list[str]]:
    """Cells of the table by method."""
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in out.splitlines() if line[:1] == "│"]
    return {name: more for name, *more in cells}


def test_finished_runs_are_known_without_decoding_an_image(here, bench, finished: Path, below, tmp_path: Path):
    """An empty cache: the runs are those of the records although nothing is packed, and nothing becomes of it."""
    before, cache = below(finished), tmp_path / "cache"
    done = here("--plan", "--seeds", "2", "--cache", str(cache), results=finished)
    assert done.code == 0, done.err
    lines = rows(done.out)
    assert {name: cells[:3] for name, cells in lines.items()} == {
        name: ["20", "10", "10"] for name in ("res_adapter", "feature", "finetune")
    }
    first = "First: decoding 360 images; pretraining the series backbone; pretraining the plain backbone."
    assert first in done.out and "with 2 workers, " in done.out and "like records of this machine" in done.out
    assert below(finished) == before and not cache.exists()


def test_a_finished_bench_has_nothing_to_do(here, finished: Path):
    done = here("--plan", results=finished)
    assert "Every run is finished: the bench would only make the tables." in done.out and "First" not in done.out


def test_stand_ins_that_are_not_drawn_yet(command, tmp_path: Path):
    """What every fresh clone shows; the counts are those of the catalogue of drawings."""
    words = ["-m", "benchmark", "run", "--plan", "--method", "res_adapter,bn_adapt", "--cache", str(tmp_path / "cache")]
    done = command([sys.executable, *words, "--results", str(tmp_path / "results"), "--device", "cpu"])
    assert done.code == 0, done.err
    assert {name: cells[:3] for name, cells in rows(done.out).items()} == {
        "res_adapter": ["10", "0", "10"],
        "bn_adapt": ["10", "0", "10"],
    }
    assert "First: drawing the stand-in domains; decoding 10,353 images; " in done.out
    assert "(at hand: it comes with the suite)" in done.out and list(tmp_path.iterdir()) == []


def test_finished_runs_without_the_predictions_that_are_asked_for(here, finished: Path):
    done = here("--plan", "--predictions", "--workers", "5", method="feature", results=finished)
    assert "Evaluated again for their predictions, not trained: 10 of the finished runs." in done.out
    assert "Every run is finished" not in done.out
    done = here("--plan", "--seeds", "8,", "--domains", "svhn", "--workers", "5", method="feature", results=finished)
    assert "with one worker, by" in done.out, "there is one run"


def test_a_wrong_method_is_the_sentence_of_a_bench(here, tmp_path: Path):
    done = here("--plan", method="prompt", results=tmp_path / "none")
    assert done.sentence == here(method="prompt", results=tmp_path / "none").sentence


def test_a_damaged_record_stays_where_it_is(here, finished: Path, below, tmp_path: Path):
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / f"{'a' * 16}.parquet").write_bytes(b"PAR1")
    before = below(tmp_path)
    done = here("--plan", method="feature", results=tmp_path)
    assert done.code == 0 and "left out: " in done.out and below(tmp_path) == before


def test_times_are_those_of_like_records(planned, finished: Path):
    """Seconds of a run: those of an image in training, times images and epochs; and its evaluation."""
    request, _, runs = planned("finetune", domains=["svhn"])
    frame = read_frame([finished])
    estimates = Estimates(frame, request.profile, "cpu")
    records = [r for r in read_records([finished]) if r["method"] == "finetune"]
    cost = lambda r, epochs: (r["cpu_seconds"] + (r["prepare_seconds"] or 0)) / (r["train_images"] * epochs)
    targets = [r for r in records if not r["source_cell"]]
    expected = statistics.median(cost(r, 2) for r in targets) * 24 * 2  # an evaluation this short has no throughput
    (run,) = runs
    evaluated = Estimates(frame.assign(eval_img_s=6.0), request.profile, "cpu")
    assert evaluated.seconds(RunJob(run, finished, None)) == pytest.approx(expected + 12 / 6, rel=1e-6)
    assert estimates.seconds(RunJob(run, finished, None)) == pytest.approx(expected, rel=1e-6)
    own = [cost(r, 6) for r in read_records([finished]) if r["source_cell"]]
    assert estimates.seconds(PretrainingJob(run.backbone)) == pytest.approx(statistics.median(own) * 24 * 6, rel=1e-6)
    assert estimates.memory_mb() == frame[~frame["source_cell"]]["peak_mb"].max()
    assert not estimates.of_other_machines
    other = Estimates(frame.assign(machine="another"), request.profile, "cpu")
    assert other.of_other_machines and other.seconds(RunJob(run, finished, None)) == pytest.approx(expected, rel=1e-6)


def test_a_joint_training_takes_as_long_as_its_domains(planned, finished: Path):
    request, _, runs = planned("res_adapter_finetune_all", domains=["svhn", "dtd"])
    estimates = Estimates(read_frame([finished]), request.profile, "cpu")
    joint = JointTrainingJob(runs[0].joint)
    alone = [estimates.seconds(RunJob(run, finished, None)) for run in planned("finetune", domains=["svhn", "dtd"])[2]]
    assert 0.3 < estimates.seconds(joint) / sum(alone) < 3, "by the records of all methods"
    assert estimates.seconds(RunJob(runs[0], finished, None)) < 0.2 * alone[0], "it is only evaluated"


def test_nothing_is_estimated_without_a_like_record(planned, finished: Path):
    request, _, (run, *_) = planned("finetune", "width=0.25")
    for frame in (read_frame([finished]), read_frame([finished]).iloc[:0]):
        estimates = Estimates(frame, request.profile, "cpu")
        assert estimates.seconds(RunJob(run, finished, None)) is None and estimates.memory_mb() is None
        assert estimates.stored_bytes([RunJob(run, finished, None)]) is None and not estimates.of_other_machines
        assert estimates.stored_bytes([]) == 0
    request = planned("finetune")[0]
    gpu = Estimates(read_frame([finished]).assign(device="a card"), request.profile, "cuda")
    assert gpu.memory_mb() is not None, "of a cluster's GPU, which is not here: records of any"


def test_jobs_side_by_side():
    assert together([3, 3, 2, 2, 2], 2) == 7 and together([5, 1, 1], 2) == 5 and together([], 3) == 0


def test_words(capsys: pytest.CaptureFixture):
    assert [duration(s) for s in (None, 40, 100, 7200)] == ["unknown", "about 40 s", "about 2 min", "about 2.0 h"]
    plan = Planned([PlannedMethod("lora", 3, 1, 60.0)], [], 0, 1, 60.0, 60.0, True, None, 2e6)
    plan.show(PlainConsole(wide=200))
    out = capsys.readouterr().out
    assert rows(out)["lora"] == ["3", "1", "2", "about 60 s"]
    assert "Time of the runs: about 60 s with one worker, by records of other machines.\n" in out
    assert "Memory: unknown. Disk: about 2 MB." in out
