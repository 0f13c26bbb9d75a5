"""DoRA: W' = m V / ‖V‖ with V = W + λ B A, the norm taken over each filter."""

import torch
from torch import Tensor, nn

from visual_decathlon.methods.layers.delta import DeltaConv
from visual_decathlon.methods.layers.low_rank import LoraConv


def lengths(weight: Tensor) -> Tensor:
    """(cout,): each filter's norm over (cin, k, l), never 0, so that a filter of zeros stays one."""
    return torch.linalg.vector_norm(weight, dim=(1, 2, 3)).clamp_min(torch.finfo(weight.dtype).tiny)


def with_lengths(v: Tensor, magnitude: Tensor) -> Tensor:
    """The filters of V (cout, cin, k, l) scaled to the lengths `magnitude` (cout,)."""
    return v * (magnitude / lengths(v))[:, None, None, None]


class DoraConv(LoraConv):
    """m V / ‖V‖. m (cout,) starts at the lengths of W, and B at zero: the identity."""

    def __init__(self, conv: nn.Conv2d, scale: float, rank: int):
        super().__init__(conv, scale, rank)
        self.magnitude = nn.Parameter(lengths(conv.weight.detach()))

    def adapted_weight(self) -> Tensor:
        """W' = m V / ‖V‖, V the weight of LoRA."""
        return with_lengths(super().adapted_weight(), self.magnitude)

    forward = DeltaConv.forward  # the length of V needs the whole weight
