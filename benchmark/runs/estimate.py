"""Estimates the time, memory and disk of jobs from the records of runs like theirs."""

import heapq
import json
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from visual_decathlon.benchmark.config.profiles import Profile
from visual_decathlon.benchmark.config.specs import network_settings, recorded_profile
from visual_decathlon.benchmark.records.provenance import machine
from visual_decathlon.benchmark.runs.job import JointTrainingJob, PretrainingJob, RunJob
from visual_decathlon.benchmark.runtime import devices
from visual_decathlon.benchmark.runtime.devices import on_cpu
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.registry import select


class Estimates:
    """What runs on a device cost, as far as records of the same network on such a device tell.

    Those of this machine count where there are any, else those of other machines: `of_other_machines`. On a CPU the
    time is processor time, which other programs do not lengthen.
    """

    def __init__(self, frame: pd.DataFrame, profile: Profile, device: str):
        of = {text: recorded_profile(text) for text in frame["settings"].unique()}
        wanted = _network(profile)
        like = frame[np.array([_network(of[text]) == wanted for text in frame["settings"]], bool)]
        like = like[_same_device(like["device"], device)]
        here = like[like["machine"] == machine()]
        self.of_other_machines = here.empty and not like.empty
        like = like if here.empty else here
        own = like["source_cell"].to_numpy(bool)
        epochs = [
            (of[text].pretrain if source else of[text].adapt).epochs
            for text, source in zip(like["settings"], own, strict=True)
        ]
        seconds = like["train_seconds"]
        if on_cpu(device):
            seconds = like["cpu_seconds"].fillna(seconds)
        seconds = seconds.to_numpy(float) + np.nan_to_num(like["prepare_seconds"].to_numpy(float))
        widths = {method: _width(method) for method in like["method_full"].unique()}
        shown = like["train_images"].to_numpy(float) * np.array(epochs, float)
        shown *= np.array([widths[method] ** 2 for method in like["method_full"]], float)  # as estimated_cost counts
        like = like.assign(rate=seconds / shown)
        self._like, self._pretraining = like[~own], like[own]

    def seconds(self, job: PretrainingJob | JointTrainingJob | RunJob) -> float | None:
        """The time of a job; None where no record is like it."""
        if isinstance(job, PretrainingJob):
            rate = _median(self._pretraining["rate"])
            rate = rate if rate is not None else _median(self._of("finetune")["rate"])
            return None if rate is None else rate * job.estimated_cost
        like = self._of(job.run.method if isinstance(job, RunJob) else job.joint.method)
        if (rate := _median(like["rate"])) is None:
            return None
        evaluation = 0.0
        if isinstance(job, RunJob):
            speed = _median(like["eval_img_s"])
            evaluation = job.run.evaluate.count / speed if speed else 0.0
        return rate * job.estimated_cost + evaluation

    def _of(self, method: str) -> pd.DataFrame:
        """Records of the method, else of the same method with other options, else of all methods."""
        recorded = self._like["method_full"].tolist()
        for same in (lambda other: other == method, lambda other: other.partition("(")[0] == method.partition("(")[0]):
            if any(like := [same(other) for other in recorded]):
                return self._like[like]
        return self._like

    def memory_mb(self) -> float | None:
        """The largest memory of a process; None where it is unknown."""
        peak = self._like["peak_mb"].max()
        return None if pd.isna(peak) else float(peak)

    def stored_bytes(self, jobs: Iterable[RunJob]) -> float | None:
        """What the jobs will store for their domains; None where it is unknown."""
        sizes = [float(self._of(job.run.method)["bytes"].mean()) for job in jobs]
        return None if np.isnan(sizes).any() else sum(sizes)


def _same_device(recorded: pd.Series, device: str) -> pd.Series:
    """Which records are of such a device; of any GPU where the device is another machine's."""
    if on_cpu(device) or devices.accelerator():
        return recorded == devices.name(device)
    return recorded != devices.name("cpu")


def _network(profile: Profile) -> str:
    return json.dumps(network_settings(profile), sort_keys=True)


def _width(method: str) -> float:
    """How much wider the backbone of a recorded method is; 1 of a method that is no longer registered."""
    try:
        return select(method)[0].width_multiplier
    except InputError:
        return 1.0


def _median(values: pd.Series) -> float | None:
    value = values.median()
    return None if pd.isna(value) else float(value)


def together(seconds: Sequence[float], workers: int) -> float:
    """The time of independent jobs on so many workers, the longest ones first."""
    busy = [0.0] * workers
    for length in sorted(seconds, reverse=True):
        heapq.heapreplace(busy, busy[0] + length)
    return max(busy)
