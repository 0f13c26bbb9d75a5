"""The leaderboard page: tables and published rows as one HTML file that needs no network; a pure function of both."""

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from string import Template

import numpy as np

from visual_decathlon.benchmark.report import sheets
from visual_decathlon.benchmark.tables.intervals import wilson
from visual_decathlon.benchmark.tables.published import Published
from visual_decathlon.benchmark.tables.table1 import Row, Spread, Table
from visual_decathlon.datasets.catalogue import DOMAINS

SOURCES = Path(__file__).resolve().parent
SCRIPT = ("page_table.js", "page_detail.js", "page_plot.js")  # one function in three files, joined as they are

# Most runs of a row share these values: each combination is written once, and a run has its index.
_ORIGIN = ("device", "machine", "threads", "workers", "precision", "commit", "versions", "backbone", "structure", "lr")
_IMAGES = ("train_manifest", "eval_manifest", "train_images", "eval_images")
_RUN = ("domain", "seed", "top1", "hash", "created")


def page(tables: Sequence[Table], published: Iterable[Published]) -> str:
    """The page as text, the same for the same tables; its JSON is escaped so that no browser takes it for markup."""
    style, html = ((SOURCES / name).read_text() for name in ("page.css", "page.html"))
    script = "".join((SOURCES / name).read_text() for name in SCRIPT)
    policy = f"default-src 'none'; script-src {_source(script)}; style-src {_source(style)}; base-uri 'none'"
    policy += "; form-action 'none'"
    return Template(html).substitute(policy=policy, style=style, script=script, data=_json(_data(tables, published)))


def _source(text: str) -> str:
    """An inline script or style as a Content-Security-Policy names it: by its hash, so that no other one runs."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _json(data: dict) -> str:
    """Compact JSON without a character that could end the script element."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _data(tables: Sequence[Table], published: Iterable[Published]) -> dict:
    """All data of the page. The first group is the one shown at first: real before drawn data, whole before cut."""
    ordered = sorted(tables, key=lambda table: (table.group["limit"] is not None, table.group["standin"]))
    origins, images = {}, {}
    groups = [_group(table, ordered[0], origins, images) for table in ordered]
    families = {row.method.partition("(")[0]: row.family for table in tables for row in table.rows}
    return {
        "columns": [[domain.name, domain.column] for domain in DOMAINS.values()],
        "groups": groups,
        "origins": [dict(zip((*_ORIGIN, "command"), origin)) for origin in origins],
        "images": [list(image) for image in images],
        "published": [_published(row, families) for row in published],
    }


def _group(table: Table, first: Table, origins: dict, images: dict) -> dict:
    """A group's rows and texts; new combinations are added to `origins` and `images`, each with its index."""
    group, names = table.group, [*DOMAINS, *table.own]
    runs, samples = _runs(table, origins, images), _samples(table)
    marks = [_marks(line) for line in sheets.table1(table).marks]
    return {
        "heading": sheets.heading(table),
        "apart": sheets.differs(table, first),
        "notes": sheets.notes(table),
        "standin": bool(group["standin"]),
        "comparable": table.published_baseline,
        **{name: group[name] for name in ("data", "profile", "split")},
        "backbone": sheets.backbone(group),
        **{name: group[name] for name in ("data_id", "limit")},
        "settings": group["settings"],
        "own": table.own,
        "images": sheets.images_line(table)[2 : 2 + len(names)],
        "rows": [
            _row(row, names) | {"sample": samples[row.method], "marks": mark, "runs": runs[row.method]}
            for row, mark in zip(table.rows, marks, strict=True)
        ],
    }


def _row(row: Row, names: Sequence[str]) -> dict:
    return {
        "label": row.label,
        "method": row.method,
        "family": row.family,
        "fidelity": row.fidelity,
        "par": round(row.multiplier, 4),
        "heads": round(row.multiplier_heads, 4),
        "ten": row.official_count,
        "seeds": row.seeds,
        "mean": _spread(row.mean),
        "S": _spread(row.S),
        "cells": [_spread(row.domains.get(name)) for name in names],
    }


def _spread(spread: Spread | None) -> list[float | None] | None:
    if spread is None:
        return None
    return [round(spread.mean, 4), None if spread.deviation is None else round(spread.deviation, 4)]


def _marks(line: list[str]) -> str:
    """b(est), s(econd) or - for each domain, mean and S; of the whole group, independent of the page's filter."""
    return "".join((mark or "-")[0] for mark in line[2:])


def _samples(table: Table) -> dict[str, dict[str, list[float]]]:
    """By method and domain: the ends of the 95 % interval that the finite sample gives, %."""
    one = table.runs.drop_duplicates(["method", "domain"])
    images = dict(zip(zip(one["method"], one["domain"]), one["eval_images"].tolist(), strict=True))
    cells = [(row.method, name, spread.mean) for row in table.rows for name, spread in row.domains.items()]
    ends = wilson(np.array([top1 for *_, top1 in cells]) / 100, np.array([images[cell[:2]] for cell in cells]))
    intervals: dict[str, dict[str, list[float]]] = {row.method: {} for row in table.rows}
    for (method, name, _), low, high in zip(cells, *(np.round(100 * end, 2).tolist() for end in ends), strict=True):
        intervals[method][name] = [low, high]
    return intervals


def _runs(table: Table, origins: dict, images: dict) -> dict[str, list[list]]:
    """By method: [domain, seed, top-1, hash, created, index of its origin, index of its images] of every run."""
    columns = lambda names: zip(*(_plain(table.runs[name].tolist()) for name in names))
    runs: dict[str, list[list]] = {row.method: [] for row in table.rows}
    for (method, command), run, origin, image in zip(
        columns(("method", "command")), columns(_RUN), columns(_ORIGIN), columns(_IMAGES)
    ):
        first = origins.setdefault((*origin, command), len(origins))
        second = images.setdefault(image, len(images))
        domain, seed, top1, *rest = run
        runs[method].append([domain, seed, round(top1, 4), *rest, first, second])
    return runs


def _plain(values: list) -> list:
    """The values with a frame's nulls (NaN) as None, which JSON has."""
    return [None if value != value else value for value in values]


def _published(row: Published, families: dict[str, str]) -> dict:
    return {
        "label": row.label,
        "family": families.get(row.method, ""),
        "par": row.multiplier,
        "shown": row.params,
        "mean": row.mean,
        "S": row.S,
        "source": f"{row.source} ({row.evidence})",
    }
