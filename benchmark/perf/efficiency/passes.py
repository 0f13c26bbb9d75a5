"""Times forward passes of several networks, which take turns, and measures their energy."""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from visual_decathlon.benchmark.perf.rounds import Rounds, Variant, run_interleaved
from visual_decathlon.benchmark.runtime import devices
from visual_decathlon.benchmark.runtime.nvml import millijoules
from visual_decathlon.benchmark.runtime.progress import ProgressCallback, silent
from visual_decathlon.benchmark.training.timing import Energy

SECONDS = 1.0  # of a network's rounds, where that makes LEAST to MOST of them
LEAST, MOST = 3, 40
COUNTER = 0.5  # s: the energy counter of a GPU moves every 20 to 100 ms


@dataclass(frozen=True)
class Times:
    """Latency of a pass in ms (median and percentiles over the rounds), and images per second at the median."""

    latency_ms: float
    latency_ms_p10: float
    latency_ms_p90: float
    img_s: float
    rounds: int

    @classmethod
    def of(cls, speeds: Sequence[float], batch: int) -> "Times":
        """From images per second, one number for each round."""
        p10, middle, p90 = np.percentile(1e3 * batch / np.array(speeds), [10, 50, 90]).tolist()
        return cls(middle, p10, p90, 1e3 * batch / middle, len(speeds))


def images(
    batch: int, size: int, device: str | torch.device, dtype: torch.dtype, layout: torch.memory_format
) -> Tensor:
    """(batch, 3, size, size) random numbers."""
    x = torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0))
    return x.to(device, dtype).contiguous(memory_format=layout)


def forward(name: str, network: nn.Module, x: Tensor) -> Variant:
    """A forward pass in inference mode, to its end on the device."""

    @torch.inference_mode()
    def work() -> int:
        network(x)
        devices.synchronize(x.device)
        return len(x)

    return Variant(name, work)


def seconds_of(variant: Variant) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    variant.work()
    return time.perf_counter() - start


def take_turns(variants: list[Variant], seconds: float, progress: ProgressCallback = silent, what: str = "") -> Rounds:
    """Rounds in which every variant runs once, where a round takes about so many `seconds`.

    There are as many as fit into SECONDS for each variant, from LEAST to MOST.
    """
    rounds = int(SECONDS * len(variants) / max(seconds, 1e-6))
    return run_interleaved(variants, min(max(rounds, LEAST), MOST), progress, what)


def times(rounds: Rounds, batch: int) -> Mapping[str, Times]:
    """The times of each variant."""
    return {name: Times.of(speeds, batch) for name, speeds in rounds.speeds.items()}


def joules(variant: Variant, device: torch.device) -> float | None:
    """Joules for each image, over COUNTER seconds of passes; None where the device has no counter."""
    if millijoules(str(device)) is None:
        return None
    energy, done, start = Energy(device), 0, time.perf_counter()
    while time.perf_counter() - start < COUNTER:
        done += variant.work()
    used = energy.joules()
    return used / done if used is not None else None


def latency_columns(rounds: Rounds, batch: int, name: str, reference: str) -> dict:
    """Latency of `name`, its ratios to that of `reference`, and the numbers of rounds, as columns."""
    of, ratios = Times.of(rounds.speeds[name], batch), latency_ratios(rounds, name, reference)
    return {
        **{key: getattr(of, key) for key in ("latency_ms", "latency_ms_p10", "latency_ms_p90", "rounds")},
        **dict(zip(("latency_ratio", "latency_ratio_least", "latency_ratio_largest"), ratios, strict=True)),
        "dropped": rounds.dropped,
    }


def latency_ratios(rounds: Rounds, name: str, reference: str) -> tuple[float, float, float]:
    """(median, least, largest) over the rounds of the latency of `name` relative to that of `reference`."""
    ratios = [b / a for a, b in zip(rounds.speeds[name], rounds.speeds[reference], strict=True)]
    return statistics.median(ratios), min(ratios), max(ratios)
