"""Step times by CUDA events on a GPU and a monotonic clock on a CPU; peak memory; energy where NVML tells."""

import time

import numpy as np
import torch

WARM_UP = 3  # steps whose times are not counted: allocation, kernel choice


class Clock:
    """Times the steps of a loop; nothing waits for the GPU before the end of an epoch."""

    def __init__(self, device: torch.device):
        self.cuda = device.type == "cuda"
        self.ms: list[float] = []
        self.images: list[int] = []
        self._marks: list = []

    def _mark(self):
        if not self.cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def start(self) -> None:
        self._marks = [self._mark()]

    def step(self, images: int) -> None:
        self._marks.append(self._mark())
        self.images.append(images)

    def stop(self) -> float:
        """Seconds since `start`, by the same clock."""
        if self.cuda:
            torch.cuda.synchronize()
            spans = [a.elapsed_time(b) for a, b in zip(self._marks, self._marks[1:], strict=False)]
        else:
            spans = (np.diff(self._marks) * 1e3).tolist()
        self.ms += spans
        return sum(spans) / 1e3

    def summary(self) -> dict[str, float | None]:
        """Median, p10 and p90 of the step in ms and images per second; null where too few steps ran."""
        ms, images = np.array(self.ms[WARM_UP:]), np.array(self.images[WARM_UP:])
        if len(ms) == 0:
            return dict.fromkeys(("step_ms", "step_ms_p10", "step_ms_p90", "train_img_s"))
        p10, median, p90 = np.percentile(ms, [10, 50, 90]).tolist()
        return {
            "step_ms": median,
            "step_ms_p10": p10,
            "step_ms_p90": p90,
            "train_img_s": float(np.median(images / ms) * 1e3),
        }


class Peak:
    """Peak memory since its making, in MB: the GPU's allocations, or the process's resident set on Linux."""

    def __init__(self, device: torch.device):
        self.cuda = device.type == "cuda"
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
            return
        try:
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")
            self.resettable = True
        except OSError:
            self.resettable = False

    def mb(self) -> float | None:
        if self.cuda:
            return torch.cuda.max_memory_allocated() / 2**20
        if not self.resettable:
            return None
        with open("/proc/self/status") as file:
            line = next(line for line in file if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024


class Energy:
    """Joules since its making, from the GPU's own counter; null where there is none."""

    def __init__(self, device: torch.device):
        self._device = device
        self._start = self._millijoules()

    def joules(self) -> float | None:
        end = self._millijoules()
        return None if self._start is None or end is None else (end - self._start) / 1e3

    def _millijoules(self) -> int | None:
        if self._device.type != "cuda":
            return None
        try:
            import pynvml
        except ImportError:
            return None
        try:  # by UUID: NVML counts all GPUs, torch those of CUDA_VISIBLE_DEVICES
            pynvml.nvmlInit()
            uuid = torch.cuda.get_device_properties(self._device).uuid
            handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
            return pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
        except (AttributeError, pynvml.NVMLError):  # an older torch has no uuid
            return None
