"""What the methods of a table cost: seconds, steps and memory beside fine-tune's, and what a domain stores.

Over a method's target domains; the backbone's own cell is left out, its times are the pretraining's.
"""

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from visual_decathlon.benchmark.tables.grouping import codes
from visual_decathlon.benchmark.tables.score import BASELINE

PLACE = ("device", "machine", "workers", "threads")
"""Where a time was taken: those of two places are not comparable."""
PARTED = 0.1
"""Of the clock's time: a processor that had less of it, or more, was another program's meanwhile, or had several."""


def spent(frame: pd.DataFrame) -> np.ndarray:
    """(n,) seconds of each run: training, and what was prepared for it."""
    return frame["train_seconds"].to_numpy(float) + np.nan_to_num(frame["prepare_seconds"].to_numpy(float))


def times(frame: pd.DataFrame, group: np.ndarray, row: np.ndarray) -> dict[int, dict]:
    """By code of `row`: sums over the target domains, mean over seeds; against fine-tune in the same `group`.

    A time is held against fine-tune's on the same domain and machine, of runs that shared the device alike, of the
    same seed where there is one (it was measured in the same hour) and of all seeds otherwise; else T/T_FFT is None.
    On a CPU both are processor time, which other programs do not lengthen, where all records have it.
    """
    frame, group, row = _targets(frame, group, row)
    place, seconds = codes(group, frame["domain"], *(frame[name] for name in PLACE)), spent(frame)
    peak, joules = frame["peak_mb"].to_numpy(float), frame["joules"].to_numpy(float)
    processor = np.where(frame["device"] == "cpu", frame["cpu_seconds"].to_numpy(float), np.nan)
    fine = (frame["method"] == BASELINE).to_numpy()
    columns = {
        "seconds": seconds,
        "fine": _alike(frame, place, seconds, fine),
        "processor": processor,
        "fine processor": _alike(frame, place, processor, fine),
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
            "processor s": sums["processor"] / seeds,
            "T/T_FFT": (sums["processor"] / sums["fine processor"]).fillna(sums["seconds"] / sums["fine"]),
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
    runs = frame["runs_on_device"].astype("Int64").astype(object)
    listed = {name: _listed(frame[name], row) for name in PLACE} | {"runs_on_device": _listed(runs, row)}
    return {code: line | {name: of.get(code, "") for name, of in listed.items()} for code, line in _lines(figures)}


def parted(line: dict) -> bool:
    """Whether clock and processor of a row of `times` part by more than a tenth: then its clock tells little."""
    clock, processor = line["seconds"], line["processor s"]
    return None not in (clock, processor) and abs(processor - clock) > PARTED * clock


def _alike(frame: pd.DataFrame, place: np.ndarray, values: np.ndarray, fine: np.ndarray) -> np.ndarray:
    """(n,) fine-tune's mean at each record's place, of runs that shared the device alike, of its seed first; or NaN.

    Records before schema 3 do not say how many shared it: those stand for any count, where no other does.
    """
    known, unsaid = fine & ~np.isnan(values), frame["runs_on_device"].isna().to_numpy()
    shared = codes(place, frame["runs_on_device"])
    found = _mean_at(codes(shared, frame["seed"]), values, known)
    for of, marked in ((shared, known), (codes(place, frame["seed"]), known & unsaid), (place, known & unsaid)):
        found = np.where(np.isnan(found), _mean_at(of, values, marked), found)
    any_count = _mean_at(place, values, known)
    return np.where(np.isnan(found) & unsaid, any_count, found)


def _listed(values: pd.Series, row: np.ndarray) -> dict[int, str]:
    """By code of `row` its one value, or all that it has; null is none."""
    place, names = pd.factorize(values)
    found: dict[int, list[str]] = {}
    for pair in np.unique((row * len(names) + place)[place >= 0]).tolist():
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
