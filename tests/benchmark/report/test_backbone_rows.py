"""The table of results/README.md on the same methods over several backbones is that of the committed records."""

import json
from pathlib import Path

from visual_decathlon.benchmark.records.store import read_frame
from visual_decathlon.benchmark.tables.table1 import tables

RESULTS = Path(__file__).parents[3] / "results"
METHODS = ("feature", "bn_adapt", "houlsby", "side", "lora", "finetune")
HEAD = ["backbone", "ImNet", *(f"`{method}`" for method in METHODS), "seeds"]


def lines() -> list[str]:
    """A row for each backbone of the shipped records: accuracy of the pretraining, and means over the ten domains."""
    out = ["| " + " | ".join(HEAD) + " |", "| --- |" + " ---: |" * (len(HEAD) - 1)]
    for table in tables(read_frame([RESULTS / name for name in ("standin", "standin-vit", "backbones")])):
        rows = {row.method: row for row in table.rows}
        source = table.runs[table.runs["source_cell"]]["top1"].iloc[0]
        network = json.loads(table.group["settings"])["network"].partition("(")[0].rpartition("/")[2]
        seeds = {str(rows[method].seeds) for method in METHODS}
        cells = [network, f"{source:.1f}", *(f"{rows[method].mean.mean:.1f}" for method in METHODS)]
        out.append("| " + " | ".join([*cells, " to ".join(sorted(seeds))]) + " |")
    return out


def test_the_table_is_that_of_the_records():
    page = (RESULTS / "README.md").read_text(encoding="utf-8")
    block = page.split("<!-- backbones: begin -->")[1].split("<!-- backbones: end -->")[0]
    assert [line for line in block.splitlines() if line.startswith("|")] == lines()


def test_side_is_first_on_both_transformers():
    rows = {cells[1].strip(): [float(c) for c in cells[3:-2]] for cells in (line.split("|") for line in lines()[2:])}
    side, tuned = METHODS.index("side"), METHODS.index("finetune")
    vit, swin = rows["vit_tiny_patch16_224"], rows["swin_tiny_patch4_window7_224"]
    assert max(vit) == vit[side] and max(swin) == swin[side]
    assert all(row[side] < row[tuned] for name, row in rows.items() if row not in (vit, swin))
    page = " ".join((RESULTS / "README.md").read_text(encoding="utf-8").split())
    assert f"({vit[side]} and {swin[side]}, where fine-tuning has {vit[tuned]} and {swin[tuned]})" in page
