"""What the methods of a table cost: seconds, steps and memory beside fine-tune's, and what a domain stores.

Over a method's target domains; the backbone's own cell is left out, its times are the pretraining's.
"""

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from benchmark.grouping import codes
from benchmark.score import BASELINE

PLACE = ("device", "machine", "workers", "threads")
"""Where a time was taken: those of two places are not comparable."""


def spent(frame: pd.DataFrame) -> np.ndarray:
    """(n,) seconds of each run: training, and what was prepared for it."""
    return frame["train_seconds"].to_numpy(float) + np.nan_to_num(frame["prepare_seconds"].to_numpy(float))


def times(frame: pd.DataFrame, group: np.ndarray, row: np.ndarray) -> dict[int, dict]:
    """By code of `row`: sums over the target domains, mean over seeds; against fine-tune in the same `group`.

    A time is held against fine-tune's on the same domain and machine, as busy, of the same seed where there
    is one (it was measured in the same hour) and of all seeds otherwise; else T/T_FFT is None.
    """
    frame, group, row = _targets(frame, group, row)
    place, seconds = codes(group, frame["domain"], *(frame[name] for name in PLACE)), spent(frame)
    peak, joules = frame["peak_mb"].to_numpy(float), frame["joules"].to_numpy(float)
    fine = (frame["method"] == BASELINE).to_numpy()
    same = _mean_at(codes(place, frame["seed"]), seconds, fine)
    columns = {
        "seconds": seconds,
        "fine": np.where(np.isnan(same), _mean_at(place, seconds, fine), same),
        "lean": peak / _mean_at(place, peak, fine & ~np.isnan(peak)),
        "joules": np.where(joules > 0, joules, np.nan),
    }
    sums = pd.DataFrame(columns).groupby(row).sum(min_count=1, skipna=False)
    measured = ["step_ms", "step_ms_p10", "step_ms_p90", "train_img_s", "eval_img_s"]
    middle = frame[measured].groupby(row).median()
    seeds, count = frame["seed"].groupby(row).nunique(), np.bincount(row)[sums.index]
    figures = pd.DataFrame(
        {
            "seconds": sums["seconds"] / seeds,
            "T/T_FFT": sums["seconds"] / sums["fine"],
            "step ms": middle["step_ms"],
            "p10": middle["step_ms_p10"],
            "p90": middle["step_ms_p90"],
            "train img/s": middle["train_img_s"],
            "eval img/s": middle["eval_img_s"],
            "peak MB": pd.Series(peak).groupby(row).max(),
            "peak/FFT": sums["lean"] / count,
            "joules": sums["joules"] / seeds,
        }
    )
    listed = {name: _listed(frame[name], row) for name in PLACE}
    return {code: line | {name: listed[name][code] for name in PLACE} for code, line in _lines(figures)}


def _listed(values: pd.Series, row: np.ndarray) -> dict[int, str]:
    """By code of `row` its one value, or all that it has."""
    place, names = pd.factorize(values)
    found: dict[int, list[str]] = {}
    for pair in np.unique(row * len(names) + place).tolist():
        found.setdefault(pair // len(names), []).append(str(names[pair % len(names)]))
    return {code: ", ".join(sorted(texts)) for code, texts in found.items()}


def costs(frame: pd.DataFrame, row: np.ndarray) -> dict[int, dict]:
    """By code of `row`: what a domain stores (means over domains) and multiply-adds of one image (medians)."""
    frame, row = _targets(frame, row)
    means = frame[["floats", "bits", "head_floats", "bytes"]].astype(float).groupby(row).mean()
    macs = frame[["macs_train", "macs_inference"]].astype(float).groupby(row).median() / 1e6
    figures = {
        "floats": means["floats"],
        "bits": means["bits"],
        "head floats": means["head_floats"],
        "kB a domain": means["bytes"] / 1e3,
        "MMACs": macs["macs_train"],
        "merged MMACs": macs["macs_inference"],
    }
    return dict(_lines(pd.DataFrame(figures)))


def _lines(figures: pd.DataFrame) -> Iterator[tuple[int, dict[str, float | None]]]:
    """(code, {column: value, None for NaN}) of each row."""
    for code, values in zip(figures.index.tolist(), figures.to_numpy(float).tolist(), strict=True):
        yield code, {name: None if math.isnan(v) else v for name, v in zip(figures, values, strict=True)}


def _targets(frame: pd.DataFrame, *of: np.ndarray) -> tuple:
    """Frame and codes without the backbone's own cells."""
    kept = ~frame["source_cell"].to_numpy(bool)
    return frame[kept], *(code[kept] for code in of)


def _mean_at(place: np.ndarray, values: np.ndarray, of: np.ndarray) -> np.ndarray:
    """(n,) the mean of the values marked `of` at each record's place, NaN where there are none."""
    size = place.max(initial=-1) + 1
    with np.errstate(invalid="ignore"):
        return (np.bincount(place[of], values[of], size) / np.bincount(place[of], minlength=size))[place]
