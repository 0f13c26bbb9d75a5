"""Filter atoms: every k x l slice of a kernel is a combination of a few atoms, and the atoms are what is trained."""

import math

import torch
from torch import Tensor, nn

from visual_decathlon.methods.layers.delta import DeltaConv


def cosine_atoms(kernel: tuple[int, int]) -> Tensor:
    """(k l, k l) float64: the products of cosines on a k x l grid, one a row, of length one and orthogonal."""

    def one_way(n: int) -> Tensor:
        place, wave = torch.arange(n, dtype=torch.float64), torch.arange(n, dtype=torch.float64)[:, None]
        basis = torch.cos(math.pi * wave * (place + 0.5) / n) * math.sqrt(2 / n)
        basis[0] /= math.sqrt(2)
        return basis

    return torch.kron(one_way(kernel[0]), one_way(kernel[1]))


def tuned_atoms(weight: Tensor, atoms: Tensor, change: Tensor) -> Tensor:
    """W + a ΔD, a the coefficients of W over orthonormal atoms D.

    `weight` (cout, cin / groups, k, l), `atoms` D (m, k l), `change` ΔD (m, k l). With a = W Dᵀ it is W (I + Dᵀ ΔD),
    W as (cout cin / groups, k l).
    """
    return weight + (weight.flatten(2) @ (atoms.t() @ change)).view_as(weight)


def tuned_channel_atoms(weight: Tensor, atoms: Tensor, change: Tensor, groups: int) -> Tensor:
    """As `tuned_atoms` with atoms for each input channel: `change` (cin, m, k l)."""
    maps = atoms.t() @ change  # (cin, k l, k l)
    grouped = weight.view(groups, -1, weight.shape[1], maps.shape[-1])  # (groups, cout / groups, cin / groups, k l)
    moved = torch.einsum("goit,gitu->goiu", grouped, maps.view(groups, -1, *maps.shape[1:]))
    return weight + moved.reshape(weight.shape)


class AtomsConv(DeltaConv):
    """W + a ΔD: the change of the layer's k l atoms, `change` (k l, k l) from zero."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__(conv)
        atoms = cosine_atoms(conv.kernel_size).to(conv.weight)
        self.register_buffer("atoms", atoms, persistent=False)
        self.change = self.zeros(*atoms.shape)

    def adapted_weight(self) -> Tensor:
        """W + a ΔD."""
        return tuned_atoms(self.conv.weight, self.atoms, self.change)


class InnerAtomsConv(DeltaConv):
    """W + a ΔD_i for input channel i, ΔD_i[m] = Σ_j β[m, i, j] `inner`[m, j], inner (k l, rank, k l) from zero."""

    def __init__(self, conv: nn.Conv2d, rank: int):
        super().__init__(conv)
        atoms = cosine_atoms(conv.kernel_size).to(conv.weight)
        self.register_buffer("atoms", atoms, persistent=False)
        self.coefficients = nn.Parameter(
            nn.init.normal_(self.empty(len(atoms), conv.in_channels, rank), std=1 / math.sqrt(rank))
        )
        self.inner = self.zeros(len(atoms), rank, len(atoms))

    def adapted_weight(self) -> Tensor:
        """W + a ΔD_i."""
        change = (self.coefficients @ self.inner).transpose(0, 1)  # (cin, m, k l)
        return tuned_channel_atoms(self.conv.weight, self.atoms, change, self.conv.groups)
