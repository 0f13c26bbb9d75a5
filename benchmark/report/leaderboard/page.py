"""The leaderboard page: tables and published rows as one HTML file that needs no network, a pure function of both."""

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

# What is the same for most runs of a row is written once and named by its place in the list.
_ORIGIN = ("device", "machine", "threads", "workers", "precision", "commit", "versions", "backbone", "structure", "lr")
_IMAGES = ("train_manifest", "eval_manifest", "train_images", "eval_images")
_RUN = ("domain", "seed", "top1", "hash", "created")


def page(tables: Sequence[Table], published: Iterable[Published]) -> str:
    """The page as text, the same for the same tables. Data in it are JSON that no browser takes for markup."""
    style, script, html = ((SOURCES / name).read_text() for name in ("page.css", "page.js", "page.html"))
    policy = f"default-src 'none'; script-src {_source(script)}; style-src {_source(style)}; base-uri 'none'"
    policy += "; form-action 'none'"
    return Template(html).substitute(policy=policy, style=style, script=script, data=_json(_data(tables, published)))


def _source(text: str) -> str:
    """How a Content-Security-Policy names an inline script or style: by its hash, so that no other runs."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _json(data: dict) -> str:
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _data(tables: Sequence[Table], published: Iterable[Published]) -> dict:
    # Real before drawn, whole before cut: the first is the one that is shown at first.
    ordered = sorted(tables, key=lambda table: (table.group["limit"] is not None, table.group["standin"]))
    origins, images = {}, {}
    groups = [_group(table, ordered[0], origins, images) for table in ordered]
    families = {row.method.partition("(")[0]: row.family for table in tables for row in table.rows}
    return {
        "columns": [[domain.name, domain.column] for domain in DOMAINS.values()],
        "groups": groups,
        "origins": [dict(zip((*_ORIGIN, "command"), origin)) for origin in origins],
        "images": [list(shown) for shown in images],
        "published": [_published(row, families) for row in published],
    }


def _group(table: Table, first: Table, origins: dict, images: dict) -> dict:
    group, names = table.group, [*DOMAINS, *table.own]
    runs, samples = _runs(table, origins, images), _samples(table)
    marks = [_marks(line) for line in sheets.table1(table).marks]
    return {
        "heading": sheets.heading(table),
        "apart": sheets.differs(table, first),
        "notes": sheets.notes(table),
        "standin": bool(group["standin"]),
        "comparable": sheets.apart(table) == sheets.BESIDE,
        **{name: group[name] for name in ("data", "profile", "split")},
        "cut": group["limit"] is not None,
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
    """b(est), s(econd) or - for each domain, mean and S, of the whole group, whatever a filter leaves of it."""
    return "".join((mark or "-")[0] for mark in line[2:])


def _samples(table: Table) -> dict[str, dict[str, list[float]]]:
    """By method and domain: the ends of the interval that the finite sample allows."""
    one = table.runs.drop_duplicates(["method", "domain"])
    images = dict(zip(zip(one["method"], one["domain"]), one["eval_images"].tolist(), strict=True))
    cells = [(row.method, name, spread.mean) for row in table.rows for name, spread in row.domains.items()]
    ends = wilson(np.array([top1 for *_, top1 in cells]) / 100, np.array([images[cell[:2]] for cell in cells]))
    found: dict[str, dict[str, list[float]]] = {row.method: {} for row in table.rows}
    for (method, name, _), low, high in zip(cells, *(np.round(100 * end, 2).tolist() for end in ends), strict=True):
        found[method][name] = [low, high]
    return found


def _runs(table: Table, origins: dict, images: dict) -> dict[str, list[list]]:
    """By method: [domain, seed, top-1, hash, created, number of its origin, number of its images] of every run."""
    columns = lambda names: zip(*(_plain(table.runs[name].tolist()) for name in names))
    found: dict[str, list[list]] = {row.method: [] for row in table.rows}
    for (method, command), run, origin, shown in zip(
        columns(("method", "command")), columns(_RUN), columns(_ORIGIN), columns(_IMAGES)
    ):
        first = origins.setdefault((*origin, command), len(origins))
        second = images.setdefault(shown, len(images))
        domain, seed, top1, *rest = run
        found[method].append([domain, seed, round(top1, 4), *rest, first, second])
    return found


def _plain(values: list) -> list:
    """A frame's nulls (NaN) as None, which JSON has."""
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
