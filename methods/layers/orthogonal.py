"""Convolutions whose kernel, as the matrix M with cout rows, is multiplied by an orthogonal matrix.

Signs and orders are those of HF PEFT's OFT, BOFT and HRA where they turn columns: M <- M Qᵀ.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visual_decathlon.methods.layers.delta import DeltaConv


def cayley(free: Tensor, size: int) -> Tensor:
    """(..., size (size - 1) / 2) -> (..., size, size): Q = (I - S)(I + S)⁻¹, exactly orthogonal, I at zero.

    `free` holds the entries of the skew-symmetric S above its diagonal, row by row.
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


def oft_matrix(matrix: Tensor, free: Tensor, block: int, side: str) -> Tensor:
    """Q M (`side` left) or M Qᵀ (right) of M (cout, n); Q has the Cayley blocks of `free` (d, b (b - 1) / 2)."""
    q = cayley(free, block)
    return turn(matrix, q) if side == "left" else turn(matrix.mT, q).mT


def boft_matrix(matrix: Tensor, free: Tensor, block: int) -> Tensor:
    """M (Q_m ... Q_1)ᵀ of M (cout, n); the i-th of the m butterflies has the Cayley blocks of `free[i]`."""
    turned = matrix.mT  # columns are rows here: half blocks are contiguous
    for i, q in enumerate(cayley(free, block)):
        halves = turned.reshape(-1, 2, 2**i, block // 2, turned.shape[1])
        pairs = halves.transpose(1, 2)
        turned = turn(pairs.flatten(0, 3), q).view(pairs.shape).transpose(1, 2).reshape(turned.shape)
    return turned.mT


def reflected_matrix(matrix: Tensor, u: Tensor) -> Tensor:
    """M H_1 ... H_r of M (cout, n), the reflections H_i = I - 2 u_i u_iᵀ / |u_i|² of the columns of u (n, r).

    The product in one piece (Joffrain 2006): I - U T⁻¹ Uᵀ, T = I / 2 + the part of UᵀU above its diagonal.
    """
    u = F.normalize(u, dim=0)
    t = (u.mT @ u).triu(1) + torch.eye(u.shape[1], device=u.device, dtype=u.dtype) / 2
    return matrix - torch.linalg.solve_triangular(t, matrix @ u, upper=True, left=False) @ u.mT


class OFTConv(DeltaConv):
    """Q M or M Qᵀ with Q block-diagonal: filters are mixed within blocks, or the weights of each filter."""

    def __init__(self, conv: nn.Conv2d, block: int, side: str):
        super().__init__(conv)
        self.block, self.side = block, side
        rows, cols = conv.weight.flatten(1).shape
        self.free = self.zeros((rows if side == "left" else cols) // block, block * (block - 1) // 2)

    def adapted_weight(self) -> Tensor:
        """W' of the matrix Q M or M Qᵀ."""
        return oft_matrix(self.conv.weight.flatten(1), self.free, self.block, self.side).reshape(self.conv.weight.shape)


class BOFTConv(DeltaConv):
    """M (Q_m ... Q_2 Q_1)ᵀ with butterflies Q_i: block-diagonal up to the order of the columns.

    Columns are half blocks in a row; the i-th butterfly, from 0, pairs each half block with the one 2^i further.
    """

    def __init__(self, conv: nn.Conv2d, block: int, factors: int):
        super().__init__(conv)
        self.block = block
        self.free = self.zeros(factors, conv.weight[0].numel() // block, block * (block - 1) // 2)

    def adapted_weight(self) -> Tensor:
        """W' of the matrix M (Q_m ... Q_1)ᵀ."""
        return boft_matrix(self.conv.weight.flatten(1), self.free, self.block).reshape(self.conv.weight.shape)


class HRAConv(DeltaConv):
    """M H_1 ... H_r with Householder reflections H_i = I - 2 u_i u_iᵀ / |u_i|²."""

    def __init__(self, conv: nn.Conv2d, rank: int):
        super().__init__(conv)
        self.u = self.empty(conv.weight[0].numel(), rank)
        with torch.no_grad():
            # Equal pairs cancel. The length of a vector does not change the function, but it divides the gradient: 1.
            start = self.u.new_empty(len(self.u), rank // 2 if rank % 2 == 0 else rank).normal_()
            self.u.copy_(F.normalize(start, dim=0).repeat_interleave(rank // start.shape[1], dim=1))

    def adapted_weight(self) -> Tensor:
        """W' of the matrix M H_1 ... H_r."""
        with torch.autocast(self.u.device.type, enabled=False):  # bfloat16 has no triangular solve
            out = reflected_matrix(self.conv.weight.flatten(1), self.u)
        return out.view(self.conv.weight.shape)
