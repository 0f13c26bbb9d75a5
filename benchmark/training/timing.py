"""Measures step times (events on a GPU, a monotonic clock on a CPU), processor time, peak memory and energy."""

import time

import numpy as np
import torch

from visual_decathlon.benchmark.runtime import devices
from visual_decathlon.benchmark.runtime.memory import give_back, peak_resident, reset_peak_resident
from visual_decathlon.benchmark.runtime.nvml import millijoules

WARM_UP = 3  # steps whose times are not counted: allocation, kernel choice


class Clock:
    """Times the steps of a loop; only the first step waits for the GPU before the end of an epoch.

    Its `facts` hold the seconds from the making of the clock to the end of the first step, in which kernels are loaded
    or compiled.
    """

    def __init__(self, device: torch.device):
        self._device, self._made = device, time.perf_counter()
        self.ms: list[float] = []
        self.images: list[int] = []
        self.facts: dict[str, str | float | None] = {}  # further fields of the training's record
        self._marks: list = []
        self._processor = Processor(device)

    def start(self) -> None:
        """Begins an epoch."""
        self._processor.start()
        self._began = time.perf_counter()
        self._marks = [devices.mark(self._device)]

    def step(self, images: int) -> None:
        """Marks the end of a step on `images` images."""
        self._marks.append(devices.mark(self._device))
        self.images.append(images)
        if not self.facts:  # the only wait for a GPU within an epoch
            devices.synchronize(self._device)
            self.facts["first_step_seconds"] = time.perf_counter() - self._made

    def stop(self) -> tuple[float, float | None]:
        """Seconds since `start` by the device's clock, and on a CPU the processor's.

        On a device without events only the whole epoch is timed, not its steps.
        """
        devices.synchronize(self._device)
        if None in self._marks:
            return time.perf_counter() - self._began, self._processor.seconds()
        spans = [devices.between(a, b) for a, b in zip(self._marks, self._marks[1:], strict=False)]
        self.ms += spans
        return sum(spans) / 1e3, self._processor.seconds()

    def summary(self) -> dict[str, float | None]:
        """Step time in ms (median, p10, p90), images per second (null after too few steps), and the facts."""
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
    """Processor time of this process, without that of other programs on the machine. Null on a GPU."""

    def __init__(self, device: torch.device):
        self._counted = devices.on_cpu(device)
        self.start()

    def start(self) -> None:
        """Starts at 0 again."""
        self._start = time.process_time()

    def seconds(self) -> float | None:
        """Seconds since its making or the last `start`."""
        return time.process_time() - self._start if self._counted else None


class Peak:
    """Peak memory since its making: allocated memory on a GPU, or the process's resident set on Linux.

    Earlier work of this process is not included: unused memory is first given back to the system.
    """

    def __init__(self, device: torch.device):
        self._device = device
        if not devices.on_cpu(device):
            devices.reset_peak(device)
            return
        give_back()
        self.resettable = reset_peak_resident()

    def mb(self) -> float | None:
        """The peak in MB; null where the system does not report it."""
        if not devices.on_cpu(self._device):
            most = devices.peak(self._device)
        else:
            most = peak_resident() if self.resettable else None
        return None if most is None else most / 2**20


class Energy:
    """Energy since its making, from the GPU's own counter, which counts the whole card."""

    def __init__(self, device: torch.device):
        self._device = str(device)
        self._start = millijoules(self._device)

    def joules(self) -> float | None:
        """Joules; null where the GPU has no counter."""
        end = millijoules(self._device)
        return None if self._start is None or end is None else (end - self._start) / 1e3
