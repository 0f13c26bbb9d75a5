"""The table of pros and cons in results/README.md is that of the committed measurements and records."""

import re
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from visual_decathlon.benchmark.perf.efficiency.adapter_rows import BARE, BATCHES
from visual_decathlon.benchmark.records.store import read_frame
from visual_decathlon.benchmark.tables.table1 import tables

RESULTS = Path(__file__).parents[3] / "results"
NETWORK = "timm/vit_tiny_patch16_224"
HEAD = [
    "method",
    "tokens (keys)",
    "MACs",
    "latency, batch 1",
    "batch 16",
    "merged",
    "stored",
    "activations",
    "mean top-1",
]


def lines() -> list[str]:
    """A row for each method that was measured on the network, with its mean on the stand-ins where it has runs."""
    rows = [
        r for r in pq.read_table(RESULTS / "efficiency" / "adapters.parquet").to_pylist() if r["network"] == NETWORK
    ]
    by = {(r["method"], r["form"], r["batch"]): r for r in rows}
    (table,) = tables(read_frame([RESULTS / "standin-vit"]))
    means = {row.method: row.mean.mean for row in table.rows if row.mean}
    means["adaptformer"] = means["adaptformer(bottleneck=8)"]  # the small transformer is narrower than 64
    out = ["| " + " | ".join(HEAD) + " |", "| --- |" + " ---: |" * (len(HEAD) - 1)]
    bare = by[BARE, "as trained", 1]
    for method in dict.fromkeys(r["method"] for r in rows if r["method"] != BARE):
        one, many = (by[method, "as trained", batch] for batch in BATCHES)
        merged = by.get((method, "merged", BATCHES[0]))
        cells = [f"`{method}`"]
        cells.append("" if one["keys"] == bare["keys"] else f"+{one['keys'] - bare['keys']}")
        cells.append(f"{one['macs'] / bare['macs']:.2f}")
        cells += [f"{r['latency_ratio']:.2f}" for r in (one, many)]
        cells.append(f"{merged['latency_ratio']:.2f}" if merged else "no")
        cells.append(f"{100 * (one['floats'] + one['bits'] / 32) / one['base_floats']:.2f} %")
        cells.append(f"{one['activation_bytes'] / bare['activation_bytes']:.2f}")
        cells.append(f"{means[method]:.1f}" if method in means else "")
        out.append("| " + " | ".join(cells) + " |")
    return out


def test_the_sums_of_two_tasks():
    """The sentence on `make sum`: means over both domains of nine pairs, and each domain is in two of them."""
    rows = pq.read_table(RESULTS / "standin-vit" / "sums.parquet").to_pylist()
    tops = {(r["method"], r["domain"]): r["top1"] for r in read_frame([RESULTS / "standin-vit"]).to_dict("records")}
    text = " ".join((RESULTS / "README.md").read_text(encoding="utf-8").split())
    for method in ("lora", "finetune"):
        own = [r for r in rows if r["method"] == method]
        assert len(own) == 18 and set(Counter(r["domain"] for r in own).values()) == {2}
        assert {(r["domain"], r["other"]) for r in own} == {(r["other"], r["domain"]) for r in own}
        assert all(r["alone"] == pytest.approx(tops[method, r["domain"]]) for r in own)
        added, alone, frozen = (f"{sum(r[name] for r in own) / 18:.1f}" for name in ("added", "alone", "frozen"))
        found = re.search(
            rf"`{method}` has {added} (?:on average )?where it has {alone} alone and the frozen weights", text
        )
        assert found and frozen in text[found.end() :][:40], method


def test_the_table_is_that_of_the_measurements():
    page = (RESULTS / "README.md").read_text(encoding="utf-8")
    block = page.split("<!-- adapters: begin -->")[1].split("<!-- adapters: end -->")[0]
    assert [line for line in block.splitlines() if line.startswith("|")] == lines()
    (table,) = tables(read_frame([RESULTS / "standin-vit"]))
    tuned = next(row.mean.mean for row in table.rows if row.method == "finetune")
    assert re.search(rf"fine-tuning has {tuned:.1f}\b", " ".join(block.split()))


def test_the_sentences_on_a_transformer():
    (table,) = tables(read_frame([RESULTS / "standin-vit"]))
    means = {row.method: row.mean.mean for row in table.rows if row.mean}
    gtsrb = {
        r["method"]: r["top1"]
        for r in read_frame([RESULTS / "standin-vit"]).to_dict("records")
        if r["domain"] == "gtsrb"
    }
    text = " ".join((RESULTS / "README.md").read_text(encoding="utf-8").split())
    assert f"has {len(means)} methods on a vision transformer of timm" in text
    assert (
        f"is first: {means['side']:.1f}, and {means['finetune']:.1f} for fine-tuning" in text
        and max(means.values()) == means["side"]
    )
    assert f"On GTSRB it has {gtsrb['side']:.1f} where fine-tuning has {gtsrb['finetune']:.1f}" in text
    few = [means[m] for m in ("ia3", "partial", "bitfit", "pfeiffer")]
    assert f"`pfeiffer`: {min(few):.1f} to {max(few):.1f})" in text
    assert max(few) - means["feature"] < (means["finetune"] - means["feature"]) / 6
    first = sorted(means.items(), key=lambda pair: -pair[1])
    assert [name for name, _ in first[:6]] == ["side", "finetune", "dora", "fact", "par_adapter", "lora"]
    dora, fact, par_adapter, lora = (f"`{name}` ({mean:.1f})" for name, mean in first[2:6])
    assert f"{dora}, {fact}, {par_adapter} and {lora} have most of it" in text
    orthogonal = [means[m] for m in ("hra", "oft", "boft")]
    assert f"`boft`: {min(orthogonal):.1f} to {max(orthogonal):.1f})" in text and max(orthogonal) < means["lora"]
    half, stored = means["lora(where='qv')"], {row.method: row.multiplier for row in table.rows}
    assert (
        f"`lora(where='qv')`, have {half:.1f}, {means['lora'] - half:.1f} points less than those of all layers" in text
    )
    assert "of #par. ({:.2f} and {:.2f})".format(stored["lora(where='qv')"], stored["lora"]) in text
    near = [means[m] for m in ("prompt", "prompt(deep=False)", "prefix", "adaptformer(bottleneck=8)")]
    assert all(abs(mean - means["feature"]) <= 0.5 for mean in near)
