"""Differences between devices: a CPU, and the accelerator that torch sees (CUDA, ROCm, Apple's, Intel's).

torch calls a GPU of AMD "cuda" too. A value that a device does not have is None. torch is imported when it is needed.
"""

import sys
import time
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from visual_decathlon.datasets.errors import InputError, option

if TYPE_CHECKING:
    import torch

NAMES = {"cuda": "CUDA device", "mps": "Apple GPU", "xpu": "Intel GPU"}
"""Devices that DEVICE= can name besides the CPU."""

DEVICE_FILES = Path("/dev")


def device_of(wanted: str) -> str:
    """Returns the device to run on, such as "cuda:0", for DEVICE=auto, cpu or one of NAMES. Raises InputError."""
    if wanted == "cpu" or (wanted == "auto" and not _driver()):
        return "cpu"
    seen = accelerator()
    if wanted in ("auto", seen):
        return f"{seen}:0" if seen else "cpu"
    other = f"the {NAMES[seen]}" if seen else "the CPU"
    raise InputError(
        f"{wanted}: torch sees no {NAMES[wanted]} here; leave {option('device')} out to train on {other}",
        field="device",
    )


def _driver() -> bool:
    """Whether the system may have the driver of a GPU. On Linux its device files decide, without importing torch.

    The names are those of Nvidia, of its small boards, of Windows' own Linux, of AMD and of Intel.
    """
    names = ("nvidia*", "nvhost*", "nvmap", "dxg", "kfd", "dri")
    return sys.platform != "linux" or any(next(DEVICE_FILES.glob(name), None) for name in names)


def accelerator() -> str | None:
    """Returns the kind of accelerator that torch can use; None where there is none, or it is not in NAMES."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    current = torch.accelerator.current_accelerator(check_available=True)
    return current.type if current is not None and current.type in NAMES else None


def on_cpu(device: "torch.device | str") -> bool:
    """Whether the device is the CPU."""
    return str(device).partition(":")[0] == "cpu"


def synchronize(device: "torch.device") -> None:
    """Waits until the device has finished its work; a CPU always has."""
    if not on_cpu(device):
        _module(device).synchronize()


def mark(device: "torch.device") -> "float | torch.Event | None":
    """Marks this moment in the device's work, without waiting; None where the device has no such events."""
    if on_cpu(device):
        return time.perf_counter()
    if not hasattr(_module(device), "Event"):
        return None
    event = _module(device).Event(enable_timing=True)
    event.record()
    return event


def between(earlier: "float | torch.Event", later: "float | torch.Event") -> float:
    """Returns the milliseconds between two marks. The device must be synchronised."""
    return (later - earlier) * 1e3 if isinstance(earlier, float) else earlier.elapsed_time(later)


def reset_peak(device: "torch.device") -> None:
    """Lets `peak` count from now on, where the device counts its allocations."""
    with suppress(AttributeError):
        _module(device).reset_peak_memory_stats()


def peak(device: "torch.device") -> int | None:
    """Returns the most bytes that torch allocated since `reset_peak`; None where the device does not count them."""
    with suppress(AttributeError):
        return _module(device).max_memory_allocated()
    return None


def free_cached(device: "torch.device") -> None:
    """Releases the device memory that torch keeps for later use, so that other runs can have it."""
    if not on_cpu(device):
        _module(device).empty_cache()


def keeping_random_numbers(device: "torch.device") -> AbstractContextManager:
    """Returns a context that restores the random number generators of the CPU and the device at its end."""
    import torch

    if on_cpu(device):
        return torch.random.fork_rng([])
    return torch.random.fork_rng([device], device_type=device.type)


def properties(device: str) -> object:
    """Returns torch's properties of the device (name, UUID, ...); None where torch has none."""
    get = getattr(_module(device), "get_device_properties", None)
    return get and get(device)


def name(device: str) -> str:
    """Returns the device's name for a record: the product name, or its kind; "cpu" for a CPU."""
    if on_cpu(device):
        return "cpu"
    import torch

    kind = device.partition(":")[0]
    if kind == "mps":
        return getattr(torch.backends.mps, "get_name", str)() or kind
    return _module(device).get_device_name(device) or kind


def _module(device: "torch.device | str"):
    """Returns torch.cuda, torch.mps or torch.xpu."""
    import torch

    return torch.get_device_module(device)
