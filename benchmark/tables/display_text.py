"""Records' texts as tables show them: on a screen, in files, figures and the page."""

import pandas as pd

from visual_decathlon.datasets.text import printable


def shown(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with its texts printable; itself where they are. Records may be anybody's, and `data` is a folder."""
    changed = {}
    for name in frame.columns:
        column = frame[name]
        if isinstance(column.dtype, pd.CategoricalDtype):
            texts = column.cat.categories
        elif column.dtype == object or pd.api.types.is_string_dtype(column):
            texts = column
        else:
            continue
        if odd := {t: p for t in texts if isinstance(t, str) and (p := printable(t)) != t}:
            plain = [odd.get(t, t) if isinstance(t, str) else t for t in column.tolist()]
            changed[name] = pd.Series(plain, index=column.index, dtype=object)
            if texts is not column:
                changed[name] = changed[name].astype("category")  # in their own order, as `read_frame` gives them
    return frame.assign(**changed) if changed else frame
