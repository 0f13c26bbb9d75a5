"""The rows of networks: built by name, checked on images of the size, counted, then timed in each precision."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from visual_decathlon.benchmark.backbones.library import library_network
from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.perf.efficiency import count, passes
from visual_decathlon.benchmark.perf.efficiency.live_tensors import peak_activation
from visual_decathlon.benchmark.perf.rounds import Variant
from visual_decathlon.benchmark.runtime import devices
from visual_decathlon.benchmark.runtime.precision import half_of
from visual_decathlon.benchmark.runtime.progress import ProgressCallback, silent
from visual_decathlon.benchmark.training.macs import pass_macs
from visual_decathlon.datasets.errors import InputError, option, reason

CLASSES = 1000  # ImageNet's, so that counts are those that papers print
PRECISIONS, BATCHES = ("fp32", "bf16", "fp16"), (1, 64)
LONGEST = 10.0  # s: a forward pass that would take longer is not run
LAYOUTS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}

# What networks raise on images that are too small for them, or of another size than they were built for.
_UNFIT = (RuntimeError, AssertionError, ValueError, IndexError, TypeError, ZeroDivisionError)
_TIMES = [field.name for field in dataclasses.fields(passes.Times) if field.name != "rounds"]
_UNKNOWN = dict.fromkeys((*_TIMES, "activation_bytes", "allocated_bytes", "joules"))
_UNKNOWN |= {"rounds": 0, "dropped": 0, "reason": ""}


@dataclass(frozen=True)
class Ready:
    """A network on its device in eval mode, in a memory layout that it runs in; `about` has its own columns."""

    name: str
    module: nn.Module
    about: dict

    @property
    def device(self) -> torch.device:
        """The device of its weights."""
        return next(self.module.parameters()).device

    def images(self, batch: int, dtype: torch.dtype) -> torch.Tensor:
        """A batch of random images on the network's device, in its layout."""
        return passes.images(batch, self.about["size"], self.device, dtype, LAYOUTS[self.about["layout"]])


def build(name: str, classes: int) -> nn.Module:
    """The network of this name with random weights. Raises InputError for an unknown name."""
    return resnet26(classes) if name == "resnet26" else library_network(name, classes)


def ready(name: str, size: int, device: str) -> Ready:
    """The network with its exact counts. Raises InputError for an unknown name, or a size that it does not take."""
    module = build(name, CLASSES).eval().requires_grad_(False).to(device)
    about = {"network": name, "size": size, "classes": CLASSES, "parameters": count.parameters(module)}
    fault: Exception | None = None
    for layout, memory_format in LAYOUTS.items():
        try:
            x = passes.images(1, size, device, torch.float32, memory_format)
            macs = pass_macs(module.to(memory_format=memory_format), x)
        except _UNFIT as error:
            fault = error
        else:
            return Ready(name, module, about | {"macs": macs, "flops": 2 * macs, "layout": layout})
    raise InputError(
        f"{name} does not run on images of {size} × {size} pixels ({reason(fault)}); give another {option('size')}"
    )


def measured(networks: Sequence[Ready], progress: ProgressCallback = silent) -> Iterator[dict]:
    """A row for each precision, batch and network; the networks of a precision and a batch take turns.

    The modules are converted in place, so that only one copy of each is in memory.
    """
    for precision in PRECISIONS:
        dtype = half_of(precision) or torch.float32
        sizes = {network.name: count.file_bytes(network.module.to(dtype)) for network in networks}
        fastest: dict[str, float] = {}  # seconds of an image, by network, in the smaller batches
        for batch in BATCHES:
            about = {"precision": precision, "batch": batch}
            rows = [_UNKNOWN | n.about | about | {"file_bytes": sizes[n.name]} for n in networks]
            _measure(networks, rows, dtype, fastest, progress)
            yield from rows


def _measure(
    networks: Sequence[Ready],
    rows: Sequence[dict],
    dtype: torch.dtype,
    fastest: dict[str, float],
    progress: ProgressCallback,
) -> None:
    """Fill the rows of one precision and batch, and `fastest`. A row without times has the reason."""
    first: dict[str, tuple[Variant, float]] = {}
    batch, what = rows[0]["batch"], f"{rows[0]['precision']}, batch {rows[0]['batch']}"
    for network, row in zip(networks, rows, strict=True):
        progress(f"{what}, {network.name}, first pass", 0, 0)
        if (expected := batch * fastest.get(network.name, 0.0)) > LONGEST:
            row["reason"] = f"left out: a pass would take about {expected:.0f} s"
            continue
        try:
            first[network.name] = _first_passes(network, row, dtype)
        except RuntimeError as error:  # no such kernel, no memory, or a network that computes a part in fp32
            row |= _UNKNOWN | {"reason": f"torch does not run it: {reason(error)}"}
    if not first:
        return
    variants, seconds = zip(*first.values(), strict=True)
    rounds = passes.take_turns(list(variants), sum(seconds), progress, what)
    fastest |= {name: 1 / max(speeds) for name, speeds in rounds.speeds.items()}
    times = passes.times(rounds, batch)
    for network, row in zip(networks, rows, strict=True):
        if network.name in first:
            row |= dataclasses.asdict(times[network.name]) | {"dropped": rounds.dropped}
            row["joules"] = passes.joules(first[network.name][0], network.device)
    devices.free_cached(networks[0].device)


def _first_passes(network: Ready, row: dict, dtype: torch.dtype) -> tuple[Variant, float]:
    """Measure memory in the first passes, which warm up too; returns a pass to time, and about its seconds."""
    x = network.images(row["batch"], dtype)
    row["activation_bytes"] = peak_activation(network.module, x)
    variant = passes.forward(network.name, network.module, x)
    devices.synchronize(x.device)
    devices.reset_peak(x.device)
    before = devices.peak(x.device)
    seconds = passes.seconds_of(variant)
    if before is not None:
        row["allocated_bytes"] = devices.peak(x.device) - before + x.nbytes
    return variant, seconds
