"""W' = W + λ U R: the weight as a matrix (cout, n) plus one of low rank. R is the product of a family's factors."""

from math import prod, sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visual_decathlon.methods.layers.delta import DeltaConv


def add_low_rank(weight: Tensor, up: Tensor, rows: Tensor) -> Tensor:
    """W + U R in the shape of the kernel: `weight` (cout, cin / groups, k, l), U (cout, rank), R (rank, n)."""
    return weight + (up @ rows).view_as(weight)


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

    def weight(self) -> Tensor:
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
    """U = λ `up`, which starts at zero; a subclass holds the factors of R and initialises them."""

    def __init__(self, conv: nn.Conv2d, scale: float, rank: int):
        super().__init__(conv, rank)
        self.scale = scale
        self.up = self.zeros(conv.out_channels, rank)

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
    """LoRA: R is one factor, A (rank, n), Kaiming uniform."""

    def __init__(self, conv: nn.Conv2d, scale: float, rank: int):
        super().__init__(conv, scale, rank)
        self.down = self.empty(rank, conv.weight[0].numel())
        nn.init.kaiming_uniform_(self.down, a=sqrt(5))

    def rows(self) -> Tensor:
        """A (rank, n)."""
        return self.down


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
