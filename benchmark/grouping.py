"""Which records belong together: comparable ones, the newest of a cell, and numbers for such groups."""

import numpy as np
import pandas as pd

GROUP = ("data", "data_id", "standin", "split", "limit", "profile", "settings", "backbone_source", "training")
"""Records share a table where these agree."""


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


def newest(frame: pd.DataFrame) -> pd.DataFrame:
    """Of several records of one cell (a default or an image was changed) the newest, in the frame's order."""
    cell = codes(*(frame[name] for name in (*GROUP, "method", "domain", "seed")))
    order = np.argsort(pd.factorize(frame["created"], sort=True)[0], kind="stable")
    kept = order[~pd.Series(cell[order]).duplicated(keep="last").to_numpy()]
    return frame.iloc[np.sort(kept)].reset_index(drop=True)


def named(label: str, method: str) -> str:
    """A method's label, on one line, with the options of its string."""
    return " ".join(label.split()) + "".join(method.partition("(")[1:])
