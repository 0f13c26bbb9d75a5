"""torch.compile for the training step, where a profile asks for it: other rounding, so it is opt-in and recorded."""

import logging
import shutil

import torch
from torch import nn

from datasets.errors import BadInput


def compiled(network: nn.Module, device: torch.device) -> nn.Module:
    """The network, on the same tensors, as fused kernels that are made at its first step; on a GPU in CUDA graphs.

    A step with another number of images is compiled again, and batches have at most two sizes. Its caches on disk are
    off, since they are pickles. Raises BadInput where there is no compiler.
    """
    if not any(map(shutil.which, ("cc", "gcc", "clang"))) or not any(map(shutil.which, ("c++", "g++", "clang++"))):
        raise BadInput(
            "SET=compile=true: there is no C and C++ compiler on the path; install gcc and g++, or leave it out"
        )
    torch._logging.set_logs(all=logging.ERROR)
    options = {"fx_graph_cache": False, "triton.cudagraphs": device.type == "cuda"}
    return torch.compile(network, dynamic=False, options=options)
