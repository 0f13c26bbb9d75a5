"""A kernel plus the largest entries of a difference of distance matrices."""

import math

import torch
from torch import Tensor, nn

from visual_decathlon.methods.layers.delta import DeltaConv

HEADS = (0.1, -0.1)  # fixed
START = 3e-4  # |ΔM| / |M|


class SNELLConv(DeltaConv):
    """M + keep-largest(0.1 dist(o_1, i_1) - 0.1 dist(o_2, i_2)), points o for rows and i for columns of M."""

    def __init__(self, conv: nn.Conv2d, dim: int, kept: int):
        super().__init__(conv)
        self.kept = kept
        rows, cols = conv.weight.flatten(1).shape
        self.o = nn.init.kaiming_uniform_(self.empty(dim, rows), a=math.sqrt(5))
        self.i = nn.init.kaiming_uniform_(self.empty(dim, cols), a=math.sqrt(5))
        with torch.no_grad():
            scale = START * conv.weight.norm() / self.delta().norm()  # ΔM goes with the points, gradients do not
            self.o *= scale
            self.i *= scale

    def delta(self) -> Tensor:
        """(cout, n), `kept` of its entries not zero."""
        heads = zip(HEADS, self.o.chunk(2), self.i.chunk(2), strict=True)
        dense = sum(c * torch.cdist(o.mT, i.mT) for c, o, i in heads)
        size = dense.detach().abs()
        least = size.flatten().topk(self.kept, sorted=False).values.min()  # kthvalue's is not settled on a GPU
        return dense * (size >= least)

    def weight(self) -> Tensor:
        return self.conv.weight + self.delta().view(self.conv.weight.shape)
