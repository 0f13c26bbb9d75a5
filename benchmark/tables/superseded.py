"""Runs that newer ones with other data, recipe or backbone supersede: in a file of their own, with the reason."""

import re
from collections.abc import Iterable, Sequence

import pyarrow as pa

from visual_decathlon.benchmark.records.schema import SCHEMA
from visual_decathlon.benchmark.tables.grouping import GROUP, full_label
from visual_decathlon.benchmark.tables.table1 import Table

_MOST_NAMES = 3  # in a note; of more, their number alone

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
    """One row for each superseded run, in the order of the records."""
    runs = table.superseded
    labels = [full_label(*pair) for pair in zip(runs["label"], runs["method"], strict=True)]
    columns = {"Model": labels} | {name: runs[name] for name in SUPERSEDED.names[1:] if name in runs}
    empty = [None] * len(runs)
    return pa.table([pa.array(columns.get(f.name, empty), f.type, from_pandas=True) for f in SUPERSEDED], SUPERSEDED)


def note(table: Table) -> list[str]:
    """One sentence naming the superseded runs and the reasons, in a list; an empty list where there are none."""
    if not len(table.superseded):
        return []
    by_reason: dict[str, list[tuple[str, str, str]]] = {}
    columns = (table.superseded[name].tolist() for name in ("why", "method", "domain", "created"))
    for why, *run in zip(*columns, strict=True):
        by_reason.setdefault(why, []).append(run)
    parts = [_part(why, *zip(*runs, strict=True)) for why, runs in sorted(by_reason.items())]
    return [f"Superseded by newer runs, so in no row (superseded.csv has them): {'; '.join(parts)}."]


def _part(why: str, methods: Sequence[str], domains: Sequence[str], created: Sequence[str]) -> str:
    """`3 runs of lora on dtd, last made 2026-01-01 00:00 UTC (another rate)`."""
    count = f"{len(methods)} run" + "s" * (len(methods) > 1)
    last = max(created)[:16].replace("T", " ")
    return f"{count} of {_some(methods, 'methods')} on {_some(domains, 'domains')}, last made {last} UTC ({why})"


def _some(names: Iterable[str], kind: str) -> str:
    names = list(dict.fromkeys(re.sub(r"[^\w.-]", "", name.partition("(")[0]) for name in names))  # no markup
    return ", ".join(names) if len(names) <= _MOST_NAMES else f"{len(names)} {kind}"
