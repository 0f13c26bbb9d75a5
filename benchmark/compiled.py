"""torch.compile for the training step, where a profile asks for it: other rounding, so it is opt-in and recorded."""

import logging
import warnings

import torch
from torch import nn

from datasets.errors import BadInput


def compiled(network: nn.Module, device: torch.device) -> nn.Module:
    """The network, on the same tensors, as fused kernels that are made at its first step.

    torch's own CUDA graphs are off: the whole step, optimiser and all, is captured (benchmark/training). A step with
    another number of images is compiled again, and batches have at most two sizes. Its caches on disk are off, since
    they are pickles. Raises BadInput where torch.compile does not work, as without a compiler.
    """
    torch._logging.set_logs(all=logging.ERROR)
    warnings.filterwarnings("ignore", module=r"torch\._(dynamo|inductor)")
    options = {"fx_graph_cache": False, "triton.cudagraphs": False}
    if torch.are_deterministic_algorithms_enabled() and "deterministic" in torch._inductor.list_options():
        options["deterministic"] = True  # no kernel is chosen by how fast it was this time; not in every torch
    try:
        torch.compile(torch.sin, dynamic=False, options=options)(torch.ones(2, device=device))
    except (RuntimeError, OSError) as error:
        what = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)[:100]
        raise BadInput(
            f"SET=compile=true: torch.compile does not work here ({what}); it needs g++ or clang++, or leave it out"
        ) from None
    return torch.compile(network, dynamic=False, options=options)
