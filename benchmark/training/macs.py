"""Counts the multiply-adds of a network; one multiply-add counts once (1 MAC = 2 FLOPs).

Records of the suite's own ResNet-26 hold those of its convolutions, by fvcore: `conv_macs`. In other networks the work
may lie in linear layers and in attention: `image_macs` counts these too, by torch's counter. Batch norm, biases,
activations, softmax and pooling are not counted.
"""

import hashlib
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

_IGNORED = ("training", "fused")  # settings of a module that do not change the count
_COUNTED: dict[str, int] = {}
"""Counts of this process, by structure and image size: a trace takes as long as many training steps."""


def conv_macs(network: nn.Module, size: int) -> int:
    """Multiply-adds of the convolutions for one (3, size, size) image, the adapters as the network holds them."""
    return _once(_count, network, size)


def image_macs(network: nn.Module, size: int) -> int:
    """Multiply-adds for one (3, size, size) image: convolutions, linear layers without the head, attention's products.

    Only what grows with the batch counts: the product of two adapters' weights is one for all images. So it is the
    count of two images less that of one.
    """
    return _once(_count_of_image, network, size)


def _once(counter: Callable[[nn.Module, int], int], network: nn.Module, size: int) -> int:
    """The count, which is made once for networks of one structure."""
    key = hashlib.sha256(repr((counter.__name__, size, *_structure(network))).encode()).hexdigest()
    if key not in _COUNTED:
        _COUNTED[key] = counter(network, size)
    return _COUNTED[key]


def _count_of_image(network: nn.Module, size: int) -> int:
    weight = next(network.parameters())
    one, two = (torch.zeros(n, 3, size, size, device=weight.device, dtype=weight.dtype) for n in (1, 2))
    with plain_path(network):
        return _macs_of_batch(network, two) - _macs_of_batch(network, one) - _head_macs(network)


def _head_macs(network: nn.Module) -> int:
    """Multiply-adds of the domain's head; the network may be within another one, which chooses the domain."""
    return getattr(network, "network", network).head.weight.numel()


def pass_macs(network: nn.Module, x: Tensor) -> int:
    """Multiply-adds of a forward pass in eval mode for one of the images x (N, 3, H, W), by torch's counter.

    They are those of convolutions, linear layers and both products of attention. torch counts FLOPs, two for each
    multiply-add. fvcore does not see the products of fused attention.
    """
    return _macs_of_batch(network, x) // len(x)


def _macs_of_batch(network: nn.Module, x: Tensor) -> int:
    was_training, trained = network.training, [p for p in network.parameters() if p.requires_grad]
    try:
        for p in trained:  # torch's counter fails on a trained token that is a module's input where there is no graph
            p.requires_grad_(False)
        with torch.no_grad(), _plain_attention(), FlopCounterMode(display=False) as counter:
            network.eval()(x)
    finally:
        network.train(was_training)
        for p in trained:
            p.requires_grad_(True)
    return counter.get_total_flops() // 2


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Context without the fast path of nn.MultiheadAttention, one operation of which torch's counter counts nothing."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _structure(network: nn.Module) -> Iterator[tuple]:
    """Everything that decides which convolutions run on which shapes: modules, their settings, shapes of their tensors.

    The head is left out: it is a linear layer behind all convolutions and differs between domains.
    """
    for path, module in network.named_modules():
        if _is_head(path, module):
            continue
        settings = {name: value for name, value in vars(module).items() if name not in _IGNORED and _simple(value)}
        tensors = [*module._parameters.items(), *module._buffers.items()]
        yield path, type(module), settings, [(name, tuple(t.shape)) for name, t in tensors if t is not None]


def _is_head(path: str, module: nn.Module) -> bool:
    return path.rpartition(".")[2] == "head" and isinstance(module, nn.Linear)


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
