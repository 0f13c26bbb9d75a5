"""What NVML tells of a GPU: its counter of energy, its free memory, and which processes compute on it."""

from contextlib import suppress


def _handle(device: str):
    """(pynvml, the device's handle), None where there is no NVML or it does not know the device.

    By UUID: NVML counts all GPUs, torch those of CUDA_VISIBLE_DEVICES.
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
    except Exception:  # a library of another driver or version: what is not measured costs no run
        return None


def millijoules(device: str) -> int | None:
    """What the whole card has used since its driver was loaded; None where it does not count."""
    if (found := _handle(device)) is None:
        return None
    pynvml, handle = found
    with suppress(Exception):
        return pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    return None


def free_memory(device: str) -> int | None:
    """Bytes that no program holds; None where nobody tells. This process makes no context on the GPU for it."""
    if (found := _handle(device)) is None:
        return None
    pynvml, handle = found
    with suppress(Exception):
        return pynvml.nvmlDeviceGetMemoryInfo(handle).free
    return None


def computing(device: str) -> set[int]:
    """Numbers of the processes that compute on the GPU, of one that has a context and waits too; none without NVML.

    In a container they may be another namespace's numbers.
    """
    if (found := _handle(device)) is None:
        return set()
    pynvml, handle = found
    with suppress(Exception):
        return {process.pid for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)}
    return set()
