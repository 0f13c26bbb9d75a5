"""`python -m benchmark perf`: the measured ratios as a table, on the screen and as Parquet and Markdown."""

import dataclasses
import os
import sys
from argparse import Namespace

import pyarrow as pa
from rich.console import Console
from rich.table import Table

from benchmark.provenance import commit, machine, versions
from benchmark.records import write_bytes, write_table
from datasets.annotations import read_split
from datasets.catalogue import DOMAINS
from datasets.errors import BadInput

PARTS = ("batches", "step")


def run(args: Namespace) -> int:
    """Measure the parts asked for (all by default); each line is a ratio with its spread."""
    parts = args.only or list(PARTS)
    for part in parts:
        if part not in PARTS:
            raise BadInput(f"ONLY={part}: no part is called so; there are {', '.join(PARTS)}")
    from benchmark import perf  # torch from here on
    from benchmark.plan import standins

    found = []
    load = os.getloadavg()[0]
    if "batches" in parts:
        split = read_split(standins(args.cache), DOMAINS["aircraft"], "train")
        found.append(perf.batches(split, args.cache))
    if "step" in parts:
        found.append(perf.step())
    about = {"load": load, "machine": machine(), "versions": versions(), "commit": commit()}
    rows = [dataclasses.asdict(ratio) | about for ratio in found]
    head = ["part", "ours", "img/s", "against", "img/s", "ratio", "least", "largest", "rounds"]
    text = [
        [r.part, r.ours, f"{r.ours_img_s:,.0f}", r.other, f"{r.other_img_s:,.0f}"]
        + [f"{v:.2f}" for v in (r.ratio, r.least, r.largest)]
        + [str(r.rounds)]
        for r in found
    ]
    out = Table(header_style="bold")
    for name in head:
        out.add_column(name, justify="left" if name in ("part", "ours", "against") else "right")
    for line in text:
        out.add_row(*line)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
    console.print(out)
    console.print(f"{about['machine']}; load {load:.1f} before the first round", style="dim")
    markdown = "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *text]) + "\n"
    paths = [
        write_table(pa.Table.from_pylist(rows), args.results / "perf.parquet"),
        write_bytes(markdown.encode(), args.results / "perf.md"),
    ]
    console.print("Files: " + "  ".join(map(str, paths)))
    return 0
