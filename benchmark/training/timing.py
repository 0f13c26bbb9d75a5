"""Step times by the events of a GPU and a monotonic clock on a CPU; processor time; peak memory; energy."""

import time

import numpy as np
import torch

from visual_decathlon.benchmark.runtime import devices
from visual_decathlon.benchmark.runtime.memory import give_back, peak_resident, reset_peak_resident
from visual_decathlon.benchmark.runtime.nvml import millijoules

WARM_UP = 3  # steps whose times are not counted: allocation, kernel choice


class Clock:
    """Times the steps of a loop; nothing but the first step waits for the GPU before the end of an epoch.

    Its facts tell how long that one took since the making of the clock: kernels are loaded or compiled in it.
    """

    def __init__(self, device: torch.device):
        self._device, self._made = device, time.perf_counter()
        self.ms: list[float] = []
        self.images: list[int] = []
        self.facts: dict[str, str | float | None] = {}  # what else a record says of the training
        self._marks: list = []
        self._processor = Processor(device)

    def start(self) -> None:
        self._processor.start()
        self._began = time.perf_counter()
        self._marks = [devices.mark(self._device)]

    def step(self, images: int) -> None:
        self._marks.append(devices.mark(self._device))
        self.images.append(images)
        if not self.facts:  # the one time that a GPU is waited for within an epoch
            devices.synchronize(self._device)
            self.facts["first_step_seconds"] = time.perf_counter() - self._made

    def stop(self) -> tuple[float, float | None]:
        """Seconds since `start`, by the same clock; and the processor's on a CPU.

        Of a device without events the whole is known, and no step alone.
        """
        devices.synchronize(self._device)
        if None in self._marks:
            return time.perf_counter() - self._began, self._processor.seconds()
        spans = [devices.between(a, b) for a, b in zip(self._marks, self._marks[1:], strict=False)]
        self.ms += spans
        return sum(spans) / 1e3, self._processor.seconds()

    def summary(self) -> dict[str, float | None]:
        """Median, p10 and p90 of the step in ms and images per second, null where too few steps ran; and the facts."""
        ms, images = np.array(self.ms[WARM_UP:]), np.array(self.images[WARM_UP:])
        if len(ms) == 0:
            return dict.fromkeys(("step_ms", "step_ms_p10", "step_ms_p90", "train_img_s")) | self.facts
        p10, median, p90 = np.percentile(ms, [10, 50, 90]).tolist()
        return {
            "step_ms": median,
            "step_ms_p10": p10,
            "step_ms_p90": p90,
            "train_img_s": float(np.median(images / ms) * 1e3),
        } | self.facts


class Processor:
    """Processor time of this process: what other programs on the machine take is not in it. Null on a GPU."""

    def __init__(self, device: torch.device):
        self._counted = devices.on_cpu(device)
        self.start()

    def start(self) -> None:
        self._start = time.process_time()

    def seconds(self) -> float | None:
        """Since its making or `start`."""
        return time.process_time() - self._start if self._counted else None


class Peak:
    """Peak memory since its making, in MB: what a GPU counts as allocated, or the process's resident set on Linux.

    What this process did before is not in it: what that left is freed and given back first.
    """

    def __init__(self, device: torch.device):
        self._device = device
        if not devices.on_cpu(device):
            devices.reset_peak(device)
            return
        give_back()
        self.resettable = reset_peak_resident()

    def mb(self) -> float | None:
        if not devices.on_cpu(self._device):
            most = devices.peak(self._device)
        else:
            most = peak_resident() if self.resettable else None
        return None if most is None else most / 2**20


class Energy:
    """Joules since its making, from the GPU's own counter, which is the whole card's; null where there is none."""

    def __init__(self, device: torch.device):
        self._device = str(device)
        self._start = millijoules(self._device)

    def joules(self) -> float | None:
        end = millijoules(self._device)
        return None if self._start is None or end is None else (end - self._start) / 1e3
