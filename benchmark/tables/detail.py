"""Each method on each domain: seeds, deviation over them, and beside it what the finite sample alone allows."""

import numpy as np
import pandas as pd
import pyarrow as pa

from visual_decathlon.benchmark.tables.costs import spent
from visual_decathlon.benchmark.tables.grouping import codes, first
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


def wilson(share: np.ndarray, n: np.ndarray, z: float = 1.959964) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the 95 % interval of a share that was found in n trials (Wilson 1927)."""
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return middle - half, middle + half


def detail(table: Table) -> pa.Table:
    """One row for each method and domain of a group, in the order of Table 1."""
    runs = table.runs
    methods, domains = pd.Index([row.method for row in table.rows]), pd.Index([*DOMAINS, *table.own])
    order = (domains.get_indexer(runs["domain"].astype(object)), methods.get_indexer(runs["method"].astype(object)))
    runs = runs.iloc[np.lexsort(order)]
    cell = codes(runs["method"], runs["domain"])
    one = runs.iloc[first(cell)]
    _, top1, deviation = spreads(cell, runs["top1"].to_numpy(float))
    source = one["source_cell"].to_numpy(bool)
    top1 = np.where(source, one["top1"], top1)
    n = one["eval_images"].to_numpy(float)
    low, high = wilson(top1 / 100, n)
    domain = one["domain"].astype(object).to_numpy()
    fine = dict(zip(domain[b := (one["method"] == BASELINE).to_numpy()], top1[b], strict=True))
    seeds, hashes = ([[] for _ in range(len(one))] for _ in range(2))
    for i, seed, text in zip(cell.tolist(), runs["seed"].tolist(), runs["hash"].tolist(), strict=True):
        seeds[i].append(str(seed))
        hashes[i].append(text)
    group = {name: value for name, value in table.group.items() if name in DETAIL.names}
    columns = {
        "Model": one["method"].astype(object).map({row.method: row.label for row in table.rows}),
        "method": one["method"].astype(object),
        "domain": domain,
        "top1": top1,
        "sd": np.where(source, np.nan, deviation),
        "low": 100 * low,
        "high": 100 * high,
        "gap": top1 - np.array([fine.get(name, np.nan) for name in domain]),
        "eval_images": one["eval_images"],
        "train_images": one["train_images"],
        "seconds": np.where(source, np.nan, spreads(cell, spent(runs))[1]),
        "floats": one["floats"],
        "seeds": map(" ".join, seeds),
        "records": map(" ".join, hashes),
        **{name: [value] * len(one) for name, value in group.items()},
    }
    return pa.table([pa.array(columns[f.name], f.type, from_pandas=True) for f in DETAIL], DETAIL)
