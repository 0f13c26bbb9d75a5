"""torch.compile for the training step, where a profile asks for it: other rounding, so it is opt-in and recorded."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from visual_decathlon.datasets.errors import InputError

SHAPES = 256  # of batches and networks in one process: torch's own limit is 8, and further ones stay uncompiled


@contextmanager
def compiled(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Context in which the network's body is compiled to fused kernels, at its first step and on the same tensors.

    The head is left out: it is the only difference between domains, so a process compiles once for all of them. Each
    batch size is compiled separately, and there are at most two. torch's own CUDA graphs are off: graph.py captures the
    whole step with the optimiser. Its caches on disk are off, because they are pickles. Raises InputError where
    torch.compile does not work, for example without a compiler.
    """
    torch._logging.set_logs(all=logging.ERROR)
    warnings.filterwarnings("ignore", module=r"torch\._(dynamo|inductor)")
    torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = SHAPES
    options = {"fx_graph_cache": False, "triton.cudagraphs": False}
    if torch.are_deterministic_algorithms_enabled() and "deterministic" in torch._inductor.list_options():
        options["deterministic"] = True  # choose no kernel by its measured speed; not in every torch
    try:
        torch.compile(torch.sin, dynamic=False, options=options)(torch.ones(2, device=device))
    except (RuntimeError, OSError) as error:
        cause = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)[:100]
        raise InputError(
            f"compile=true: torch.compile does not work here ({cause}); it needs g++ or clang++, or leave it out",
            field="settings",
        ) from None
    part = getattr(network, "body", network)
    part.compile(dynamic=False, options=options)
    try:
        yield
    finally:
        part._compiled_call_impl = None  # torch has no public way to undo compile()
