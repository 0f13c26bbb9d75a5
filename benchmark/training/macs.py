"""What a method costs: multiply-adds of the convolutions, by fvcore; one multiply-add counts once."""

import hashlib
import logging
import warnings
from collections.abc import Iterator

import torch
from torch import nn

_ASIDE = ("training", "fused")  # of a module: what is counted, whatever they are
_KEPT: dict[str, int] = {}
"""By structure and size of image what was counted in this process: a trace takes as long as many steps."""


def conv_macs(network: nn.Module, size: int) -> int:
    """Multiply-adds of the convolutions for one (3, size, size) image, the adapters as the network holds them."""
    key = hashlib.sha256(repr((size, *_structure(network))).encode()).hexdigest()
    if key not in _KEPT:
        _KEPT[key] = _counted(network, size)
    return _KEPT[key]


def _structure(network: nn.Module) -> Iterator[tuple]:
    """All that decides which convolutions run on what shapes: modules, their settings and shapes of their tensors.

    The head, a linear layer behind them all, differs from domain to domain and is left out.
    """
    for path, module in network.named_modules():
        if path.rpartition(".")[2] == "head" and isinstance(module, nn.Linear):
            continue
        settings = {name: value for name, value in vars(module).items() if name not in _ASIDE and _simple(value)}
        tensors = [*module._parameters.items(), *module._buffers.items()]
        yield path, type(module), settings, [(name, tuple(t.shape)) for name, t in tensors if t is not None]


def _simple(value: object) -> bool:
    """A value whose text says all of it; modules that a method holds in a tuple stand at their own place."""
    if isinstance(value, tuple):
        return all(map(_simple, value))
    return value is None or isinstance(value, bool | int | float | str)


def _counted(network: nn.Module, size: int) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fvcore scripts at import, which torch has deprecated
        from fvcore.nn.jit_analysis import JitModelAnalysis
        from fvcore.nn.jit_handles import conv_flop_jit

    logging.getLogger("fvcore").setLevel(logging.ERROR)
    weight = next(network.parameters())
    x = torch.zeros(1, 3, size, size, device=weight.device, dtype=weight.dtype)
    was = network.training
    # fvcore reads the trace, which does not see into our fused convolutions: count the plain path.
    fused = [m for m in network.modules() if getattr(m, "fused", False)]
    try:
        for module in fused:
            module.fused = False
        # The convolutions alone: fvcore's handle for a matrix product fails on a matrix times a vector.
        count = JitModelAnalysis(network.eval(), x).set_op_handle("aten::_convolution", conv_flop_jit)
        return int(count.unsupported_ops_warnings(False).uncalled_modules_warnings(False).total())
    finally:
        for module in fused:
            module.fused = True
        network.train(was)
