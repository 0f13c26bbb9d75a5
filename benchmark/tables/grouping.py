"""Groups records: those that are comparable, those that are current, and integer codes for such groups."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from visual_decathlon.benchmark.config.specs import preprocessing_json
from visual_decathlon.datasets.catalogue import DOMAINS

GROUP = ("data", "data_id", "standin", "split", "limit", "profile", "settings", "backbone_source", "training")
"""Records share a table where these agree."""

# Of the records of one table, those count that agree with the newest in the data, backbone and recipe they were made
# from. Null, as in records of older schemas, agrees with everything. (field, the reason given for those that differ)
DATA = (
    ("train_manifest", "other images or labels in training"),
    ("eval_manifest", "other images or labels in the evaluation"),
    ("classes", "another list of classes"),
    ("presentation", "other colours, flips or crops"),
)
"""Compared with the newest record of the same domain and any method."""

PRETRAINING = (("backbone_manifest", "a backbone pretrained on other images or labels"),)
"""Compared with the newest record of the table."""

RECIPE = (
    ("method_full", "other options"),
    ("lr", "another rate"),
    ("structure", "a backbone of another structure"),
    ("backbone", "another backbone"),
    ("together", "a joint training over other domains"),
    ("together_manifest", "a joint training over other images or labels"),
)
"""Compared with the newest record of the same method: a row is one recipe on all of its domains."""


def codes(*columns) -> np.ndarray:
    """(n,) integers from 0 in order of appearance, equal where rows agree in every column; null counts as a value."""
    out = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        new, values = pd.factorize(column, use_na_sentinel=False)
        out = pd.factorize(out * len(values) + new)[0]
    return out


def first_positions(code: np.ndarray) -> np.ndarray:
    """Position of the first record of each code."""
    return np.unique(code, return_index=True)[1]


def group_keys(frame: pd.DataFrame) -> list[tuple]:
    """The values of GROUP of each record, null as None."""
    integers = {"limit", "training"}  # NaN has made them floats
    plain = lambda name, value: None if pd.isna(value) else int(value) if name in integers else value
    columns = [[plain(name, value) for value in frame[name].tolist()] for name in GROUP]
    return list(zip(*columns, strict=True))


def current(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(the records that count, the superseded ones with the reason in a column `why`), each in the frame's order.

    Superseded are records of other data, another backbone or another recipe than the newest of their kind; and, of
    several records that differ in nothing recorded, all but the newest. The newest was made or requested last.
    """
    why = np.full(len(frame), "", object)
    if len(frame):
        group = codes(*(frame[name] for name in GROUP))
        age = np.empty(len(frame), np.int64)
        age[np.argsort(_when(frame), kind="stable")] = np.arange(len(frame))
        filled = frame.assign(**_filled(frame))
        for scope, fields in (
            (codes(group, frame["domain"]), DATA),
            (group, PRETRAINING),
            (codes(group, frame["method"]), RECIPE),
        ):
            _mark(why, filled, scope, age, fields)
        cell = codes(group, frame["method"], frame["domain"], frame["seed"])
        left = np.where(why == "", age, -1)
        why[(left < _largest(cell, left)[cell]) & (why == "")] = "an older run of the same"
    kept = why == ""
    return frame[kept].reset_index(drop=True), frame[~kept].assign(why=why[~kept]).reset_index(drop=True)


def _mark(
    why: np.ndarray, frame: pd.DataFrame, scope: np.ndarray, age: np.ndarray, fields: Iterable[tuple[str, str]]
) -> None:
    """Write into `why`, where it is empty, the reason why a record differs from the newest of its scope."""
    order = np.argsort(age)
    for name, reason in fields:
        if name not in frame:
            continue
        value = pd.factorize(frame[name])[0]  # -1: null
        known = order[value[order] >= 0]
        newest = np.full(scope.max() + 1, -1, np.int64)
        newest[scope[known]] = value[known]  # the last assignment wins: the newest
        why[(value >= 0) & (value != newest[scope]) & (why == "")] = reason


def _largest(code: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The largest value of each code, -1 where there is none above."""
    out = np.full(code.max() + 1, -1, np.int64)
    np.maximum.at(out, code, values)
    return out


def _when(frame: pd.DataFrame) -> np.ndarray:
    """(n,) ranks in order of time: when a record was made or, if later, requested again."""
    made = frame["created"].astype(object)
    if "asked" in frame and frame["asked"].notna().any():
        asked = frame["asked"].astype(object).fillna("")
        made = made.where(made >= asked, asked)
    return pd.factorize(made, sort=True)[0]


def _filled(frame: pd.DataFrame) -> dict[str, Sequence]:
    """Columns in which values that older records lack are taken from other records; lists become text."""
    columns: dict[str, Sequence] = {}
    if "together" in frame and frame["together"].notna().any():
        columns["together"] = [None if names is None else " ".join(names) for names in frame["together"]]
    if "presentation" in frame and (null := frame["presentation"].isna()).any():
        official = {name: preprocessing_json(domain) for name, domain in DOMAINS.items()}
        known = frame["domain"].astype(object).map(official).where(frame["backbone_source"] == "pretrained")
        columns["presentation"] = frame["presentation"].astype(object).where(~null, known)
    if "backbone_manifest" in frame and (null := frame["backbone_manifest"].isna()).any():
        # The images that the backbone's own run was trained on are those of the pretraining.
        own = frame["train_manifest"].astype(object).where(frame["source_cell"].astype(bool))
        manifest = frame["backbone_manifest"].astype(object).where(~null, own)
        known = dict(zip(frame["backbone"][manifest.notna()], manifest[manifest.notna()], strict=True))
        by_backbone = frame["backbone"].astype(object).map(known).where(frame["backbone_source"] == "pretrained")
        columns["backbone_manifest"] = manifest.where(manifest.notna(), by_backbone)
    return columns


def agreeing(some: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    """The records of `some` with the data and the pretraining of `others`, the current records of one table."""
    needed = {name for name, _ in (*DATA, *PRETRAINING)} | {"domain", "backbone_source", "backbone", "source_cell"}
    both = pd.concat(
        [frame[[n for n in frame if n in needed]].astype(object) for frame in (some, others)], ignore_index=True
    )
    both = both.assign(**_filled(both))
    why, age = np.full(len(both), "", object), np.arange(len(both))  # `others` come last: they are the newest
    _mark(why, both, codes(both["domain"]), age, DATA)
    _mark(why, both, np.zeros(len(both), np.int64), age, PRETRAINING)
    return some[why[: len(some)] == ""]


def full_label(label: str, method: str) -> str:
    """A method's label on one line, followed by the options of its string."""
    return " ".join(label.split()) + "".join(method.partition("(")[1:])
