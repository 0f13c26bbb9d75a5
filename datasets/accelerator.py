"""Properties of a device that batches depend on: its free memory, and whether pinned host memory speeds up copies."""

import torch


def memory(device: torch.device) -> tuple[int, int] | None:
    """(free, total) memory of the device in bytes; None for a CPU and for devices that do not report it."""
    if device.type == "cpu":
        return None
    module = torch.get_device_module(device)
    if hasattr(module, "mem_get_info"):  # CUDA, ROCm, Intel
        return module.mem_get_info(device)
    if hasattr(module, "recommended_max_memory"):  # Apple: a part of the machine's memory
        total = module.recommended_max_memory()
        return max(0, total - module.driver_allocated_memory()), total
    return None


def pins(device: torch.device) -> bool:
    """Whether copies from pinned memory run while the host continues. (Apple's GPUs share the host's memory.)"""
    return device.type in ("cuda", "xpu")
