"""The sweep of rates: which are tried, which is chosen, and that the entries have what the recorded sweep chose."""

from pathlib import Path

import pyarrow.parquet as pq

from visual_decathlon.benchmark.config.rates import own_rate
from visual_decathlon.benchmark.records.store import read_records
from visual_decathlon.benchmark.runs.sweep import _markdown, _rates, chosen
from visual_decathlon.methods.registry import entries, select

RESULTS = Path(__file__).parents[3] / "results"
RECORDED = RESULTS / "standin" / "sweep.parquet"


def rows(**top1: float) -> list[dict]:
    """Of one method, a third of the declared rate, the rate, and three times of it."""
    names = (("third", 0.03, False), ("once", 0.1, True), ("thrice", 0.3, False))
    return [{"method": "m", "lr": lr, "top1": top1[name], "declared": own} for name, lr, own in names]


def test_three_rates_about_the_declared_one():
    (method,) = select("par_adapter")
    assert [rate for _, rate in _rates(method, False)] == [0.03, 0.1, 0.3]
    assert [rate for _, rate in _rates(select("finetune")[0], False)][1] == select("finetune")[0].lr


def test_on_a_transformer_they_are_about_a_third_of_it():
    assert [rate for _, rate in _rates(select("par_adapter")[0], True)] == [0.01, 0.03, 0.09]
    assert [rate for _, rate in _rates(select("lora")[0], True)] == [0.02, 0.05, 0.2]


def test_the_best_is_chosen_and_noise_moves_nothing():
    assert chosen(rows(third=50, once=60, thrice=55), "m") == 0.1
    assert chosen(rows(third=63.9, once=60, thrice=55), "m") == 0.1
    assert chosen(rows(third=64.1, once=60, thrice=55), "m") == 0.03
    assert chosen(rows(third=50, once=60, thrice=70), "m") == 0.3


def test_a_rate_that_diverged_is_never_chosen():
    assert chosen(rows(third=50, once=60, thrice=None), "m") == 0.1
    assert chosen(rows(third=50, once=None, thrice=55), "m") == 0.3
    assert chosen(rows(third=None, once=None, thrice=None), "m") is None
    measured = rows(third=50, once=60, thrice=None)
    text = _markdown([row | {"chosen": row["lr"] == 0.1} for row in measured], 7, "data", "standin")
    assert "| m | 0.03 | 50.0 | 0.1 | **60.0** | 0.3 | – |" in text


def test_the_page_has_one_line_a_method_and_one_bold_number():
    measured = rows(third=50, once=60, thrice=55)
    text = _markdown([row | {"chosen": row["lr"] == chosen(measured, "m")} for row in measured], 7, "data", "standin")
    (line,) = [line for line in text.splitlines() if line.startswith("| m |")]
    assert line == "| m | 0.03 | 50.0 | 0.1 | **60.0** | 0.3 | 55.0 |"


def test_the_entries_have_the_rates_that_the_recorded_sweep_chose():
    """All but what no sweep is for: tokens, and the wide network, which takes the rate of its method."""
    recorded = {row["method"]: row["lr"] for row in pq.read_table(RECORDED).to_pylist() if row["chosen"]}
    declared = {entry.name: entry.lr for entry in entries() if not entry().unsupported_reason("resnet26")}
    assert declared["res_adapter_large"] == declared["res_adapter"]
    assert recorded == {name: declared[name] for name in recorded}
    committed = {record["method"] for record in read_records([RECORDED.parent])}
    assert committed - {"res_adapter_large"} == set(recorded), "every method of the table was swept"


def test_on_a_transformer_too():
    """Of the methods that were swept there, three rates gave the rule by which all records have theirs."""
    rows = pq.read_table(RESULTS / "standin-vit" / "sweep.parquet").to_pylist()
    recorded = {row["method"]: row["lr"] for row in rows if row["chosen"]}
    swept = {spec: select(spec)[0] for spec in recorded}
    assert recorded == {spec: own_rate(method, True) for spec, method in swept.items()}
    committed = {(record["method_full"], record["lr"]) for record in read_records([RESULTS / "standin-vit"])}
    assert {(spec, own_rate(select(spec)[0], True)) for spec, _ in committed} == committed
