"""Top-1 of a network on a split, with the adapters merged where the method can merge them."""

import time
from typing import NamedTuple

import torch
from torch import Tensor, nn

from visual_decathlon.benchmark.runtime import devices
from visual_decathlon.benchmark.runtime.precision import autocast
from visual_decathlon.datasets.errors import InputError, option
from visual_decathlon.methods.layers.network import Network, merge_for_inference

TOLERANCE = 1e-3  # of the largest logit; merging changes the order of float32 sums, not the network


class Result(NamedTuple):
    """An evaluated split."""

    logits: Tensor  # (N, classes), on the CPU, in the split's order
    correct: int | None  # null where the split has no labels
    img_s: float | None  # inference, images per second, batch 256


@torch.no_grad()
def evaluate(network: nn.Module, batches, precision: str = "fp32") -> Result:
    """Evaluates centre crops in order. The first batch warms up; img/s is null where it is the only one."""
    network.eval()
    device = batches.device
    rows, correct, seconds, images = [], 0, 0.0, 0
    for i, (x, y) in enumerate(batches.evaluate()):
        devices.synchronize(device)
        start = time.perf_counter()
        with autocast(device, precision):
            logits = network(x).float()
        devices.synchronize(device)
        if i > 0:
            seconds += time.perf_counter() - start
            images += len(x)
        _finite(logits)
        rows.append(logits.cpu())
        correct = correct + int((logits.argmax(1) == y).sum()) if len(y) else None
    return Result(torch.cat(rows), correct, images / seconds if seconds else None)


def _finite(logits: Tensor) -> None:
    """Raises InputError for infinite logits: the last step may leave finite weights that overflow."""
    if not logits.isfinite().all():
        raise InputError(f"the trained network's logits are not finite; lower the rate with {option('settings')}lr=")


@torch.no_grad()
def merge_checked(network: Network, batches, method: str) -> tuple[Network, float]:
    """The merged network and its largest deviation on one batch, relative to the largest logit."""
    network.eval()
    out = merge_for_inference(network)
    x, _ = next(iter(batches.evaluate()))
    plain, merged_logits = network(x), out(x)
    _finite(plain)
    difference = float((plain - merged_logits).abs().max() / plain.abs().max().clamp_min(1e-12))
    if not difference <= TOLERANCE:
        raise InputError(f"{method}: merging its adapters changes the logits by {difference:.1e}; fix `merge`")
    return out, difference
