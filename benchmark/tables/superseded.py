"""Runs that newer ones of other data, recipe or backbone supersede: apart from the tables, each with its reason."""

import re
from collections.abc import Iterable, Sequence

import pyarrow as pa

from visual_decathlon.benchmark.records.schema import SCHEMA
from visual_decathlon.benchmark.tables.grouping import GROUP, named
from visual_decathlon.benchmark.tables.table1 import Table

_MOST = 3  # names in a note; of more, how many

_RUN = ("method", "domain", "seed", "top1", "eval_images", "train_images", "lr", "hash", "created")
_MADE_OF = ("train_manifest", "eval_manifest", "classes", "presentation", "backbone", "backbone_manifest")
SUPERSEDED = pa.schema(
    [
        pa.field("Model", pa.string(), metadata={"comment": "the method as tables print it"}),
        pa.field("why", pa.string(), metadata={"comment": "what sets the run apart from the newest of its kind"}),
        *(SCHEMA.field(name) for name in (*_RUN, *_MADE_OF, *GROUP)),
    ]
)


def superseded(table: Table) -> pa.Table:
    """One row a superseded run, in the order of the records."""
    runs = table.superseded
    labels = [named(*pair) for pair in zip(runs["label"], runs["method"], strict=True)]
    columns = {"Model": labels} | {name: runs[name] for name in SUPERSEDED.names[1:] if name in runs}
    empty = [None] * len(runs)
    return pa.table([pa.array(columns.get(f.name, empty), f.type, from_pandas=True) for f in SUPERSEDED], SUPERSEDED)


def note(table: Table) -> list[str]:
    """A sentence that says which runs are in no row, and why; none where there are none."""
    if not len(table.superseded):
        return []
    found: dict[str, list[tuple[str, str, str]]] = {}
    columns = (table.superseded[name].tolist() for name in ("why", "method", "domain", "created"))
    for why, *run in zip(*columns, strict=True):
        found.setdefault(why, []).append(run)
    parts = [_part(why, *zip(*runs, strict=True)) for why, runs in sorted(found.items())]
    return [f"Superseded by newer runs, so in no row (superseded.csv has them): {'; '.join(parts)}."]


def _part(why: str, methods: Sequence[str], domains: Sequence[str], created: Sequence[str]) -> str:
    many = f"{len(methods)} run" + "s" * (len(methods) > 1)
    last = max(created)[:16].replace("T", " ")
    return f"{many} of {_some(methods, 'methods')} on {_some(domains, 'domains')}, last made {last} UTC ({why})"


def _some(names: Iterable[str], what: str) -> str:
    names = list(dict.fromkeys(re.sub(r"[^\w.-]", "", name.partition("(")[0]) for name in names))  # no markup
    return ", ".join(names) if len(names) <= _MOST else f"{len(names)} {what}"
