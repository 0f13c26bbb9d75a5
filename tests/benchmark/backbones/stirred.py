"""Networks whose every parameter counts, drawn images and the distance of two tensors."""

import torch
from torch import nn

from visual_decathlon.methods.layers.adapter import Adapter
from visual_decathlon.methods.layers.parallel import ParallelConv


def stirred(network: nn.Module, seed: int = 0) -> nn.Module:
    """Every parameter and statistic away from its start, so that nothing cancels or vanishes."""
    generator = torch.Generator().manual_seed(seed)

    def rand(t: torch.Tensor) -> torch.Tensor:
        return torch.rand(t.shape, generator=generator, dtype=t.dtype)

    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.copy_(0.5 + rand(module.weight))
                module.bias.copy_(rand(module.bias) - 0.5)
                module.running_mean.copy_(rand(module.running_mean) - 0.5)
                module.running_var.copy_(0.5 + rand(module.running_var))
            elif isinstance(module, Adapter):
                side = module.side if isinstance(module, ParallelConv) else module.mix
                side.weight.copy_((rand(side.weight) - 0.5) / side.in_channels**0.5)
    return network


def image(size: int, dtype=torch.float64, count: int = 1) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(7), dtype=dtype)


def off(got: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((got - wanted).detach().abs().max() / wanted.detach().abs().max())
