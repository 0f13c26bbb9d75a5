"""A kernel plus, tap by tap, reflections around a diagonal, and a low-rank matrix."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visual_decathlon.methods.layers.delta import DeltaConv


def reflect(rows: Tensor, v: Tensor) -> Tensor:
    """(..., c) rows times H = I - 2 v vᵀ / |v|²."""
    v = F.normalize(v, dim=0)
    return rows - 2 * (rows @ v)[..., None] * v


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
        """A random direction: its length is not the function's, but gradients go by its inverse."""
        v = self.empty(size)
        with torch.no_grad():
            v.copy_(F.normalize(v.normal_(), dim=0))
        return v

    def weight(self) -> Tensor:
        weight, least = self.conv.weight, self.d.shape[1]
        cout, cin = weight.shape[:2]
        d = F.pad(torch.diag_embed(self.d), (0, cin - least, 0, cout - least))  # (taps, cout, cin)
        taps = reflect(reflect(d, self.right).mT, self.left)  # (taps, cin, cout)
        return weight + taps.permute(2, 1, 0).reshape(weight.shape) + (self.b @ self.a).view(weight.shape)
