"""Chooses how many runs train at the same time, where WORKERS= does not: one per core, or as many as a GPU can hold."""

from collections.abc import Collection

from visual_decathlon.benchmark.backbones.shapes import shapes_named
from visual_decathlon.benchmark.config.specs import Run
from visual_decathlon.benchmark.runtime.devices import on_cpu
from visual_decathlon.benchmark.runtime.nvml import free_memory
from visual_decathlon.datasets.cores import cores
from visual_decathlon.methods.shapes import Shapes

MAX_ON_GPU = 8
"""Measured on one H100 with 16 cores at f0db49d: eight processes trained ten runs of the stand-ins in about 10 s after
30 s of start, one process took 14 to 16 s for each. More than eight were not tried."""

PROCESS_BYTES = 2**30
"""GPU memory of a process in addition to its tensors: context, kernels, workspaces. Assumed, not measured."""


def default_workers(device: str, todo: Collection[Run]) -> int:
    """The number of worker processes: on a CPU one per core, however many runs there are.

    On a GPU from 1 to the number of runs, as memory allows; 1 where the free memory is unknown.
    """
    if on_cpu(device):
        return cores()
    free = free_memory(device)
    if free is None:
        return 1
    room = free // max(run_bytes(run, free) for run in todo)
    return max(1, min(cores(), len(todo), MAX_ON_GPU, room))


def run_bytes(run: Run, free: int) -> int:
    """GPU memory of a run, approximately: a training step, and its pixels if they fit into half of the `free` bytes."""
    profile = run.backbone.network_profile
    shapes = shapes_named(profile.network, profile.width, max(profile.crop, profile.uncropped_size))
    pixels = 3 * profile.resize**2 * (run.train.count + run.evaluate.count)
    resident = pixels if pixels <= free // 2 else 0
    return PROCESS_BYTES + step_bytes(shapes, profile.adapt.batch, profile.precision) + resident


def step_bytes(shapes: Shapes, batch: int, precision: str) -> int:
    """Peak memory of a training step in bytes, approximately, for every method.

    Each convolution keeps three maps until its gradients are computed: its input, its output, and an adapter's. Each
    weight has a gradient and a momentum. On a CPU, steps of five methods took 0.6 to 1.6 times as much (torch 2.15, one
    step each).
    """
    side, values = shapes.size, 0
    for conv in shapes.convs:
        values += conv.cin * side**2
        side = -(-side // conv.stride[0])
        values += 2 * conv.cout * side**2
    width = 2 if precision in ("bf16", "fp16") else 4
    return width * batch * values + 3 * 4 * shapes.base
