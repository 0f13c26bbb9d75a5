"""LwF: distillation of a network's soft outputs (Hinton 2015; Li and Hoiem 2016)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def distillation(logits: Tensor, teacher: nn.Module, x: Tensor, temperature: float) -> Tensor:
    """Mean KL divergence KL(teacher || student) of the softmax at temperature T, of the same images x."""
    with torch.no_grad():
        target = (teacher(x) / temperature).log_softmax(1)
    output = (logits / temperature).log_softmax(1)
    return F.kl_div(output, target, reduction="batchmean", log_target=True)
