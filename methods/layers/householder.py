"""A kernel plus ΔW: for each tap two reflections around a diagonal, and a low-rank matrix."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visual_decathlon.methods.layers.delta import DeltaConv


def reflect(rows: Tensor, v: Tensor) -> Tensor:
    """(..., c) rows times H = I - 2 v vᵀ / |v|², v (c,)."""
    v = F.normalize(v, dim=0)
    return rows - 2 * (rows @ v)[..., None] * v


def reflected_diagonals(left: Tensor, right: Tensor, d: Tensor) -> Tensor:
    """H_L D_t H_R for each tap t, (cout, cin, taps).

    `left` (cout,) and `right` (cin,) are the vectors of the reflections, `d` (taps, min(cout, cin)) the diagonals.
    """
    cout, cin, least = len(left), len(right), d.shape[1]
    diagonals = F.pad(torch.diag_embed(d), (0, cin - least, 0, cout - least))  # (taps, cout, cin)
    return reflect(reflect(diagonals, right).mT, left).permute(2, 1, 0)


class HouseholderConv(DeltaConv):
    """W + ΔW, ΔW[:, :, u, v] = H_L D_uv H_R + (B A)[:, :, u, v], with D_uv (cout, cin) zero off its diagonal."""

    def __init__(self, conv: nn.Conv2d, rank: int):
        super().__init__(conv)
        cout, cin, *taps = conv.weight.shape
        self.left = self._unit(cout)
        self.right = self._unit(cin)
        self.d = self.zeros(math.prod(taps), min(cout, cin))
        self.a = nn.init.kaiming_uniform_(self.empty(rank, cin * math.prod(taps)), a=math.sqrt(5))
        self.b = self.zeros(cout, rank)

    def _unit(self, size: int) -> nn.Parameter:
        """A random direction of length 1. The length does not change the function, but it divides the gradient."""
        v = self.empty(size)
        with torch.no_grad():
            v.copy_(F.normalize(v.normal_(), dim=0))
        return v

    def adapted_weight(self) -> Tensor:
        """W' = W + the reflected diagonals + B A."""
        weight = self.conv.weight
        taps = reflected_diagonals(self.left, self.right, self.d)
        return weight + taps.reshape(weight.shape) + (self.b @ self.a).view(weight.shape)
