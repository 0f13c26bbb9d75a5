"""Whether a precision gains on this device: one convolution in it against the same in fp32, in a moment.

bf16 is fast on a CPU with AVX-512 BF16 or AMX and on a GPU from compute capability 8.0 on, fp16 on a CPU with AVX-512
FP16 or AMX-FP16 and on a GPU from 7.0 on. Elsewhere they are emulated, and a run that should take seconds takes
minutes. torch tells of none of it.
"""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from visual_decathlon.benchmark.runtime.devices import on_cpu, synchronize

if TYPE_CHECKING:
    import torch

GAINS = {
    "bf16": "a CPU gains from it with AVX-512 BF16 or AMX, a GPU from compute capability 8.0 on",
    "fp16": "a CPU gains from it with AVX-512 FP16 or AMX-FP16, a GPU from compute capability 7.0 on",
}
_CAPABILITY = {"tf32": (8, 0), "bf16": (8, 0), "fp16": (7, 0)}  # of Nvidia's GPUs that compute it in hardware
SLOWER = 1.25  # times fp32's: below that it may be noise
_NEVER = float("inf")
LONG = 0.1  # s of one convolution and its gradients, after which no larger one is tried

# Channels, side, batch: the slower one is, the sooner it is seen; the last are of the kind that training has.
_SIZES = {"cpu": ((8, 8, 1), (16, 16, 2), (32, 16, 8), (64, 16, 16)), "gpu": ((16, 16, 8), (64, 32, 64))}


def half_of(precision: str) -> "torch.dtype | None":
    """The type that autocast computes in; None where all is float32."""
    import torch

    return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)


def autocast(device: "torch.device", precision: str) -> "AbstractContextManager":
    """The context of a forward pass in this precision: half precision where torch knows it to be safe, or nothing."""
    import torch

    half = half_of(precision)
    return torch.autocast(device.type, half or torch.bfloat16, enabled=half is not None)


def times_slower(device: str, precision: str = "bf16") -> float:
    """Seconds of a convolution with its gradients in bf16 or fp16 over those in fp32: below 1 where it gains.

    Takes a fifth of a second where it gains. Small ones come first, and none after one that took LONG, so that it
    ends soon where it is a hundred times slower, too. inf where the precision is not to be had at all.
    """
    ratio = 1.0
    for fp32, half in _pairs(device, precision):
        ratio = half / fp32
        if max(fp32, half) > LONG:
            break
    return ratio


def _pairs(device: str, precision: str) -> Iterator[tuple[float, float]]:
    """Seconds in fp32 and in the precision, of ever larger convolutions, one thread each, as a CPU's runs have it."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for size in _SIZES["cpu" if on_cpu(device) else "gpu"]:
            fp32 = _seconds(device, size, "fp32")
            try:
                yield fp32, _seconds(device, size, precision)
            except RuntimeError:  # there is no such kernel
                yield fp32, _NEVER
    finally:
        torch.set_num_threads(threads)


def _seconds(device: str, size: tuple[int, int, int], precision: str) -> float:
    """The fastest of three, after one for warmth; of what takes LONG the first counts."""
    import torch

    channels, side, batch = size
    with torch.random.fork_rng(devices=[]):  # no run's numbers depend on whether this was asked
        x = torch.randn(batch, channels, side, side)
        conv = torch.nn.Conv2d(channels, channels, 3, padding=1, bias=False)
    x, conv = x.to(device, memory_format=torch.channels_last), conv.to(device, memory_format=torch.channels_last)
    x.requires_grad_()
    best = float("inf")
    for _ in range(4):
        start = time.perf_counter()
        with torch.enable_grad(), autocast(x.device, precision):
            y = conv(x).float().sum()
        y.backward()
        synchronize(x.device)
        taken = time.perf_counter() - start
        best = min(best, taken)
        if taken > LONG:
            break
    return best


def warning(precision: str, device: str) -> str:
    """What to know of a run in this precision on this device before it begins; "" where there is nothing."""
    if precision == "tf32" and not _computes(precision, device):
        return (
            "SET=precision=tf32 changes nothing here: it computes in fp32 and is recorded as tf32; GPUs have it from "
            "compute capability 8.0 on; leave it out to share tables with fp32"
        )
    if precision in GAINS:
        # A GPU is asked, not tried: the command itself would hold a context there, and count as one more program.
        ratio = times_slower(device, precision) if on_cpu(device) else 1.0 if _computes(precision, device) else _NEVER
        if ratio > SLOWER:
            there = "not in the hardware" if ratio == _NEVER else f"{ratio:.1f} times as slow as in fp32"
            return (
                f"SET=precision={precision}: a convolution is {there} here, and so is the training; "
                f"{GAINS[precision]}; leave it out to train in fp32"
            )
    return ""


def _computes(precision: str, device: str) -> bool:
    """Whether the device has the precision in hardware. Only Nvidia's GPUs tell; tf32 is theirs alone."""
    if on_cpu(device):
        return False
    import torch

    if (
        not device.startswith("cuda") or torch.version.hip
    ):  # half precision is taken for granted on AMD's, Apple's and Intel's
        return precision != "tf32"
    return torch.cuda.get_device_capability(device) >= _CAPABILITY[precision]
