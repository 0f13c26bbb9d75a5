"""Tensors with the names of a ResNet-18 and hardly any numbers, for checkpoints as trainers write them."""

import torch
from torch import nn

from visual_decathlon.benchmark.backbones.selection import Selected

R18 = "torchvision/resnet18"
Tensors = dict[str, torch.Tensor]


def resnet(value: float = 1.0, head: bool = True) -> Tensors:
    """The names of torchvision's ResNet-18 (no shortcuts), of 4 features and 3 classes."""
    convs = ["conv1", *(f"layer{stage}.{block}.conv{n}" for stage in (1, 2, 3, 4) for block in (0, 1) for n in (1, 2))]
    tensors = {f"{conv}.weight": torch.full((4, 1, 1, 1), value) for conv in convs}
    for norm in (conv.replace("conv", "bn") for conv in convs):
        tensors |= {f"{norm}.running_var": torch.ones(4), f"{norm}.num_batches_tracked": torch.tensor(7)}
    return tensors | ({"fc.weight": torch.full((3, 4), value), "fc.bias": torch.zeros(3)} if head else {})


def within(prefix: str, tensors: Tensors) -> Tensors:
    return {prefix + name: tensor for name, tensor in tensors.items()}


NET, EMA, BODY = resnet(), resnet(2.0), resnet(head=False)
OWN_NAMES = {f"{'head' if n.startswith('fc.') else 'body'}.{n.removeprefix('fc.')}" for n in NET}


def trained(value: float = 1.0) -> torch.optim.Optimizer:
    parameter = nn.Parameter(torch.full((3,), value))
    optimiser = torch.optim.AdamW([parameter], lr=0.1)
    parameter.grad = torch.ones(3)
    optimiser.step()
    return optimiser


def value(selected: Selected) -> float:
    assert set(selected.tensors) == OWN_NAMES
    return selected.tensors["body.conv1.weight"].mean().item()


class Settings(dict):
    """A dictionary with a class and a method of its own."""

    class Inner:
        """A class within a class."""

    def method(self):
        pass
