"""What differs between devices: a CPU, and whichever accelerator torch sees (CUDA, ROCm, Apple's, Intel's).

torch calls a GPU of AMD "cuda" too. What a device does not tell is None. No torch is loaded before it is asked.
"""

import sys
import time
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from visual_decathlon.datasets.errors import InputError

if TYPE_CHECKING:
    import torch

NAMES = {"cuda": "CUDA device", "mps": "Apple GPU", "xpu": "Intel GPU"}
"""Devices that DEVICE= can name beside the CPU."""

DEVICE_FILES = Path("/dev")


def device_of(wanted: str) -> str:
    """The device to run on, such as "cuda:0", for DEVICE=auto, cpu or one of NAMES. Raises InputError."""
    if wanted == "cpu" or (wanted == "auto" and not _driver()):
        return "cpu"
    seen = accelerator()
    if wanted in ("auto", seen):
        return f"{seen}:0" if seen else "cpu"
    other = f"the {NAMES[seen]}" if seen else "the CPU"
    raise InputError(f"DEVICE={wanted}: torch sees no {NAMES[wanted]} here; leave DEVICE out to train on {other}")


def _driver() -> bool:
    """Whether the system may have a GPU's driver. Linux tells by its device files, which spares the import of torch.

    They are those of Nvidia, of its small boards and of Windows' own Linux, of AMD and of Intel.
    """
    names = ("nvidia*", "nvhost*", "nvmap", "dxg", "kfd", "dri")
    return sys.platform != "linux" or any(next(DEVICE_FILES.glob(name), None) for name in names)


def accelerator() -> str | None:
    """The kind of the accelerator that torch sees; None where it sees none that it can use, or one not in NAMES."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    found = torch.accelerator.current_accelerator(check_available=True)
    return found.type if found is not None and found.type in NAMES else None


def on_cpu(device: "torch.device | str") -> bool:
    return str(device).partition(":")[0] == "cpu"


def synchronize(device: "torch.device") -> None:
    """Wait until the device has done what it was given; a CPU always has."""
    if not on_cpu(device):
        _module(device).synchronize()


def mark(device: "torch.device") -> "float | torch.Event | None":
    """This moment in the device's work, made without waiting; None where the device has no such events."""
    if on_cpu(device):
        return time.perf_counter()
    if not hasattr(_module(device), "Event"):
        return None
    event = _module(device).Event(enable_timing=True)
    event.record()
    return event


def between(earlier: "float | torch.Event", later: "float | torch.Event") -> float:
    """ms between two marks; the device must be synchronised."""
    return (later - earlier) * 1e3 if isinstance(earlier, float) else earlier.elapsed_time(later)


def reset_peak(device: "torch.device") -> None:
    """From here on `peak` counts, where the device counts its allocations."""
    with suppress(AttributeError):
        _module(device).reset_peak_memory_stats()


def peak(device: "torch.device") -> int | None:
    """The most bytes that torch held there since `reset_peak`; None where the device does not count them."""
    with suppress(AttributeError):
        return _module(device).max_memory_allocated()
    return None


def free_cached(device: "torch.device") -> None:
    """Give back what torch keeps of the device's memory for later, where other runs may want it."""
    if not on_cpu(device):
        _module(device).empty_cache()


def keeping_random_numbers(device: "torch.device") -> AbstractContextManager:
    """Within, the global generators of the CPU and of the device may be used; afterwards they are as they were."""
    import torch

    if on_cpu(device):
        return torch.random.fork_rng([])
    return torch.random.fork_rng([device], device_type=device.type)


def properties(device: str) -> object:
    """What torch tells of the device: a name, a UUID and others, as far as it has them; None where it tells nothing."""
    found = getattr(_module(device), "get_device_properties", None)
    return found and found(device)


def name(device: str) -> str:
    """As a record has it: the name that its maker gave it, or its kind; "cpu" for a CPU."""
    if on_cpu(device):
        return "cpu"
    import torch

    kind = device.partition(":")[0]
    if kind == "mps":
        return getattr(torch.backends.mps, "get_name", str)() or kind
    return _module(device).get_device_name(device) or kind


def _module(device: "torch.device | str"):
    """torch.cuda, torch.mps or torch.xpu."""
    import torch

    return torch.get_device_module(device)
