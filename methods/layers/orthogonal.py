"""Convolutions whose kernel, as the matrix M of cout rows, is turned by an orthogonal matrix.

Signs and orders are those of HF PEFT's OFT, BOFT and HRA where they turn columns: M <- M Qᵀ.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visual_decathlon.methods.layers.delta import DeltaConv


def cayley(free: Tensor, size: int) -> Tensor:
    """(..., size (size - 1) / 2) -> (..., size, size): Q = (I - S)(I + S)⁻¹, exactly orthogonal, I at zero.

    `free` is what the skew-symmetric S has above its diagonal, row by row.
    """
    rows, cols = torch.triu_indices(size, size, 1, device=free.device)
    upper = free.new_zeros(*free.shape[:-1], size, size)
    upper[..., rows, cols] = free
    skew = upper - upper.mT
    eye = torch.eye(size, device=free.device, dtype=free.dtype)
    return torch.linalg.solve(eye + skew, eye - skew)


def turn(matrix: Tensor, blocks: Tensor) -> Tensor:
    """(d b, c), (d, b, b) -> (d b, c): block-diagonal matrix times matrix."""
    return (blocks @ matrix.unflatten(0, blocks.shape[:2])).flatten(0, 1)


class OFTConv(DeltaConv):
    """Q M or M Qᵀ with Q block-diagonal: filters are mixed within blocks, or the weights of every filter."""

    def __init__(self, conv: nn.Conv2d, block: int, side: str):
        super().__init__(conv)
        self.block, self.side = block, side
        rows, cols = conv.weight.flatten(1).shape
        self.free = self.zeros((rows if side == "left" else cols) // block, block * (block - 1) // 2)

    def weight(self) -> Tensor:
        q, matrix = cayley(self.free, self.block), self.conv.weight.flatten(1)
        if self.side == "left":
            out = turn(matrix, q)
        else:
            out = turn(matrix.mT, q).mT
        return out.reshape(self.conv.weight.shape)


class BOFTConv(DeltaConv):
    """M (Q_m ... Q_2 Q_1)ᵀ with butterflies Q_i: block-diagonal up to the order of the columns.

    Columns are half blocks in a row; the i-th butterfly, from 0, pairs each half block with the one 2^i further.
    """

    def __init__(self, conv: nn.Conv2d, block: int, factors: int):
        super().__init__(conv)
        self.block = block
        self.free = self.zeros(factors, conv.weight[0].numel() // block, block * (block - 1) // 2)

    def weight(self) -> Tensor:
        matrix = self.conv.weight.flatten(1).mT  # columns are rows here: halves lie in one piece
        for i, q in enumerate(cayley(self.free, self.block)):
            halves = matrix.reshape(-1, 2, 2**i, self.block // 2, matrix.shape[1])
            pairs = halves.transpose(1, 2)
            matrix = turn(pairs.flatten(0, 3), q).view(pairs.shape).transpose(1, 2).reshape(matrix.shape)
        return matrix.mT.reshape(self.conv.weight.shape)


class HRAConv(DeltaConv):
    """M H_1 ... H_r with Householder reflections H_i = I - 2 u_i u_iᵀ / |u_i|²."""

    def __init__(self, conv: nn.Conv2d, rank: int):
        super().__init__(conv)
        self.u = self.empty(conv.weight[0].numel(), rank)
        with torch.no_grad():
            # Pairs cancel. The length of a vector is not the function's, but gradients go by its inverse: 1.
            start = self.u.new_empty(len(self.u), rank // 2 if rank % 2 == 0 else rank).normal_()
            self.u.copy_(F.normalize(start, dim=0).repeat_interleave(rank // start.shape[1], dim=1))

    def weight(self) -> Tensor:
        """The product in one piece (Joffrain 2006): I - U T⁻¹ Uᵀ, T = I / 2 + the part of UᵀU above its diagonal."""
        with torch.autocast(self.u.device.type, enabled=False):  # bfloat16 has no triangular solve
            u, matrix = F.normalize(self.u, dim=0), self.conv.weight.flatten(1)
            t = (u.mT @ u).triu(1) + torch.eye(u.shape[1], device=u.device, dtype=u.dtype) / 2
            out = matrix - torch.linalg.solve_triangular(t, matrix @ u, upper=True, left=False) @ u.mT
        return out.view(self.conv.weight.shape)
