"""W' = W + λ U R: the weight as a matrix plus one of low rank. R is the product of a family's factors.

The matrix is (cout, n), a filter in each row; LoraConv also takes another shape of the same numbers.
"""

from math import prod, sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visual_decathlon.methods.layers.delta import DeltaConv


def add_low_rank(weight: Tensor, up: Tensor, rows: Tensor) -> Tensor:
    """W + U R in the shape of the kernel: `weight` (cout, cin / groups, k, l), U (cout, rank), R (rank, n).

    U R may be any other matrix of as many entries: they are added in row-major order.
    """
    return weight + (up @ rows).view_as(weight)


def add_difference(weight: Tensor, up: Tensor, rows: Tensor, start_up: Tensor, start_rows: Tensor) -> Tensor:
    """W + U R - U0 R0, each as in `add_low_rank`. Exactly W where both pairs are equal."""
    return weight + (up @ rows - start_up @ start_rows).view_as(weight)


def principal_factors(weight: Tensor, shape: tuple[int, int], rank: int) -> tuple[Tensor, Tensor]:
    """U (rows, rank) and R (rank, columns), float64: U R is the matrix of this rank nearest to the weight as a matrix.

    A column of U and a row of R have the same length, the root of a singular value. On the CPU, so that every device
    gives the same product: singular vectors are unique only up to signs. From the eigenvectors of M Mᵀ, or of Mᵀ M
    where that is smaller: several times as fast as a singular value decomposition.
    """
    matrix = weight.detach().to("cpu", torch.float64).reshape(shape)
    wide = matrix if shape[0] <= shape[1] else matrix.mT
    squares, vectors = torch.linalg.eigh(wide @ wide.mT)
    vectors = vectors[:, -rank:].flip(1)
    # Where a matrix has a smaller rank, zeros are not divided by zero.
    roots = squares.flip(0).clamp_min(1e-20 * squares[-1].clamp_min(1e-200))[:rank] ** 0.25
    up, rows = vectors * roots, (vectors / roots).mT @ wide
    return (up, rows) if wide is matrix else (rows.mT, up.mT)


def khatri_rao(channels: Tensor, taps: Tensor) -> Tensor:
    """(cin, r) and (k l, r) -> (r, cin k l): row r is the outer product of the two columns r."""
    return (channels.t()[:, :, None] * taps.t()[:, None, :]).flatten(1)


def tucker_rows(channels: Tensor, core: Tensor) -> Tensor:
    """R (r1, cin k l) of V (cin, r2) and the core G (r1, r2, k l)."""
    return torch.matmul(channels, core).flatten(1)


def tucker_cp_rows(channels: Tensor, core_up: Tensor, core_channels: Tensor, core_taps: Tensor) -> Tensor:
    """R (r1, cin k l) of V (cin, r2) and a CP core: a (r1, rank), b (r2, rank), c (k l, rank)."""
    return core_up @ khatri_rao(channels @ core_channels, core_taps)


class FactoredConv(DeltaConv):
    """W' = W + U R, computed in weight space or, where that is faster, as two convolutions parallel to this one."""

    def __init__(self, conv: nn.Conv2d, rank: int):
        super().__init__(conv)
        # R as a k x k convolution to `rank` channels and U as a 1x1 after it spare the whole weight's gradient: a
        # quarter less time on a CPU at 128 channels and rank 8, no difference at 64, more time below.
        channels = min(conv.in_channels, conv.out_channels)
        self.factored_path = conv.groups == 1 and prod(conv.kernel_size) > 1 and channels >= max(64, 16 * rank)

    def factors(self) -> tuple[Tensor, Tensor]:
        """U (cout, rank) and R (rank, n), n = (cin / groups) k l in the weight's own order."""
        raise NotImplementedError

    def adapted_weight(self) -> Tensor:
        """W' = W + U R."""
        return add_low_rank(self.conv.weight, *self.factors())

    def forward(self, x: Tensor) -> Tensor:
        """(N, cin, H, W) -> (N, cout, H', W')."""
        if not (self.factored_path and torch.is_grad_enabled()):
            return super().forward(x)
        up, rows = self.factors()
        inner = self.conv._conv_forward(x, rows.view(-1, *self.conv.weight.shape[1:]), None)
        return self.conv(x) + F.conv2d(inner, up[:, :, None, None])


