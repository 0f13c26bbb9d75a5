"""ΔW of element-wise and Kronecker products."""

from math import prod, sqrt

import torch
from torch import Tensor, nn

from visual_decathlon.methods.layers.delta import DeltaConv
from visual_decathlon.methods.shapes import KroneckerShape


class LoHaConv(DeltaConv):
    """W + λ (B1 A1) ⊙ (B2 A2)."""

    def __init__(self, conv: nn.Conv2d, scale: float, rank: int):
        super().__init__(conv)
        self.scale = scale
        cout, n = conv.out_channels, conv.weight[0].numel()
        self.up1, self.down1 = self.empty(cout, rank), self.empty(rank, n)
        self.up2, self.down2 = self.zeros(cout, rank), self.empty(rank, n)
        nn.init.normal_(self.up1, std=1 / sqrt(rank))
        nn.init.normal_(self.down1)
        nn.init.kaiming_uniform_(self.down2, a=sqrt(5))

    def weight(self) -> Tensor:
        delta = (self.up1 @ self.down1) * (self.up2 @ self.down2)
        return self.conv.weight + self.scale * delta.view_as(self.conv.weight)


class LoKrConv(DeltaConv):
    """W + λ W1 ⊗ W2."""

    def __init__(self, conv: nn.Conv2d, scale: float, shapes: KroneckerShape):
        super().__init__(conv)
        self.scale, self.shapes = scale, shapes
        self.left = self.empty(shapes.out1, shapes.in1)
        nn.init.kaiming_uniform_(self.left, a=sqrt(5))
        columns = shapes.in2 * prod(shapes.kernel)
        if shapes.rank:
            self.up, self.down = self.zeros(shapes.out2, shapes.rank), self.empty(shapes.rank, columns)
            nn.init.kaiming_uniform_(self.down, a=sqrt(5))
        else:
            self.right = self.zeros(shapes.out2, columns)

    def weight(self) -> Tensor:
        right = self.up @ self.down if self.shapes.rank else self.right
        delta = torch.kron(self.left[:, :, None, None], right.view(self.shapes.out2, -1, *self.shapes.kernel))
        return self.conv.weight + self.scale * delta


class HiRAConv(DeltaConv):
    """W + W ⊙ (B A)."""

    def __init__(self, conv: nn.Conv2d, rank: int):
        super().__init__(conv)
        self.up, self.down = self.zeros(conv.out_channels, rank), self.empty(rank, conv.weight[0].numel())
        nn.init.normal_(self.down)

    def weight(self) -> Tensor:
        return self.conv.weight * (1 + (self.up @ self.down).view_as(self.conv.weight))
