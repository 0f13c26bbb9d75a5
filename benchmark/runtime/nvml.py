"""NVML's values of an Nvidia GPU: its energy counter, its free memory, and the processes that compute on it."""

from contextlib import suppress


def _handle(device: str):
    """Returns (pynvml, the device's handle), or None where there is no NVML or it does not know the device.

    The device is found by its UUID: NVML numbers all GPUs, torch only those of CUDA_VISIBLE_DEVICES.
    """
    if not device.startswith("cuda"):
        return None
    try:
        import pynvml
    except ImportError:
        return None
    import torch

    if torch.version.hip:  # AMD's, which torch calls "cuda"
        return None
    try:
        pynvml.nvmlInit()
        uuid = torch.cuda.get_device_properties(device).uuid  # an older torch has none
        return pynvml, pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
    except Exception:  # a library of another driver or version; a run must not fail because it is not measured
        return None


def millijoules(device: str) -> int | None:
    """Returns the energy that the whole card used since its driver was loaded, in mJ; None where it is not counted."""
    if (known := _handle(device)) is None:
        return None
    pynvml, handle = known
    with suppress(Exception):
        return pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    return None


def driver(device: str) -> str | None:
    """Returns the version of the GPU's driver; None where it is unknown."""
    if (known := _handle(device)) is None:
        return None
    pynvml, _ = known
    with suppress(Exception):
        return pynvml.nvmlSystemGetDriverVersion()
    return None


def free_memory(device: str) -> int | None:
    """Returns the free memory in bytes; None where it is unknown. This makes no context on the GPU."""
    if (known := _handle(device)) is None:
        return None
    pynvml, handle = known
    with suppress(Exception):
        return pynvml.nvmlDeviceGetMemoryInfo(handle).free
    return None


def computing(device: str) -> set[int]:
    """Returns the numbers of the processes that have a context on the GPU, busy or not; none without NVML.

    In a container they may be numbers of another namespace.
    """
    if (known := _handle(device)) is None:
        return set()
    pynvml, handle = known
    with suppress(Exception):
        return {process.pid for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)}
    return set()