class LowRankConv(FactoredConv):
    """U = λ `up`, which starts at zero; a subclass holds the factors of R and initialises them.

    The matrix has `rows` rows, by default one for each filter.
    """

    def __init__(self, conv: nn.Conv2d, scale: float, rank: int, rows: int = 0):
        super().__init__(conv, rank)
        self.scale = scale
        self.up = self.zeros(rows or conv.out_channels, rank)

    def rows(self) -> Tensor:
        """R (rank, n)."""
        raise NotImplementedError

    def factors(self) -> tuple[Tensor, Tensor]:
        """λ `up` (cout, rank) and R (rank, n)."""
        return self.scale * self.up, self.rows()

    def normal(self, *shape: int, fan_in: int) -> nn.Parameter:
        """A factor that is summed over `fan_in` entries: of variance 1 / fan_in, so that a product keeps its size."""
        return nn.Parameter(nn.init.normal_(self.empty(*shape), std=1 / sqrt(fan_in)))


class LoraConv(LowRankConv):
    """LoRA: R is one factor, A (rank, columns), Kaiming uniform, of the weight as a matrix of this `shape`.

    By default (cout, n). Another shape's rows are no filters, so there are no two convolutions that compute the same.
    """

    def __init__(self, conv: nn.Conv2d, scale: float, rank: int, shape: tuple[int, int] | None = None):
        filters = (conv.out_channels, conv.weight[0].numel())
        rows, columns = shape or filters
        super().__init__(conv, scale, rank, rows)
        self.factored_path = self.factored_path and (rows, columns) == filters
        self.down = self.empty(rank, columns)
        nn.init.kaiming_uniform_(self.down, a=sqrt(5))

    def rows(self) -> Tensor:
        """A (rank, columns)."""
        return self.down


