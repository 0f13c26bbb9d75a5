"""Time of a training step against the size of the network, the images or the batch."""

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
    """Network, images and batch of a step; by default the paper's."""

    width: float = 1.0
    size: int = net.SIZE
    batch: int = net.BATCH
    classes: int = net.CLASSES

    @property
    def work(self) -> float:
        """Roughly proportional to the multiply-adds."""
        return self.batch * (self.size * self.width) ** 2

    def without(self, name: str) -> str:
        """All settings but one, in words."""
        texts = {"width": f"width {self.width:g}", "size": f"{self.size} px", "batch": f"batch {self.batch}"}
        texts |= {"classes": f"{self.classes:,} classes"}
        return ", ".join(text for key, text in texts.items() if key != name)


def measured(
    grows: str,
    values: Sequence[float],
    base: Setting = Setting(),
    methods: Sequence[str] = METHODS,
    rounds: int = 3,
    progress: ProgressCallback = silent,
) -> list[Point]:
    """ms an image of each method, where the setting `grows` has these values and the others are those of `base`.

    All of them take turns in each round. `feature` trains its head on cached features.
    """
    variants, names = [], {}
    for value in values:
        setting = dataclasses.replace(base, **{grows: value})
        for (method,) in map(select, methods):
            variant = _variant(f"{method.name} {value:g}", method, setting, base)
            variants.append(variant)
            names[variant.name] = {"at": value, "series": method.name, "grows": grows, "setting": base.without(grows)}
    timed = run_interleaved(variants, rounds, progress)
    return [
        Point.of("step", "ms an image", [1e3 / speed for speed in speeds], timed.dropped, **names[name])
        for name, speeds in timed.speeds.items()
    ]


def _variant(name: str, method: Method, setting: Setting, base: Setting) -> Variant:
    """Steps of the method: several where a single one would be too short to time."""
    network = net.placed(method, setting.width, setting.size, setting.classes)
    if method.cached_views:
        features = torch.randn(setting.batch, network.head.in_features)
        inputs = features, net.pixels(setting.batch, 1, setting.classes)[1]
        return net.training(name, method, network.head, inputs, steps=200)
    steps = max(1, min(4, int(base.work / setting.work / 4)))
    return net.training(name, method, network, net.pixels(setting.batch, setting.size, setting.classes), steps)
