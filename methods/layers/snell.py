"""SNELL: a kernel plus the largest entries of a difference of distance matrices."""

import math

import torch
from torch import Tensor, nn

from visual_decathlon.methods.layers.delta import DeltaConv

HEADS = (0.1, -0.1)  # fixed factors of the two heads
START = 3e-4  # |ΔM| / |M|


def largest_distances(o: Tensor, i: Tensor, kept: int) -> Tensor:
    """ΔM (cout, n): 0.1 dist(o_1, i_1) - 0.1 dist(o_2, i_2), all but the `kept` largest entries set to zero.

    `o` (dim, cout) and `i` (dim, n) are points of two heads, dim / 2 coordinates each. Entries as large as the last
    one that is kept stay too.
    """
    heads = zip(HEADS, o.chunk(2), i.chunk(2), strict=True)
    dense = sum(c * torch.cdist(rows.mT, columns.mT) for c, rows, columns in heads)
    size = dense.detach().abs()
    least = size.flatten().topk(kept, sorted=False).values.min()  # kthvalue is not deterministic on a GPU
    return dense * (size >= least)


class SNELLConv(DeltaConv):
    """M + keep-largest(0.1 dist(o_1, i_1) - 0.1 dist(o_2, i_2)), points o for rows and i for columns of M."""

    def __init__(self, conv: nn.Conv2d, dim: int, kept: int):
        super().__init__(conv)
        self.kept = kept
        rows, cols = conv.weight.flatten(1).shape
        self.o = nn.init.kaiming_uniform_(self.empty(dim, rows), a=math.sqrt(5))
        self.i = nn.init.kaiming_uniform_(self.empty(dim, cols), a=math.sqrt(5))
        with torch.no_grad():
            scale = START * conv.weight.norm() / self.delta().norm()  # ΔM scales with the points, gradients do not
            self.o *= scale
            self.i *= scale

    def delta(self) -> Tensor:
        """ΔM (cout, n), `kept` of its entries not zero."""
        return largest_distances(self.o, self.i, self.kept)

    def adapted_weight(self) -> Tensor:
        """W' of the matrix M + ΔM."""
        return self.conv.weight + self.delta().view(self.conv.weight.shape)
