"""Makes the texts of records printable, once for all outputs: screen, files, figures and the leaderboard page."""

import pandas as pd

from visual_decathlon.datasets.text import printable


def printable_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with its texts printable; the same object where nothing changes.

    Records may come from anybody, and `data` is the name of a folder: both may hold control characters.
    """
    changed = {}
    for name in frame.columns:
        column = frame[name]
        if isinstance(column.dtype, pd.CategoricalDtype):
            texts = column.cat.categories
        elif column.dtype == object or pd.api.types.is_string_dtype(column):
            texts = column
        else:
            continue
        if escaped := {t: p for t in texts if isinstance(t, str) and (p := printable(t)) != t}:
            values = [escaped.get(t, t) if isinstance(t, str) else t for t in column.tolist()]
            changed[name] = pd.Series(values, index=column.index, dtype=object)
            if texts is not column:
                changed[name] = changed[name].astype("category")  # in sorted order, as `read_frame` gives them
    return frame.assign(**changed) if changed else frame
