"""W' = m V / ‖V‖ with V = W + λ B A, the norm of each filter."""

import torch
from torch import Tensor, nn

from visual_decathlon.methods.layers.delta import DeltaConv
from visual_decathlon.methods.layers.low_rank import LoraConv


def lengths(weight: Tensor) -> Tensor:
    """(cout,): each filter's norm over (cin, k, l), never 0, so that a filter of zeros stays one."""
    return torch.linalg.vector_norm(weight, dim=(1, 2, 3)).clamp_min(torch.finfo(weight.dtype).tiny)


class DoraConv(LoraConv):
    def __init__(self, conv: nn.Conv2d, scale: float, rank: int):
        super().__init__(conv, scale, rank)
        self.magnitude = nn.Parameter(lengths(conv.weight.detach()))

    def weight(self) -> Tensor:
        v = super().weight()
        return v * (self.magnitude / lengths(v))[:, None, None, None]

    forward = DeltaConv.forward  # V's length needs the whole weight
