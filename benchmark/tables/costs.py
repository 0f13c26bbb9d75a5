"""The costs of a table's methods: seconds, steps and memory compared with fine-tune's, and storage for each domain.

All are over a method's target domains. The backbone's own runs are left out: their times are the pretraining's.
"""

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from visual_decathlon.benchmark.tables.grouping import codes
from visual_decathlon.benchmark.tables.score import BASELINE

PLACE = ("device", "machine", "workers", "threads")
"""Where a time was measured: times of two places are not comparable."""
DISTURBED_SHARE = 0.1
"""Of the wall-clock time: where processor time differs by more, other programs had the machine too."""
_MEASURED = ["step_ms", "step_ms_p10", "step_ms_p90", "train_img_s", "eval_img_s"]


def training_seconds(frame: pd.DataFrame) -> np.ndarray:
    """(n,) seconds of each run: training, and the preparation before it."""
    return frame["train_seconds"].to_numpy(float) + np.nan_to_num(frame["prepare_seconds"].to_numpy(float))


def times(frame: pd.DataFrame, group: np.ndarray, row: np.ndarray) -> dict[int, dict]:
    """By code of `row`: sums over the target domains, mean over seeds; ratios to fine-tune of the same `group`.

    A time is compared with fine-tune's on the same domain and machine, from runs that shared the device with as many
    others, of the same seed where there is one (it was measured in the same hour) and of all seeds otherwise; else
    T/T_FFT is None. On a CPU both are processor time, which other programs do not lengthen, where all records have it.
    """
    frame, group, row = _targets(frame, group, row)
    sums = _sums(frame, group, row)
    medians = frame[_MEASURED].groupby(row).median()
    seeds, count = frame["seed"].groupby(row).nunique(), np.bincount(row)[sums.index]
    figures = pd.DataFrame(
        {
            "seconds": sums["seconds"] / seeds,
            "processor s": sums["processor"] / seeds,
            "T/T_FFT": (sums["processor"] / sums["baseline processor"]).fillna(sums["seconds"] / sums["baseline"]),
            "step ms": medians["step_ms"],
            "p10": medians["step_ms_p10"],
            "p90": medians["step_ms_p90"],
            "train img/s": medians["train_img_s"],
            "eval img/s": medians["eval_img_s"],
            "peak MB": pd.Series(frame["peak_mb"].to_numpy(float)).groupby(row).max(),
            "peak/FFT": sums["peak ratio"] / count,
            "joules": sums["joules"] / seeds,
        }
    )
    runs = frame["runs_on_device"].astype("Int64").astype(object)
    listed = {name: _listed(frame[name], row) for name in PLACE} | {"runs_on_device": _listed(runs, row)}
    return {
        code: line | {name: texts.get(code, "") for name, texts in listed.items()} for code, line in _lines(figures)
    }


def _sums(frame: pd.DataFrame, group: np.ndarray, row: np.ndarray) -> pd.DataFrame:
    """By code of `row` the sums of times, of the baseline's times next to them, of memory ratios and of energy."""
    place = codes(group, frame["domain"], *(frame[name] for name in PLACE))
    seconds, joules = training_seconds(frame), frame["joules"].to_numpy(float)
    peak = frame["peak_mb"].to_numpy(float)
    processor = np.where(frame["device"] == "cpu", frame["cpu_seconds"].to_numpy(float), np.nan)
    is_baseline = (frame["method"] == BASELINE).to_numpy()
    columns = {
        "seconds": seconds,
        "baseline": _baseline_mean(frame, place, seconds, is_baseline),
        "processor": processor,
        "baseline processor": _baseline_mean(frame, place, processor, is_baseline),
        "peak ratio": peak / _mean_at(place, peak, is_baseline & ~np.isnan(peak)),
        "joules": np.where(joules > 0, joules, np.nan),
    }
    return pd.DataFrame(columns).groupby(row).sum(min_count=1, skipna=False)


def is_disturbed(line: dict) -> bool:
    """Whether wall clock and processor time of a row of `times` differ by more than a tenth: other programs ran too."""
    clock, processor = line["seconds"], line["processor s"]
    return None not in (clock, processor) and abs(processor - clock) > DISTURBED_SHARE * clock


def _baseline_mean(frame: pd.DataFrame, place: np.ndarray, values: np.ndarray, is_baseline: np.ndarray) -> np.ndarray:
    """(n,) fine-tune's mean at each record's place; NaN where there is none.

    Only runs that shared the device with as many others count, those of the same seed first. Records before schema 3
    lack that number: they serve for any number where no other record does.
    """
    known, unknown_share = is_baseline & ~np.isnan(values), frame["runs_on_device"].isna().to_numpy()
    shared = codes(place, frame["runs_on_device"])
    means = _mean_at(codes(shared, frame["seed"]), values, known)
    for scope, chosen in (
        (shared, known),
        (codes(place, frame["seed"]), known & unknown_share),
        (place, known & unknown_share),
    ):
        means = np.where(np.isnan(means), _mean_at(scope, values, chosen), means)
    any_share = _mean_at(place, values, known)
    return np.where(np.isnan(means) & unknown_share, any_share, means)


def _listed(values: pd.Series, row: np.ndarray) -> dict[int, str]:
    """By code of `row` its distinct values, joined by commas; nulls are left out."""
    place, names = pd.factorize(values)
    texts: dict[int, list[str]] = {}
    for pair in np.unique((row * len(names) + place)[place >= 0]).tolist():
        texts.setdefault(pair // len(names), []).append(str(names[pair % len(names)]))
    return {code: ", ".join(sorted(each)) for code, each in texts.items()}


def costs(frame: pd.DataFrame, row: np.ndarray) -> dict[int, dict]:
    """By code of `row`: storage for each domain (means over domains) and multiply-adds of one image (medians)."""
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


def _targets(frame: pd.DataFrame, *arrays: np.ndarray) -> tuple:
    """Frame and code arrays without the backbone's own runs."""
    kept = ~frame["source_cell"].to_numpy(bool)
    return frame[kept], *(code[kept] for code in arrays)


def _mean_at(place: np.ndarray, values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """(n,) the mean of the `chosen` values at each record's place, NaN where there are none."""
    size = place.max(initial=-1) + 1
    with np.errstate(invalid="ignore"):
        return (np.bincount(place[chosen], values[chosen], size) / np.bincount(place[chosen], minlength=size))[place]
