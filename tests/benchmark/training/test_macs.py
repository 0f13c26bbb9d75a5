"""Multiply-adds by fvcore against a second opinion, torch's FlopCounterMode, on every method."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.training.macs import conv_macs, plain_path
from visual_decathlon.methods.layers.series import put_series
from visual_decathlon.methods.registry import entries

SIZE = 32
METHODS = {m.name: m for m in (entry() for entry in entries()) if not m.unsupported_reason("resnet26")}
FAST = {"finetune", "par_adapter", "res_adapter", "rep_adapter", "side", "spottune"}
# Their adapters run within the kernel of the convolution.
FUSED = {"adapter", "par_adapter", "par_adapter_svd", "par_adapter_joint_svd"}


def network_of(name: str) -> nn.Module:
    """The method's network in eval mode, at width 1/4."""
    method = METHODS[name]
    torch.manual_seed(0)
    source = resnet26(3, 0.25 * method.width_multiplier)
    if method.backbone_structure == "series":
        put_series(source)
    source = source.for_size(SIZE)
    return method.place(source.requires_grad_(False).eval(), 5).eval()


def counted_by_torch(network: nn.Module) -> int:
    """Multiply-adds of the convolutions that run; torch counts each as two operations."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, SIZE, SIZE))
    counts = counter.get_flop_counts()["Global"]
    assert counts.keys() <= {torch.ops.aten.convolution, torch.ops.aten.addmm, torch.ops.aten.mm, torch.ops.aten.bmm}
    return counts[torch.ops.aten.convolution] // 2


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in FAST)) for n in METHODS])
def test_fvcore_and_torch_count_the_same(name: str):
    network = network_of(name)
    with plain_path(network):
        assert conv_macs(network, SIZE) == counted_by_torch(network)
    if name in FUSED:  # as it runs, the adapter costs nothing: it is a part of the convolution's kernel
        assert counted_by_torch(network) == conv_macs(network_of("finetune"), SIZE) < conv_macs(network, SIZE)
    else:
        assert counted_by_torch(network) == conv_macs(network, SIZE)
