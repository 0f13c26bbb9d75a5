"""Exact counts of any network: its parameters, the bytes of its file, the multiply-adds of a forward pass.

One multiply-add counts once (1 MAC = 2 FLOPs), in convolutions, linear layers and both products of attention. Batch
norm, biases, activations, softmax and pooling are not counted.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from visual_decathlon.benchmark.backbones.safetensors_file import on_host, safetensors_bytes


def parameters(network: nn.Module) -> int:
    """Numbers in the trainable tensors; a tensor that two layers share counts once."""
    return sum(p.numel() for p in network.parameters())


def file_bytes(network: nn.Module) -> int:
    """Bytes of the network as a safetensors file, batch norm's statistics too; it is serialised, but not written.

    A tensor with several names is stored once.
    """
    named = reversed(network.state_dict(keep_vars=True).items())
    unique = {id(t): (name, t) for name, t in named}
    tensors = {name: t.contiguous() for name, t in on_host(dict(unique.values()), copy=True).items()}
    return sum(map(len, safetensors_bytes(tensors, {})))


def macs(network: nn.Module, x: Tensor) -> int:
    """Multiply-adds of a forward pass in eval mode for one of the images x (N, 3, H, W), by torch's counter.

    torch counts FLOPs, two for each multiply-add. fvcore, which records of runs use for convolutions, does not see the
    products of fused attention.
    """
    was_training = network.training
    try:
        with torch.no_grad(), _plain_attention(), FlopCounterMode(display=False) as counter:
            network.eval()(x)
    finally:
        network.train(was_training)
    return counter.get_total_flops() // (2 * len(x))


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Context without the fast path of nn.MultiheadAttention, one operation of which torch's counter counts nothing."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
