"""How many runs train side by side where WORKERS= does not say: a process for each core, or what a GPU has room for."""

from collections.abc import Collection

from visual_decathlon.benchmark.backbones.shapes import shapes_named
from visual_decathlon.benchmark.config.specs import Run
from visual_decathlon.benchmark.runtime.devices import on_cpu
from visual_decathlon.benchmark.runtime.nvml import free_memory
from visual_decathlon.datasets.cores import cores
from visual_decathlon.methods.shapes import Shapes

MOST = 8
"""Measured on one H100 with 16 cores at f0db49d: eight processes trained ten runs of the stand-ins in about 10 s after
30 s of start, one process took 14 to 16 s for each. More than eight were not tried."""

FIXED = 2**30
"""Bytes that a process takes on a GPU beside its tensors: context, kernels, workspaces. Assumed, not measured."""


def default_workers(device: str, todo: Collection[Run]) -> int:
    """At least 1 and no more than there are runs; 1 where nobody tells what memory is free, as nothing was measured.

    On a CPU one for each core, whatever there is to do.
    """
    if on_cpu(device):
        return cores()
    free = free_memory(device)
    if free is None:
        return 1
    room = free // max(run_bytes(run, free) for run in todo)
    return max(1, min(cores(), len(todo), MOST, room))


def run_bytes(run: Run, free: int) -> int:
    """What a run takes of a GPU's memory, about: a step, and its pixels where half of what is `free` holds them."""
    profile = run.backbone.network_profile
    shapes = shapes_named(profile.network, profile.width, max(profile.crop, profile.uncropped_size))
    pixels = 3 * profile.resize**2 * (run.train.count + run.evaluate.count)
    return FIXED + step_bytes(shapes, profile.adapt.batch, profile.precision) + (pixels if pixels <= free // 2 else 0)


def step_bytes(shapes: Shapes, batch: int, precision: str) -> int:
    """What a training step holds at its peak, about, whatever the method is.

    Of each convolution three maps are kept until its gradients are made: its input, its output, and an adapter's; of
    each weight there are a gradient and a momentum. On a CPU steps of five methods took 0.6 to 1.6 times as
    much (torch 2.15, one step each).
    """
    side, values = shapes.size, 0
    for conv in shapes.convs:
        values += conv.cin * side**2
        side = -(-side // conv.stride[0])
        values += 2 * conv.cout * side**2
    width = 2 if precision in ("bf16", "fp16") else 4
    return width * batch * values + 3 * 4 * shapes.base
