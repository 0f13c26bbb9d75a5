"""Applies a KernelChoice to a network."""

import contextlib

from torch import nn

from visual_decathlon.benchmark.config.kernels import KernelChoice


def kernels_applied(choice: KernelChoice, network: nn.Module) -> contextlib.AbstractContextManager:
    """Context in which the network's batch norms are computed by the kernels of `choice`."""
    if choice.norm == "plain":
        return contextlib.nullcontext()
    from visual_decathlon.benchmark.training.fused_norm import fused_norms

    return fused_norms(network)
