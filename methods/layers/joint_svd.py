"""Parallel adapters A = C V of all domains, V a basis that they share (Rebuffi, Bilen, Vedaldi, CVPR 2018).

A convolution of the trunk has the basis as buffers of its own, which the networks of all domains share with it as they
share its weight: `basis` (r, cin), orthonormal rows, and `full`, true until `compress` has set the basis.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from visual_decathlon.methods.layers.network import Network
from visual_decathlon.methods.layers.parallel import ParallelConv


def give_basis(conv: nn.Conv2d, rank: int, persistent: bool) -> None:
    """Gives a convolution the buffers `basis`, at first `rank` unit vectors, and `full`."""
    like = {"device": conv.weight.device, "dtype": conv.weight.dtype}
    conv.register_buffer("basis", torch.eye(rank, conv.in_channels, **like), persistent)
    conv.register_buffer("full", torch.ones((), dtype=torch.bool, device=conv.weight.device), persistent)


def in_basis(matrix: Tensor, basis: Tensor) -> Tensor:
    """(cout, cin) in the orthonormal basis (r, cin): the coefficients (cout, r) of its projection."""
    return matrix @ basis.t()


def common_basis(matrices: Sequence[Tensor], rank: int) -> Tensor:
    """(r, cin), orthonormal rows: the basis in which matrices (cout, cin) lose least, summed over their squares.

    It is the first right singular vectors of the matrices stacked to (domains cout, cin). Where these are fewer rows
    than `rank`, they lose nothing, and any orthonormal rows fill the basis up.
    """
    stacked = torch.cat(list(matrices))
    return torch.linalg.svd(stacked, full_matrices=len(stacked) < rank)[2][:rank]


class SharedBasisConv(ParallelConv):
    """conv(x) + A x, with A = C V once V, the basis of all domains, is set; before that, A is `side`.

    `side` (cout, cin, 1, 1) is trained throughout: C = side Vᵀ. As V has orthonormal rows, a step on `side` is the same
    step on C, and the rest of `side` is in no output.
    """

    def pointwise_kernel(self) -> Tensor:
        """A (cout, cin, 1, 1)."""
        side, basis = self.side.weight[:, :, 0, 0], self.conv.basis
        return torch.where(self.conv.full, side, in_basis(side, basis) @ basis)[:, :, None, None]

    def merge(self) -> nn.Conv2d:
        """As a ParallelConv, without the basis."""
        out = super().merge()
        out._buffers = {}
        return out

    def stored(self) -> dict[str, Tensor]:
        """The domain's own factor C (cout, r)."""
        return {"coefficients": in_basis(self.side.weight.detach()[:, :, 0, 0], self.conv.basis)}

    def unpacked(self, stored: dict[str, Tensor]) -> dict[str, Tensor]:
        """`side` as C V."""
        return {"side.weight": (stored["coefficients"] @ self.conv.basis)[:, :, None, None]}


@torch.no_grad()
def compress(networks: Sequence[Network]) -> None:
    """Sets each basis to the common one of the adapters of all networks, which share its buffers."""
    adapters = ([m for m in network.modules() if isinstance(m, SharedBasisConv)] for network in networks)
    for same in zip(*adapters, strict=True):
        conv = same[0].conv
        conv.basis.copy_(common_basis([adapter.side.weight[:, :, 0, 0] for adapter in same], len(conv.basis)))
        conv.full.fill_(False)
