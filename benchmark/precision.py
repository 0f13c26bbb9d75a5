"""Whether a precision gains on this device: one convolution in it against the same in fp32, in a moment.

bf16 is fast on a CPU with AVX-512 BF16 or AMX and on a GPU from compute capability 8.0 on. Elsewhere it is emulated,
and a run that should take seconds takes minutes. torch tells of none of it.
"""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

GAINS = "a CPU gains from it with AVX-512 BF16 or AMX, a GPU from compute capability 8.0 on"
SLOWER = 1.25  # times fp32's: below that it may be noise
LONG = 0.1  # s of one convolution and its gradients, after which no larger one is tried

# Channels, side, batch: the slower one is, the sooner it is seen; the last are of the kind that training has.
_SIZES = {"cpu": ((8, 8, 1), (16, 16, 2), (32, 16, 8), (64, 16, 16)), "cuda": ((16, 16, 8), (64, 32, 64))}


def autocast(device: "torch.device", precision: str) -> "AbstractContextManager":
    """The context of a forward pass in this precision: half precision where torch knows it to be safe, or nothing."""
    import torch

    half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    return torch.autocast(device.type, half or torch.bfloat16, enabled=half is not None)


def times_slower(device: str) -> float:
    """Seconds of a convolution with its gradients in bf16 over those in fp32: below 1 where bf16 gains.

    Takes a fifth of a second where it gains. Small ones come first, and none after one that took LONG, so that it
    ends soon where bf16 is a hundred times slower, too. inf where bf16 is not to be had at all.
    """
    ratio = 1.0
    for fp32, bf16 in _pairs(device):
        ratio = bf16 / fp32
        if max(fp32, bf16) > LONG:
            break
    return ratio


def _pairs(device: str) -> Iterator[tuple[float, float]]:
    """(seconds in fp32, seconds in bf16) of ever larger convolutions, one thread each, as a CPU's runs have it."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for size in _SIZES[device.partition(":")[0]]:
            fp32 = _seconds(device, size, bf16=False)
            try:
                yield fp32, _seconds(device, size, bf16=True)
            except RuntimeError:  # a GPU that has no such kernel
                yield fp32, float("inf")
    finally:
        torch.set_num_threads(threads)


def _seconds(device: str, size: tuple[int, int, int], bf16: bool) -> float:
    """The fastest of three, after one for warmth; of what takes LONG the first counts."""
    import torch

    channels, side, batch = size
    with torch.random.fork_rng(devices=[]):  # no run's numbers depend on whether this was asked
        x = torch.randn(batch, channels, side, side)
        conv = torch.nn.Conv2d(channels, channels, 3, padding=1, bias=False)
    x, conv = x.to(device, memory_format=torch.channels_last), conv.to(device, memory_format=torch.channels_last)
    x.requires_grad_()
    kind, best = device.partition(":")[0], float("inf")
    for _ in range(4):
        start = time.perf_counter()
        with torch.enable_grad(), torch.autocast(kind, torch.bfloat16, enabled=bf16):
            y = conv(x).float().sum()
        y.backward()
        if kind == "cuda":
            torch.cuda.synchronize()
        taken = time.perf_counter() - start
        best = min(best, taken)
        if taken > LONG:
            break
    return best


def warning(precision: str, device: str) -> str:
    """What to know of a run in this precision on this device before it begins; "" where there is nothing."""
    if precision == "bf16" and device.startswith("cuda"):
        # Not tried: the command itself would then hold a context on the GPU, and count as one more program there.
        ratio = 1.0 if _since_ampere(device) else float("inf")
    elif precision == "bf16":
        ratio = times_slower(device)
    if precision == "bf16" and ratio > SLOWER:
        there = "not in the hardware" if ratio == float("inf") else f"{ratio:.1f} times as slow as in fp32"
        return (
            f"SET=precision=bf16: a convolution is {there} here, and so is the training; {GAINS}; "
            "leave it out to train in fp32"
        )
    if precision == "tf32" and not _since_ampere(device):
        return (
            "SET=precision=tf32 changes nothing here: it computes in fp32 and is recorded as tf32; GPUs have it from "
            "compute capability 8.0 on; leave it out to share tables with fp32"
        )
    return ""


def _since_ampere(device: str) -> bool:
    """Whether it is a GPU of compute capability 8.0 or later, which has tf32 and bf16."""
    if not device.startswith("cuda"):
        return False
    import torch

    return torch.cuda.get_device_capability(device) >= (8, 0)
