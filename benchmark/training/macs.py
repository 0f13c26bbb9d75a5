"""Counts the multiply-adds of a network's convolutions with fvcore; one multiply-add counts once."""

import hashlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

_IGNORED = ("training", "fused")  # settings of a module that do not change the count
_COUNTED: dict[str, int] = {}
"""Counts of this process, by structure and image size: a trace takes as long as many training steps."""


def conv_macs(network: nn.Module, size: int) -> int:
    """Multiply-adds of the convolutions for one (3, size, size) image, the adapters as the network holds them."""
    key = hashlib.sha256(repr((size, *_structure(network))).encode()).hexdigest()
    if key not in _COUNTED:
        _COUNTED[key] = _count(network, size)
    return _COUNTED[key]


def _structure(network: nn.Module) -> Iterator[tuple]:
    """Everything that decides which convolutions run on which shapes: modules, their settings, shapes of their tensors.

    The head is left out: it is a linear layer behind all convolutions and differs between domains.
    """
    for path, module in network.named_modules():
        if path.rpartition(".")[2] == "head" and isinstance(module, nn.Linear):
            continue
        settings = {name: value for name, value in vars(module).items() if name not in _IGNORED and _simple(value)}
        tensors = [*module._parameters.items(), *module._buffers.items()]
        yield path, type(module), settings, [(name, tuple(t.shape)) for name, t in tensors if t is not None]


def _simple(value: object) -> bool:
    """Whether repr(value) describes the value completely; modules in a tuple are also listed at their own place."""
    if isinstance(value, tuple):
        return all(map(_simple, value))
    return value is None or isinstance(value, bool | int | float | str)


def _count(network: nn.Module, size: int) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fvcore scripts at import, which torch has deprecated
        from fvcore.nn.jit_analysis import JitModelAnalysis
        from fvcore.nn.jit_handles import conv_flop_jit

    logging.getLogger("fvcore").setLevel(logging.ERROR)
    weight = next(network.parameters())
    x = torch.zeros(1, 3, size, size, device=weight.device, dtype=weight.dtype)
    was_training = network.training
    try:
        with plain_path(network):
            # The convolutions alone: fvcore's handle for a matrix product fails on a matrix times a vector.
            count = JitModelAnalysis(network.eval(), x).set_op_handle("aten::_convolution", conv_flop_jit)
            return int(count.unsupported_ops_warnings(False).uncalled_modules_warnings(False).total())
    finally:
        network.train(was_training)


@contextmanager
def plain_path(network: nn.Module) -> Iterator[None]:
    """Context without fused convolutions, which fvcore cannot see in a trace."""
    fused = [m for m in network.modules() if getattr(m, "fused", False)]
    for module in fused:
        module.fused = False
    try:
        yield
    finally:
        for module in fused:
            module.fused = True
