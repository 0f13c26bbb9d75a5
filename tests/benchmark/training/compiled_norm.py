"""Compiles every launch of the fused norm for an absent GPU: `compiled_norm.py cuda 90`, `... hip gfx942`.

Prints each kernel's name and how many launches compiled.
"""

import sys
from collections import Counter

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver
from triton.runtime.jit import JITFunction

BACKEND, ARCH = sys.argv[1:]
compiled = Counter()


class Absent:
    """A driver of one GPU of the requested kind, which never runs a kernel."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget(BACKEND, int(ARCH) if ARCH.isdigit() else ARCH, 32 if BACKEND == "cuda" else 64)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


def compiling(kernel: JITFunction, grid: tuple[int, ...]):
    def launch(*args, **options) -> None:
        assert kernel.warmup(*args, grid=grid, **options).asm["cubin" if BACKEND == "cuda" else "hsaco"]
        compiled[kernel.fn.__name__] += 1

    return launch


driver.set_active(Absent())
JITFunction.__getitem__ = compiling
assert not triton.knobs.runtime.interpret

from visual_decathlon.benchmark.training import norm_kernels as kernels  # noqa: E402  (its kernels are bound to the driver at a call)

# One tile of 32 rows and many: a count of 1 is compiled into the kernel.
for channels, side, dtype in ((64, 4, torch.float32), (96, 16, torch.bfloat16)):
    x = torch.zeros(2, channels, side, side, dtype=dtype).contiguous(memory_format=torch.channels_last)
    mean, spread, weight, bias = torch.ones(4, channels)
    kernels.batch_moments(x, mean, spread, torch.zeros((), dtype=torch.int64), 0.1, 1e-5)
    moments = (mean, spread), weight, bias, 1e-5
    for frozen in (False, True):
        for relu, residual in ((False, None), (True, None), (True, x)) if side > 4 else ((True, None),):
            kernels.normalise(x, residual, *moments, frozen=frozen, relu=relu)
            how = {"frozen": frozen, "relu": relu, "wants_input": True, "wants_affine": False}
            kernels.gradients(x, x, residual, *moments, **how)
for name, count in compiled.items():
    print(name, count)
