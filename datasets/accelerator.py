"""What batches must know of the device that they go to: its memory, and whether copies from pinned memory pay."""

import torch


def memory(device: torch.device) -> tuple[int, int] | None:
    """(free, total) of the device's own memory in bytes; None for a CPU, and where the device does not tell."""
    if device.type == "cpu":
        return None
    module = torch.get_device_module(device)
    if hasattr(module, "mem_get_info"):  # CUDA, ROCm, Intel
        return module.mem_get_info(device)
    if hasattr(module, "recommended_max_memory"):  # Apple: a part of the machine's
        total = module.recommended_max_memory()
        return max(0, total - module.driver_allocated_memory()), total
    return None


def pins(device: torch.device) -> bool:
    """Whether a copy out of pinned memory goes on while the host does. Apple's GPUs share the host's memory."""
    return device.type in ("cuda", "xpu")
