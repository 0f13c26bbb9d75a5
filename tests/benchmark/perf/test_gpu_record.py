"""The rows of `make gpu`: goals, medians, the files on disk, the Markdown, and the environment."""

import dataclasses
from typing import get_type_hints

import pyarrow.parquet as pq
import pytest

from tests.benchmark import drawn_step
from visual_decathlon.benchmark.perf.gpu import facts, report
from visual_decathlon.benchmark.perf.gpu.facts import FACTS
from visual_decathlon.benchmark.perf.gpu.goals import Goal
from visual_decathlon.benchmark.perf.gpu.plan import PLAN
from visual_decathlon.benchmark.perf.gpu.record import Record
from visual_decathlon.benchmark.perf.gpu.rows import Row, row
from visual_decathlon.benchmark.perf.store import COMMON
from visual_decathlon.datasets.errors import InputError


def test_a_goal_is_of_a_value_or_of_a_ratio():
    assert (
        Goal(5, "ratio", "least").text() == "≥ 5" and Goal(20_000, "value", "least", "img/s").text() == "≥ 20,000 img/s"
    )
    assert Goal(1.5, "value", "most", "ms").reached(1.5, None) is True
    assert Goal(1.5, "value", "most", "ms").reached(1.6, 99.0) is False
    assert (
        Goal(5, "ratio", "least").reached(None, 4.9) is False and Goal(5, "ratio", "least").reached(9.0, None) is None
    )


@pytest.mark.parametrize(
    ("unit", "ours", "other", "ratio"),
    [("img/s", [30.0, 10.0, 20.0], [4.0], 5.0), ("ms", [1.0, 3.0, 2.0], [10.0], 5.0), ("MB", [11.0], [10.0], 1.1)],
)
def test_a_row_compares_medians(unit: str, ours: list[float], other: list[float], ratio: float):
    made = row("step", "what", "ours", ours, "other", other, unit=unit)
    assert made.ratio == ratio and (made.least, made.largest, made.rounds) == (min(ours), max(ours), len(ours))
    assert row("step", "what", "ours", ours, unit=unit).ratio is None


def measured(step: str, *values, **more) -> dict:
    return dataclasses.asdict(row(step, *values, **more)) | drawn_step.FACTS


def rows() -> list[dict]:
    """Rows as of an imaginary card."""
    speeds = (
        "par_adapter step, bf16",
        "the loop",
        [36_000.0, 35_500.0, 36_500.0],
        "eager",
        [7_000.0, 7_200.0, 7_100.0],
    )
    bench = ("a | bench", "default", [50.0])
    passed = Row("tests", "test_bench.py::test_one", "", 12.34, unit="s", rounds=1, note="passed")
    failed = Row("tests", "test_bench.py::test_two", "", 1.0, unit="s", rounds=1, note="failed: 1 != 2")
    skipped = Row("nine", "nine", note="skipped: 3 s of 480 are left, and it needs 30")
    rest = [dataclasses.asdict(each) | drawn_step.FACTS for each in (passed, failed, skipped)]
    goals = {"goal": "par_adapter bf16 / eager bf16"}, {"unit": "s", "goal": "bench"}
    return [measured("step", *speeds, **goals[0]), *rest[:2], measured("bench", *bench, **goals[1]), rest[2]]


def test_the_markdown_has_goals_tests_and_environment():
    assert report.markdown(rows()) == (
        "| what | ours |  | against |  | unit | ratio | least | largest | rounds | goal | reached |\n"
        "| --- | --- | ---: | --- | ---: | --- | ---: | ---: | ---: | ---: | --- | --- |\n"
        "| par_adapter step, bf16 | the loop | 36,000 | eager | 7,100 | img/s | 5.07 | 35,500 | 36,500 | 3 | ≥ 5 "
        "| yes |\n"
        "| a \\| bench | default | 50 |  |  | s |  |  |  | 1 | ≤ 45 s | no |\n\n"
        "`ratio` is how many times faster ours is (of memory: how many times as much it takes), of medians; `least` "
        "and `largest` are of our rounds.\n\n"
        "- nine: skipped: 3 s of 480 are left, and it needs 30\n\n"
        "| test | end | s |\n| --- | --- | ---: |\n"
        "| test_bench.py::test_one | passed | 12.3 |\n| test_bench.py::test_two | failed: 1 != 2 | 1.0 |\n\n"
        "NVIDIA Fake 80GB, driver 580.1; python 3.12.1, torch 2.11.0, cuda 13.0, cudnn 91900; "
        "a processor, Linux x86_64, 16 processors; 2026-11-28, commit 0123456789ab.\n"
    )
    assert report.summary(rows()) == "1 of 2 tests passed, 1 of 2 measured goals reached"


def test_every_row_is_on_disk_at_once_and_other_steps_stay(tmp_path):
    path = tmp_path / "gpu.parquet"
    record = Record(path, drawn_step.FACTS)
    by_name = {step.name: step for step in PLAN}
    for each in rows():
        content = {name: each[name] for name in get_type_hints(Row)}
        record.keep(by_name[each["step"]], content)
        kept = pq.read_table(path).to_pylist()
        assert content in [{name: one[name] for name in content} for one in kept]
    assert kept == sorted(rows(), key=lambda each: list(by_name).index(each["step"]))
    assert path.with_suffix(".md").read_text() == report.markdown(kept)
    later = Record(path, drawn_step.FACTS | {"card": "another", "date": "2026"})
    later.begin()
    assert [each["step"] for each in later.rows(PLAN)] == ["step", "tests", "tests", "bench", "nine"], (
        "until the step has new rows"
    )
    later.note(by_name["bench"], "ended: it took longer than its limit of 90 s")
    kept = pq.read_table(path).to_pylist()
    assert [(each["step"], each["ours_value"]) for each in kept if each["step"] == "bench"] == [("bench", None)]
    assert [each["card"] for each in kept] == [*["NVIDIA Fake 80GB"] * 3, "another", "NVIDIA Fake 80GB"]
    assert kept[3]["date"] > drawn_step.FACTS["date"], "the date is that of the beginning of its step"
    assert len(kept) == 5 and later.rows([by_name["bench"]]) == kept[3:4]


def test_a_record_of_other_columns_is_set_aside(tmp_path, capsys):
    record = Record(tmp_path / "gpu.parquet", drawn_step.FACTS)
    record.note(PLAN[0], "skipped")
    table = pq.read_table(record.path)
    pq.write_table(table.drop_columns(["goal"]), record.path)
    assert Record(record.path, drawn_step.FACTS).rows(PLAN) == []
    assert "is not of this version's steps" in capsys.readouterr().err


@pytest.mark.slow
def test_facts_have_the_types_of_the_columns():
    types = COMMON | FACTS
    for each in (facts.ask("cpu"), drawn_step.FACTS):
        assert each.keys() == types.keys()
        assert all(isinstance(each[name], kind) for name, kind in types.items()), each
    assert facts.ask("cpu")["card"] == "cpu"


def test_a_card_that_cannot_be_used_is_one_sentence(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(InputError, match=r"^the GPU cuda:0 is there but cannot be used \(.+\); see its driver"):
        facts.ask("cuda:0")
