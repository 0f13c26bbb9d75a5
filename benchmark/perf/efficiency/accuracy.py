"""Accuracy against multiply-adds: points from records of runs, each at the width and image size of its own runs."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.perf.efficiency.networks import build
from visual_decathlon.benchmark.records.files import Fault, report_left_out
from visual_decathlon.benchmark.records.store import read_frame
from visual_decathlon.benchmark.report.sheets import data_and_split, network_text
from visual_decathlon.benchmark.tables.score import BASELINE
from visual_decathlon.benchmark.tables.table1 import Spread, Table, tables
from visual_decathlon.benchmark.training.macs import pass_macs

METHODS = (BASELINE, "feature")
"""The methods that leave a network as it is: all of it trained, or its head alone."""


_SAME = ("data", "data_id", "split", "standin")  # of the groups whose points share axes


@dataclass(frozen=True)
class Point:
    """A network with a method: multiply-adds an image, mean top-1 over the ten domains in %, its spread over seeds."""

    network: str
    label: str
    macs: int
    method: str
    top1: Spread
    seeds: int


@dataclass(frozen=True)
class Points:
    """The points of one set of data and one split, and that set in words."""

    where: str
    standin: bool
    points: list[Point]


def read(sources: Sequence[Path]) -> Points:
    """The points of the records below `sources`; runs that a limit cut are left out. Empty where there are none."""
    faults: list[Fault] = []
    frame = read_frame(sources, faults=faults)
    report_left_out(faults)
    return points(tables(frame[frame["limit"].isna()]) if len(frame) else [])


def points(made: Iterable[Table], counted: Callable[[dict, int], int] | None = None) -> Points:
    """The points of the data and split that have most networks; networks on other data are not comparable.

    `counted` returns the multiply-adds of a network for the settings of its runs and a number of classes.
    """
    counted, by_data = counted or macs_of, {}
    for table in made:
        rows = [row for row in table.rows if row.method in METHODS and row.mean]
        if not rows:
            continue
        settings = json.loads(table.group["settings"])
        macs = counted(settings, round(table.runs.drop_duplicates("domain")["classes"].mean()))
        about = settings["network"], network_text(settings, short=True), macs
        by_data.setdefault(tuple(table.group[name] for name in _SAME), []).extend(
            Point(*about, row.method, row.mean, row.complete) for row in rows
        )
    if not by_data:
        return Points("", False, [])
    most = max(by_data, key=lambda key: (len({p.network for p in by_data[key]}), len(by_data[key]), str(key)))
    data, _, split, standin = most
    return Points(data_and_split(data, split, standin), standin, by_data[most])


def macs_of(settings: dict, classes: int) -> int:
    """Multiply-adds of the network of these settings for one of its images."""
    if settings["network"] == "resnet26":
        network: nn.Module = resnet26(classes, settings["width"])
    else:
        network = build(settings["network"], classes)
    return pass_macs(network, torch.zeros(1, 3, settings["crop"], settings["crop"]))
