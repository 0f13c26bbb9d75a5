"""ΔW from frozen random matrices that all layers of a network share, scaled by trained vectors (VeRA, RandLoRA)."""

from math import ceil, sqrt

import torch
from torch import Tensor, nn

from visual_decathlon.methods.layers.delta import DeltaConv
from visual_decathlon.methods.layers.drawn import uniform
from visual_decathlon.methods.layers.network import Network

START_D = 0.1  # of VeRA's d, as in its paper


def vera_delta(left: Tensor, right: Tensor, b: Tensor, d: Tensor) -> Tensor:
    """diag(b) B diag(d) A, (cout, n), of B (cout, rank), A (rank, n), b (cout,) and d (rank,)."""
    return (b[:, None] * left) @ (d[:, None] * right)


def randlora_delta(long: Tensor, short: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Σ_j B_j diag(λ_j) A diag(γ_j), (longer side, shorter side).

    `long` (bases * rank, longer side) holds the transposed B_j one below the other, `short` is A (rank, shorter side),
    `rows` λ (bases, rank), `columns` γ (bases, shorter side).
    """
    # λ goes to the smaller matrix, so that the larger one is used as it is.
    scaled = rows[:, :, None] * short * columns[:, None, :]
    return long.mT @ scaled.flatten(0, 1)


class RandomBasisConv(DeltaConv):
    """A DeltaConv with two frozen random matrices of mean 0 and variance 1, which may belong to another layer.

    A subclass gives their shapes in `needed`. A layer uses the first rows and columns of larger ones.
    """

    def __init__(self, conv: nn.Conv2d, seed: int):
        super().__init__(conv)
        # In a tuple, so that torch does not register it as a submodule: a matrix keeps one name and one owner.
        self.owner: tuple[RandomBasisConv, ...] = ()
        self.draw(seed, *self.needed(conv))

    def needed(self, conv: nn.Conv2d) -> tuple[tuple[int, int], tuple[int, int]]:
        """Shapes of the two matrices for this convolution."""
        raise NotImplementedError

    def draw(self, seed: int, *shapes: tuple[int, int]) -> None:
        """Draws own matrices of these shapes: buffers that are not stored, since the seed gives them again."""
        for number, (name, shape) in enumerate(zip(("first", "second"), shapes, strict=True)):
            # A generator seeded with a number takes 32 bits of it: the two matrices have seeds 2 s and 2 s + 1.
            self.register_buffer(name, uniform(2 * seed + number, *shape, like=self.conv.weight), persistent=False)

    def use(self, owner: "RandomBasisConv") -> None:
        """Drops this layer's own matrices and uses those of `owner`, which are at least as large."""
        del self.first, self.second
        self.owner = (owner,)

    def bases(self) -> tuple[Tensor, Tensor]:
        """The two matrices in the shapes of `needed`, views of the owner's."""
        owner = self.owner[0] if self.owner else self
        (r1, c1), (r2, c2) = self.needed(self.conv)
        return owner.first[:r1, :c1], owner.second[:r2, :c2]


class VeraConv(RandomBasisConv):
    """W + s diag(b) B diag(d) A, b from zero: the identity. d starts at 0.1, and s is 10 / √(rank n).

    So b is the length of a filter's change at first, and b and d learn at similar rates.
    """

    def __init__(self, conv: nn.Conv2d, rank: int, seed: int):
        self.rank = rank
        super().__init__(conv, seed)
        self.scale = 1 / (START_D * sqrt(rank * conv.weight[0].numel()))
        self.b = self.zeros(conv.out_channels)
        self.d = nn.Parameter(torch.full_like(self.zeros(rank), START_D))

    def needed(self, conv: nn.Conv2d) -> tuple[tuple[int, int], tuple[int, int]]:
        """B (cout, rank) and A (rank, n)."""
        return (conv.out_channels, self.rank), (self.rank, conv.weight[0].numel())

    def adapted_weight(self) -> Tensor:
        """W' = W + s diag(b) B diag(d) A."""
        delta = vera_delta(*self.bases(), self.scale * self.b, self.d)
        return self.conv.weight + delta.view_as(self.conv.weight)


class RandLoraConv(RandomBasisConv):
    """W + s Σ_j B_j diag(λ_j) A diag(γ_j), s = 1 / √(cout n): each term has length one for λ of length one.

    λ from zero: the identity. γ is 1 + `columns`, which start at zero: the first steps are below the last bit of 1.
    """

    def __init__(self, conv: nn.Conv2d, rank: int, seed: int):
        self.rank = rank
        super().__init__(conv, seed)
        shorter, longer = sorted(conv.weight.flatten(1).shape)
        bases = ceil(shorter / rank)
        self.scale = 1 / sqrt(shorter * longer)
        self.rows = self.zeros(bases, rank)
        self.columns = self.zeros(bases, shorter)

    def needed(self, conv: nn.Conv2d) -> tuple[tuple[int, int], tuple[int, int]]:
        """All B_j transposed (bases * rank, longer side of M) and A (rank, shorter side)."""
        shorter, longer = sorted(conv.weight.flatten(1).shape)
        return (ceil(shorter / self.rank) * self.rank, longer), (self.rank, shorter)

    def adapted_weight(self) -> Tensor:
        """W' = W + s Σ_j B_j diag(λ_j) A diag(γ_j), transposed where the filters are the longer side."""
        delta = randlora_delta(*self.bases(), self.scale * self.rows, 1 + self.columns)
        matrix = delta if len(delta) == len(self.conv.weight) else delta.mT
        return self.conv.weight + matrix.reshape(self.conv.weight.shape)


def share_bases(network: Network, seed: int) -> None:
    """Draws one pair of matrices, large enough for every layer of the network; the first layer owns it."""
    layers = [module for _, module in network.conv_sites() if isinstance(module, RandomBasisConv)]
    needed = [layer.needed(layer.conv) for layer in layers]
    shapes = [tuple(map(max, zip(*each, strict=True))) for each in zip(*needed, strict=True)]
    owner, *others = layers
    owner.draw(seed, *shapes)
    for layer in others:
        layer.use(owner)
