"""Exact counts of any network: its parameters and the bytes of its file. `training/macs.py` counts multiply-adds."""

from torch import nn

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
