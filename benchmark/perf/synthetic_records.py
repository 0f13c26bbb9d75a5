"""Makes very many synthetic records, and times all their tables: `python -m …perf.synthetic_records FOLDER`."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import pandas  # noqa: F401  # so that its import is not timed
import pyarrow as pa
import pyarrow.csv

from visual_decathlon.benchmark.records.folder import ResultsFolder
from visual_decathlon.benchmark.records.schema import SCHEMA, SCHEMA_VERSION
from visual_decathlon.benchmark.records.store import read_frame, write_table
from visual_decathlon.benchmark.report import files
from visual_decathlon.benchmark.runtime.memory import peak_resident
from visual_decathlon.benchmark.tables import table1
from visual_decathlon.datasets.catalogue import DOMAINS
from visual_decathlon.datasets.io import write_all

_SETTINGS = json.dumps({"network": "resnet26", "width": 0.25, "crop": 32})
_TEXTS = {
    "split": "val",
    "profile": "standin",
    "settings": _SETTINGS,
    "versions": '{"torch": "2"}',
    "created": "2026-01-01T00:00:00+00:00",
    "asked": None,
    "layout": "channels_last",
    "norm": "plain",
    "step": "eager",
    "presentation": json.dumps({"mean": [0.5] * 3, "std": [0.2] * 3, "flip": True, "crop": True}),
}


def write_many(folder: Path, n: int) -> Path:
    """Write `n` records with random accuracies to one file: ten domains, three seeds, groups of 6,000."""
    i = np.arange(n)
    columns = {}
    for field in SCHEMA:
        if field.type == pa.string():
            columns[field.name] = np.full(n, _TEXTS.get(field.name, field.name), object)
        elif pa.types.is_list(field.type):
            columns[field.name] = np.full(n, None)
        else:
            columns[field.name] = np.full(n, True if field.type == pa.bool_() else 5)
    names, correct = list(DOMAINS), np.random.default_rng(0).integers(5000, 9000, n)
    columns |= {
        "schema": np.full(n, SCHEMA_VERSION),
        "hash": [f"{j:016x}" for j in i],
        "domain": np.array(names, object)[i % len(names)],
        "k": np.array([DOMAINS[name].k for name in names])[i % len(names)],
        "source_cell": np.array([name == "imagenet12" for name in names])[i % len(names)],
        "seed": i // 10 % 3,
        "method": [f"m(v={j})" if j % 100 else "finetune" for j in i // 30],
        "data": [f"data {j}" for j in i // 6000],
        "limit": np.full(n, None),
        "correct": correct,
        "top1": correct / 100,
        "eval_images": np.full(n, 10_000),
        "multiplier": np.full(n, 2.0),
    }
    epoch = {"epoch": 1, "loss": 0.5, "train_top1": 50.0, "seconds": 1.0}
    columns["history"] = pa.array([[epoch] * 20], SCHEMA.field("history").type).take(pa.array(np.zeros(n, int)))
    table = pa.table([pa.array(columns[f.name], f.type) for f in SCHEMA], SCHEMA)
    return write_table(table, folder / "all.parquet")


def main(folder: Path) -> None:
    """Print the processor seconds of all tables of the records in `folder`/records, and the peak memory in MB."""
    start = time.process_time()
    write_all(files.contents(table1.tables(read_frame([ResultsFolder(folder).records])), folder / "out"))
    seconds = time.process_time() - start
    print(seconds, peak_resident() / 1024 / 1e3)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
