"""Which records belong together: comparable ones, those that are current, and numbers for such groups."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from visual_decathlon.benchmark.config.specs import preprocessing_json
from visual_decathlon.datasets.catalogue import DOMAINS

GROUP = ("data", "data_id", "standin", "split", "limit", "profile", "settings", "backbone_source", "training")
"""Records share a table where these agree."""

# Of records of one table those count that agree with the newest in what they were made from; null, as in records of
# older schemas, agrees with all. (field, what is said of those that differ)
DATA = (
    ("train_manifest", "other images or labels in training"),
    ("eval_manifest", "other images or labels in the evaluation"),
    ("classes", "another list of classes"),
    ("presentation", "other colours, flips or crops"),
)
"""With the newest on their domain, of whatever method."""

PRETRAINING = (("backbone_manifest", "a backbone pretrained on other images or labels"),)
"""With the newest of the table."""

RECIPE = (
    ("method_full", "other options"),
    ("lr", "another rate"),
    ("structure", "a backbone of another structure"),
    ("backbone", "another backbone"),
    ("together", "a joint training over other domains"),
    ("together_manifest", "a joint training over other images or labels"),
)
"""With the newest of their method: a row is one recipe, on all of its domains."""


def codes(*columns) -> np.ndarray:
    """(n,) numbers from 0 up, alike where rows agree in every column, null being a value; in order of appearance."""
    out = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        new, values = pd.factorize(column, use_na_sentinel=False)
        out = pd.factorize(out * len(values) + new)[0]
    return out


def first(code: np.ndarray) -> np.ndarray:
    """Position of the first record of each code."""
    return np.unique(code, return_index=True)[1]


def keys(frame: pd.DataFrame) -> list[tuple]:
    """The values of GROUP of each record, null as None."""
    whole = {"limit", "training"}  # which NaN has made floats
    columns = [[None if pd.isna(v) else int(v) if name in whole else v for v in frame[name].tolist()] for name in GROUP]
    return list(zip(*columns, strict=True))


def current(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(the records that count, those that newer ones supersede with `why` beside them), each in the frame's order.

    Superseded are records of other data, another backbone or recipe than the newest of their kind, and of several
    that differ in nothing that is recorded all but the newest. Newest is what was made or asked for last.
    """
    why = np.full(len(frame), "", object)
    if len(frame):
        group = codes(*(frame[name] for name in GROUP))
        age = np.empty(len(frame), np.int64)
        age[np.argsort(_when(frame), kind="stable")] = np.arange(len(frame))
        facts = frame.assign(**_filled(frame))
        for scope, fields in (
            (codes(group, frame["domain"]), DATA),
            (group, PRETRAINING),
            (codes(group, frame["method"]), RECIPE),
        ):
            _mark(why, facts, scope, age, fields)
        cell = codes(group, frame["method"], frame["domain"], frame["seed"])
        left = np.where(why == "", age, -1)
        why[(left < _largest(cell, left)[cell]) & (why == "")] = "an older run of the same"
    kept = why == ""
    return frame[kept].reset_index(drop=True), frame[~kept].assign(why=why[~kept]).reset_index(drop=True)


def _mark(
    why: np.ndarray, facts: pd.DataFrame, scope: np.ndarray, age: np.ndarray, fields: Iterable[tuple[str, str]]
) -> None:
    """Write into `why`, where it is empty, in which field a record differs from the newest of its scope."""
    order = np.argsort(age)
    for name, what in fields:
        if name not in facts:
            continue
        value = pd.factorize(facts[name])[0]  # -1: null
        told = order[value[order] >= 0]
        newest = np.full(scope.max() + 1, -1, np.int64)
        newest[scope[told]] = value[told]  # the last one stays
        why[(value >= 0) & (value != newest[scope]) & (why == "")] = what


def _largest(code: np.ndarray, values: np.ndarray) -> np.ndarray:
    out = np.full(code.max() + 1, -1, np.int64)
    np.maximum.at(out, code, values)
    return out


def _when(frame: pd.DataFrame) -> np.ndarray:
    """(n,) numbers in the order of time: see `records.when`."""
    made = frame["created"].astype(object)
    if "asked" in frame and frame["asked"].notna().any():
        asked = frame["asked"].astype(object).fillna("")
        made = made.where(made >= asked, asked)
    return pd.factorize(made, sort=True)[0]


def _filled(frame: pd.DataFrame) -> dict[str, Sequence]:
    """Columns with what older records do not say and others tell; lists as text."""
    found: dict[str, Sequence] = {}
    if "together" in frame and frame["together"].notna().any():
        found["together"] = [None if names is None else " ".join(names) for names in frame["together"]]
    if "presentation" in frame and (null := frame["presentation"].isna()).any():
        official = {name: preprocessing_json(domain) for name, domain in DOMAINS.items()}
        known = frame["domain"].astype(object).map(official).where(frame["backbone_source"] == "pretrained")
        found["presentation"] = frame["presentation"].astype(object).where(~null, known)
    if "backbone_manifest" in frame and (null := frame["backbone_manifest"].isna()).any():
        # The images that the network's own cell was trained on are those of the pretraining.
        own = frame["train_manifest"].astype(object).where(frame["source_cell"].astype(bool))
        manifest = frame["backbone_manifest"].astype(object).where(~null, own)
        told = dict(zip(frame["backbone"][manifest.notna()], manifest[manifest.notna()], strict=True))
        by_backbone = frame["backbone"].astype(object).map(told).where(frame["backbone_source"] == "pretrained")
        found["backbone_manifest"] = manifest.where(manifest.notna(), by_backbone)
    return found


def agreeing(some: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    """Those of `some` that are of the data and the pretraining of `others`, the current records of one table."""
    told = {name for name, _ in (*DATA, *PRETRAINING)} | {"domain", "backbone_source", "backbone", "source_cell"}
    both = pd.concat(
        [frame[[n for n in frame if n in told]].astype(object) for frame in (some, others)], ignore_index=True
    )
    both = both.assign(**_filled(both))
    why, age = np.full(len(both), "", object), np.arange(len(both))  # the others are what is current
    _mark(why, both, codes(both["domain"]), age, DATA)
    _mark(why, both, np.zeros(len(both), np.int64), age, PRETRAINING)
    return some[why[: len(some)] == ""]


def named(label: str, method: str) -> str:
    """A method's label, on one line, with the options of its string."""
    return " ".join(label.split()) + "".join(method.partition("(")[1:])
