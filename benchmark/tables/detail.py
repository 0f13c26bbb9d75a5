"""Each method on each domain: top-1, its deviation over seeds, and the interval that the finite sample alone gives."""

import numpy as np
import pandas as pd
import pyarrow as pa

from visual_decathlon.benchmark.tables.costs import training_seconds
from visual_decathlon.benchmark.tables.grouping import codes, first_positions
from visual_decathlon.benchmark.tables.intervals import wilson
from visual_decathlon.benchmark.tables.score import BASELINE
from visual_decathlon.benchmark.tables.table1 import Table, spreads
from visual_decathlon.datasets.catalogue import DOMAINS

_COLUMNS = (
    ("Model", pa.string(), "the method as tables print it"),
    ("method", pa.string(), "method string"),
    ("domain", pa.string(), "domain"),
    ("top1", pa.float64(), "top-1, mean over seeds, %"),
    ("sd", pa.float64(), "deviation over seeds; null for one seed and for the backbone's own cell"),
    ("low", pa.float64(), "lower end of the 95 % interval that the finite sample allows (Wilson 1927), %"),
    ("high", pa.float64(), "its upper end, %"),
    ("gap", pa.float64(), "top-1 less that of the group's fine-tune records, mean over seeds, points"),
    ("eval_images", pa.int64(), "images evaluated"),
    ("train_images", pa.int64(), "images trained on"),
    ("seconds", pa.float64(), "training and what is prepared for it, mean over seeds, s; null for the backbone's own"),
    ("floats", pa.int64(), "trained floats stored for the domain, without head and running statistics"),
    ("seeds", pa.string(), "the seeds, a space between them"),
    ("records", pa.string(), "hashes of the records, as the seeds"),
    ("data", pa.string(), "name of the data"),
    ("split", pa.string(), "split"),
    ("limit", pa.int32(), "images a split was cut to"),
    ("profile", pa.string(), "name of the profile"),
    ("settings", pa.string(), "the whole profile as JSON"),
    ("backbone_source", pa.string(), "'pretrained', or the given file's name and hash"),
    ("training", pa.int32(), "version of the training code"),
)
DETAIL = pa.schema([pa.field(name, kind, metadata={"comment": text}) for name, kind, text in _COLUMNS])


def detail(table: Table) -> pa.Table:
    """One row for each method and domain of a group, in the order of Table 1."""
    runs = _ordered_runs(table)
    cell = codes(runs["method"], runs["domain"])
    one = runs.iloc[first_positions(cell)]
    _, top1, deviation = spreads(cell, runs["top1"].to_numpy(float))
    source = one["source_cell"].to_numpy(bool)
    top1 = np.where(source, one["top1"], top1)
    low, high = wilson(top1 / 100, one["eval_images"].to_numpy(float))
    domain = one["domain"].astype(object).to_numpy()
    is_baseline = (one["method"] == BASELINE).to_numpy()
    baseline = dict(zip(domain[is_baseline], top1[is_baseline], strict=True))
    group = {name: value for name, value in table.group.items() if name in DETAIL.names}
    columns = {
        "Model": one["method"].astype(object).map({row.method: row.label for row in table.rows}),
        "method": one["method"].astype(object),
        "domain": domain,
        "top1": top1,
        "sd": np.where(source, np.nan, deviation),
        "low": 100 * low,
        "high": 100 * high,
        "gap": top1 - np.array([baseline.get(name, np.nan) for name in domain]),
        "eval_images": one["eval_images"],
        "train_images": one["train_images"],
        "seconds": np.where(source, np.nan, spreads(cell, training_seconds(runs))[1]),
        "floats": one["floats"],
        "seeds": _joined(cell, runs["seed"].tolist(), len(one)),
        "records": _joined(cell, runs["hash"].tolist(), len(one)),
        **{name: [value] * len(one) for name, value in group.items()},
    }
    return pa.table([pa.array(columns[f.name], f.type, from_pandas=True) for f in DETAIL], DETAIL)


def _ordered_runs(table: Table) -> pd.DataFrame:
    """The table's records by method, as in Table 1, then by domain."""
    runs = table.runs
    methods, domains = pd.Index([row.method for row in table.rows]), pd.Index([*DOMAINS, *table.own])
    order = (domains.get_indexer(runs["domain"].astype(object)), methods.get_indexer(runs["method"].astype(object)))
    return runs.iloc[np.lexsort(order)]


def _joined(cell: np.ndarray, values: list, count: int) -> list[str]:
    """The values of each of `count` cells, a space between them."""
    texts: list[list[str]] = [[] for _ in range(count)]
    for i, value in zip(cell.tolist(), values, strict=True):
        texts[i].append(str(value))
    return [" ".join(each) for each in texts]
