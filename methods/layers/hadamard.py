"""ΔW of element-wise and Kronecker products (LoHa, LoKr, HiRA)."""

from math import prod, sqrt

import torch
from torch import Tensor, nn

from visual_decathlon.methods.layers.delta import DeltaConv
from visual_decathlon.methods.shapes import KroneckerShape


def hadamard_delta(up1: Tensor, down1: Tensor, up2: Tensor, down2: Tensor) -> Tensor:
    """(B1 A1) ⊙ (B2 A2), (cout, n), of B (cout, rank) and A (rank, n)."""
    return (up1 @ down1) * (up2 @ down2)


def kronecker_delta(left: Tensor, right: Tensor, kernel: tuple[int, int]) -> Tensor:
    """W1 ⊗ W2, (out1 out2, in1 in2, k, l), of W1 (out1, in1) and W2 (out2, in2 k l) as a matrix."""
    return torch.kron(left[:, :, None, None], right.view(len(right), -1, *kernel))


def relative_weight(weight: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """W ⊙ (1 + B A) in the shape of the kernel, B (cout, rank) and A (rank, n)."""
    return weight * (1 + (up @ down).view_as(weight))


class LoHaConv(DeltaConv):
    """W + λ (B1 A1) ⊙ (B2 A2), B2 from zero: the identity."""

    def __init__(self, conv: nn.Conv2d, scale: float, rank: int):
        super().__init__(conv)
        self.scale = scale
        cout, n = conv.out_channels, conv.weight[0].numel()
        self.up1, self.down1 = self.empty(cout, rank), self.empty(rank, n)
        self.up2, self.down2 = self.zeros(cout, rank), self.empty(rank, n)
        nn.init.normal_(self.up1, std=1 / sqrt(rank))
        nn.init.normal_(self.down1)
        nn.init.kaiming_uniform_(self.down2, a=sqrt(5))

    def adapted_weight(self) -> Tensor:
        """W' = W + λ (B1 A1) ⊙ (B2 A2)."""
        delta = hadamard_delta(self.up1, self.down1, self.up2, self.down2)
        return self.conv.weight + self.scale * delta.view_as(self.conv.weight)


class LoKrConv(DeltaConv):
    """W + λ W1 ⊗ W2, W2 or its factor B from zero: the identity."""

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

    def adapted_weight(self) -> Tensor:
        """W' = W + λ W1 ⊗ W2, W2 = B A where it has a rank."""
        right = self.up @ self.down if self.shapes.rank else self.right
        return self.conv.weight + self.scale * kronecker_delta(self.left, right, self.shapes.kernel)


class HiRAConv(DeltaConv):
    """W + W ⊙ (B A), B from zero: the identity."""

    def __init__(self, conv: nn.Conv2d, rank: int):
        super().__init__(conv)
        self.up, self.down = self.zeros(conv.out_channels, rank), self.empty(rank, conv.weight[0].numel())
        nn.init.normal_(self.down)

    def adapted_weight(self) -> Tensor:
        """W' = W ⊙ (1 + B A)."""
        return relative_weight(self.conv.weight, self.up, self.down)
