"""Checks what a caller gives to `MultiDomain`: a device, and batches that are preprocessed already."""

import torch
from torch import Tensor

from visual_decathlon.benchmark.runtime.devices import NAMES, accelerator
from visual_decathlon.datasets.errors import InputError, reason


def parse_device(wanted: "str | torch.device") -> torch.device:
    """The device of this name. Raises InputError where torch does not know it, or sees none of its kind."""
    try:
        device = torch.device(wanted)
    except (RuntimeError, TypeError):
        raise InputError(
            f"device={wanted!r} is no device that torch knows; give 'cpu', 'cuda', 'mps' or 'xpu'"
        ) from None
    try:
        torch.empty(1, device=device).tolist()  # fails on the device `meta`, whose tensors have no values
    except (RuntimeError, AssertionError):  # AssertionError: this torch was built without CUDA
        kind = NAMES.get(device.type, "such device") if device.type != accelerator() else "such device"
        raise InputError(
            f"device={str(device)!r}: torch sees no {kind} here; leave device out to compute on the CPU"
        ) from None
    return device


def check_batch(x: Tensor, crop: int, device: torch.device) -> None:
    """Raise InputError unless `x` is (N, 3, H, W) float32, or of a lower precision under autocast."""
    if not isinstance(x, Tensor):
        raise _error(f"a {type(x).__name__}", crop)
    low = x.dtype in (torch.float16, torch.bfloat16) and torch.is_autocast_enabled(device.type)
    if x.ndim != 4 or x.shape[1] != 3 or not (x.dtype is torch.float32 or low):
        raise _error(_description(x), crop)


def check_size(x: Tensor, crop: int, error: RuntimeError) -> None:
    """Raise InputError where an `error` of the network may have its cause in the images' size, which is not the run's.

    Most methods accept other sizes, in a ResNet-26 multiples of 8; a learned border fits only one size.
    """
    if x.shape[2:] != (crop, crop) and not isinstance(error, torch.OutOfMemoryError):
        raise _error(f"{_description(x)}, a size that cannot be computed here ({reason(error)})", crop) from None


def _description(x: Tensor) -> str:
    return f"a tensor of shape {tuple(x.shape)} and {str(x.dtype).removeprefix('torch.')}"


def _error(description: str, crop: int) -> InputError:
    return InputError(
        f"the batch is {description}; give a tensor of shape (N, 3, {crop}, {crop}) and float32, normalised, or give "
        "the images themselves to predict()"
    )
