"""Time of a training step against what the network, or the batch, is made of."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from visual_decathlon.benchmark.perf import network as net
from visual_decathlon.benchmark.perf.growth.point import Point
from visual_decathlon.benchmark.perf.rounds import Variant, run_interleaved
from visual_decathlon.benchmark.runtime.progress import ProgressCallback, silent
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import select

METHODS = ("finetune", "res_adapter", "par_adapter", "bn_adapt", "feature")


@dataclass(frozen=True)
class Setting:
    """What a step is of. By default the paper's network and images."""

    width: float = 1.0
    size: int = net.SIZE
    batch: int = net.BATCH
    classes: int = net.CLASSES

    @property
    def work(self) -> float:
        """Multiply-adds, about, in no unit."""
        return self.batch * (self.size * self.width) ** 2

    def without(self, name: str) -> str:
        """All but one of them in words."""
        said = {"width": f"width {self.width:g}", "size": f"{self.size} px", "batch": f"batch {self.batch}"}
        said |= {"classes": f"{self.classes:,} classes"}
        return ", ".join(text for key, text in said.items() if key != name)


def measured(
    grows: str,
    values: Sequence[float],
    base: Setting = Setting(),
    methods: Sequence[str] = METHODS,
    rounds: int = 3,
    told: ProgressCallback = silent,
) -> list[Point]:
    """ms an image of each method where the setting that `grows` has these values and the others are `base`'s.

    All of them take turns in each round. `feature` trains its head on features that are there.
    """
    ways, names = [], {}
    for value in values:
        setting = dataclasses.replace(base, **{grows: value})
        for (method,) in map(select, methods):
            way = _way(f"{method.name} {value:g}", method, setting, base)
            ways.append(way)
            names[way.name] = {"at": value, "series": method.name, "grows": grows, "setting": base.without(grows)}
    found = run_interleaved(ways, rounds, told)
    return [
        Point.of("step", "ms an image", [1e3 / speed for speed in speeds], found.dropped, **names[name])
        for name, speeds in found.speeds.items()
    ]


def _way(name: str, method: Method, setting: Setting, base: Setting) -> Variant:
    """Steps of the method: more than one where they are so short that a single one would be noise."""
    network = net.placed(method, setting.width, setting.size, setting.classes)
    if method.cached_views:
        features = torch.randn(setting.batch, network.head.in_features)
        inputs = features, net.pixels(setting.batch, 1, setting.classes)[1]
        return net.training(name, method, network.head, inputs, steps=200)
    steps = max(1, min(4, int(base.work / setting.work / 4)))
    return net.training(name, method, network, net.pixels(setting.batch, setting.size, setting.classes), steps)
