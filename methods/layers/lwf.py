"""Distillation of a network's soft outputs (Hinton 2015; Li and Hoiem 2016)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def distillation(logits: Tensor, teacher: nn.Module, x: Tensor, temperature: float) -> Tensor:
    """Mean KL divergence of softmax(logits / T) from the teacher's of the same images."""
    with torch.no_grad():
        wanted = (teacher(x) / temperature).log_softmax(1)
    got = (logits / temperature).log_softmax(1)
    return F.kl_div(got, wanted, reduction="batchmean", log_target=True)
