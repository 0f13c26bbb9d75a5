"""Finds out within a moment whether a precision is faster than fp32 on this device, by timing a convolution in both.

bf16 is fast on a CPU with AVX-512 BF16 or AMX and on a GPU from compute capability 8.0 on, fp16 on a CPU with AVX-512
FP16 or AMX-FP16 and on a GPU from 7.0 on. Elsewhere they are emulated, and a run of seconds takes minutes, without any
warning of torch.
"""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from visual_decathlon.benchmark.runtime.devices import on_cpu, synchronize
from visual_decathlon.datasets.errors import option

if TYPE_CHECKING:
    import torch

GAINS = {
    "bf16": "a CPU gains from it with AVX-512 BF16 or AMX, a GPU from compute capability 8.0 on",
    "fp16": "a CPU gains from it with AVX-512 FP16 or AMX-FP16, a GPU from compute capability 7.0 on",
}
_CAPABILITY = {"tf32": (8, 0), "bf16": (8, 0), "fp16": (7, 0)}  # from which Nvidia's GPUs have it in hardware
SLOWER = 1.25  # ratio to fp32 from which it is reported; a smaller one may be noise
_NEVER = float("inf")
LONG = 0.1  # s: after a convolution with its gradients that takes longer, no larger one is tried

# Channels, side, batch, small ones first, so that a slow precision is seen early; the last is as in training.
_SIZES = {"cpu": ((8, 8, 1), (16, 16, 2), (32, 16, 8), (64, 16, 16)), "gpu": ((16, 16, 8), (64, 32, 64))}


def half_of(precision: str) -> "torch.dtype | None":
    """Returns the type that autocast computes in; None where everything is float32."""
    import torch

    return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)


def autocast(device: "torch.device", precision: str) -> "AbstractContextManager":
    """Returns the context of a forward pass in this precision: torch's autocast, which does nothing in fp32."""
    import torch

    half = half_of(precision)
    return torch.autocast(device.type, half or torch.bfloat16, enabled=half is not None)


def times_slower(device: str, precision: str = "bf16") -> float:
    """Returns the time of a convolution with its gradients in bf16 or fp16, divided by that in fp32.

    Below 1 the precision is faster; inf: the device does not have it. This takes a fifth of a second where the
    precision is fast. It ends soon, too, where it is a hundred times slower: small convolutions come first, and none
    follows one that took LONG.
    """
    ratio = 1.0
    for fp32, half in _pairs(device, precision):
        ratio = half / fp32
        if max(fp32, half) > LONG:
            break
    return ratio


def _pairs(device: str, precision: str) -> Iterator[tuple[float, float]]:
    """Yields the seconds in fp32 and in the precision, of growing convolutions, with one thread as in a run."""
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
    """Returns the fastest of three after a warm-up, or the first where that takes LONG."""
    import torch

    channels, side, batch = size
    with torch.random.fork_rng(devices=[]):  # the numbers of a run must not depend on this test
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
    """Returns a warning about this precision on this device for the start of a run; "" where there is none."""
    if precision == "tf32" and not _computes(precision, device):
        return (
            f"{option('settings')}precision=tf32 changes nothing here: it computes in fp32 and is recorded "
            "as tf32; GPUs have it from "
            "compute capability 8.0 on; leave it out to share tables with fp32"
        )
    if precision in GAINS:
        # No test on a GPU: the command would keep a context there, and would count as one more program.
        ratio = times_slower(device, precision) if on_cpu(device) else 1.0 if _computes(precision, device) else _NEVER
        if ratio > SLOWER:
            there = "not in the hardware" if ratio == _NEVER else f"{ratio:.1f} times as slow as in fp32"
            return (
                f"{option('settings')}precision={precision}: a convolution is {there} here, and so is the training; "
                f"{GAINS[precision]}; leave it out to train in fp32"
            )
    return ""


def _computes(precision: str, device: str) -> bool:
    """Whether the device has the precision in hardware. It is known for Nvidia's GPUs only, which alone have tf32."""
    if on_cpu(device):
        return False
    import torch

    if not device.startswith("cuda") or torch.version.hip:  # half precision is assumed on AMD's, Apple's and Intel's
        return precision != "tf32"
    return torch.cuda.get_device_capability(device) >= _CAPABILITY[precision]