class LoraParts(DeltaConv):
    """LoRA of some thirds of a fused projection's rows (queries, keys, values): each third has a B A of its own.

    `parts` has their numbers, 0 to 2, in order. The B of all are one tensor `up` (parts cout / 3, rank), the A of all
    are `down` (parts rank, n). All other rows stay W.
    """

    def __init__(self, conv: nn.Conv2d, scale: float, rank: int, parts: tuple[int, ...]):
        super().__init__(conv)
        self.scale, self.parts = scale, parts
        self.up = self.zeros(len(parts) * conv.out_channels // 3, rank)
        self.down = self.empty(len(parts) * rank, conv.weight[0].numel())
        nn.init.kaiming_uniform_(self.down, a=sqrt(5))

    def adapted_weight(self) -> Tensor:
        """W' = W + λ B A on the rows of each part."""
        up, down = (self.scale * self.up).chunk(len(self.parts)), self.down.chunk(len(self.parts))
        thirds = list(self.conv.weight.chunk(3))
        for part, each, rows in zip(self.parts, up, down, strict=True):
            thirds[part] = add_low_rank(thirds[part], each, rows)
        return torch.cat(thirds)


class PissaConv(LoraConv):
    """PiSSA: W' = W + λ (B A - B0 A0), λ B0 A0 the nearest matrix of this rank to W; B and A start at B0 and A0.

    So W - λ B0 A0 is what stays frozen. B0 and A0 are computed from the shared W and not stored.
    """

    def __init__(self, conv: nn.Conv2d, scale: float, rank: int, shape: tuple[int, int] | None = None):
        super().__init__(conv, scale, rank, shape)
        self.factored_path = self.factored_path and min(conv.in_channels, conv.out_channels) >= 32 * rank
        up, down = principal_factors(conv.weight, (len(self.up), self.down.shape[1]), rank)
        with torch.no_grad():
            self.up.copy_(up / sqrt(scale))
            self.down.copy_(down / sqrt(scale))
        self.register_buffer("start_up", self.up.detach().clone(), persistent=False)
        self.register_buffer("start_down", self.down.detach().clone(), persistent=False)

    def factors(self) -> tuple[Tensor, Tensor]:
        """[λ B, -λ B0] (rows, 2 rank) and A over A0 (2 rank, columns)."""
        return self.scale * torch.cat([self.up, -self.start_up], 1), torch.cat([self.down, self.start_down])

    def adapted_weight(self) -> Tensor:
        """W' = W + λ (B A - B0 A0)."""
        up, start_up = self.scale * self.up, self.scale * self.start_up
        return add_difference(self.conv.weight, up, self.down, start_up, self.start_down)


class CPConv(LowRankConv):
    """CP: row r of R is the outer product of B[:, r] over the input channels and C[:, r] over the taps."""

    def __init__(self, conv: nn.Conv2d, scale: float, rank: int):
        super().__init__(conv, scale, rank)
        cin, taps = conv.weight.shape[1], prod(conv.kernel_size)
        self.channels = self.normal(cin, rank, fan_in=cin)
        self.taps = self.normal(taps, rank, fan_in=taps)

    def rows(self) -> Tensor:
        """R (rank, n)."""
        return khatri_rao(self.channels, self.taps)


class TuckerConv(LowRankConv):
    """Tucker-2: R is the core G (r1, r2, k l) times V (cin, r2) over its input channels."""

    def __init__(self, conv: nn.Conv2d, scale: float, r1: int, r2: int):
        super().__init__(conv, scale, r1)
        cin, taps = conv.weight.shape[1], prod(conv.kernel_size)
        self.channels = self.normal(cin, r2, fan_in=cin)
        self.core = self.normal(r1, r2, taps, fan_in=r2 * taps)

    def rows(self) -> Tensor:
        """R (r1, n)."""
        return tucker_rows(self.channels, self.core)


class TuckerCPConv(LowRankConv):
    """Tucker-2 whose core is a CP of `rank`."""

    def __init__(self, conv: nn.Conv2d, scale: float, r1: int, r2: int, rank: int):
        super().__init__(conv, scale, r1)
        cin, taps = conv.weight.shape[1], prod(conv.kernel_size)
        self.channels = self.normal(cin, r2, fan_in=cin)
        self.core_up = self.normal(r1, rank, fan_in=rank)
        self.core_channels = self.normal(r2, rank, fan_in=r2)
        self.core_taps = self.normal(taps, rank, fan_in=taps)

    def rows(self) -> Tensor:
        """R (r1, n)."""
        return tucker_cp_rows(self.channels, self.core_up, self.core_channels, self.core_taps)


def split_factors(network: nn.Module, groups: list[dict], ratio: float, decays: bool) -> list[dict]:
    """The groups of an optimiser with those of A and B apart: B at `ratio` times the rate, both perhaps without decay.

    Only the A and B of LoraConv and LoraParts are taken out of their groups; what remains is as it was.
    """
    layers = [m for m in network.modules() if isinstance(m, LoraConv | LoraParts)]
    ups, downs = {id(m.up) for m in layers}, {id(m.down) for m in layers}
    out = []
    for group in groups:
        decay = group["weight_decay"] if decays else 0.0
        scale = group.get("scale", 1.0)
        rest = [p for p in group["params"] if id(p) not in ups | downs]
        parts = (
            group | {"params": rest},
            group | {"params": [p for p in group["params"] if id(p) in downs], "weight_decay": decay},
            group
            | {"params": [p for p in group["params"] if id(p) in ups], "weight_decay": decay, "scale": scale * ratio},
        )
        out += [part for part in parts if part["params"]]
    return out
