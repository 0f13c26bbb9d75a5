"""W' = W + λ U R: the weight as a matrix (cout, n) plus one of low rank, R made of a family's factors."""

from math import prod, sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visual_decathlon.methods.layers.delta import DeltaConv


class FactoredConv(DeltaConv):
    """W' = W + U R of two factors, in weight space or, where that is faster, beside the convolution."""

    def __init__(self, conv: nn.Conv2d, rank: int):
        super().__init__(conv)
        # R as a k x k convolution to `rank` channels and U as a 1x1 behind it spare the whole weight's
        # gradient: a quarter less time on a CPU at 128 channels and rank 8, none at 64, more time below.
        channels = min(conv.in_channels, conv.out_channels)
        self.factored_path = conv.groups == 1 and prod(conv.kernel_size) > 1 and channels >= max(64, 16 * rank)

    def factors(self) -> tuple[Tensor, Tensor]:
        """U (cout, rank) and R (rank, n), n = (cin / groups) k l in the weight's own order."""
        raise NotImplementedError

    def weight(self) -> Tensor:
        up, rows = self.factors()
        return self.conv.weight + (up @ rows).view_as(self.conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        if not (self.factored_path and torch.is_grad_enabled()):
            return super().forward(x)
        up, rows = self.factors()
        inner = self.conv._conv_forward(x, rows.view(-1, *self.conv.weight.shape[1:]), None)
        return self.conv(x) + F.conv2d(inner, up[:, :, None, None])


class LowRankConv(FactoredConv):
    """U = λ `up`, which starts at zero; a subclass holds the factors of R and starts them."""

    def __init__(self, conv: nn.Conv2d, scale: float, rank: int):
        super().__init__(conv, rank)
        self.scale = scale
        self.up = self.zeros(conv.out_channels, rank)

    def rows(self) -> Tensor:
        """R (rank, n)."""
        raise NotImplementedError

    def factors(self) -> tuple[Tensor, Tensor]:
        return self.scale * self.up, self.rows()

    def normal(self, *shape: int, fan: int) -> nn.Parameter:
        """A factor that is summed over `fan` entries: of variance 1 / fan, so that a product keeps its size."""
        return nn.Parameter(nn.init.normal_(self.empty(*shape), std=1 / sqrt(fan)))


class LoraConv(LowRankConv):
    """R is one factor, A."""

    def __init__(self, conv: nn.Conv2d, scale: float, rank: int):
        super().__init__(conv, scale, rank)
        self.down = self.empty(rank, conv.weight[0].numel())
        nn.init.kaiming_uniform_(self.down, a=sqrt(5))

    def rows(self) -> Tensor:
        return self.down


def khatri_rao(channels: Tensor, taps: Tensor) -> Tensor:
    """(cin, r) and (k l, r) -> (r, cin k l): row r is the outer product of the two columns r."""
    return (channels.t()[:, :, None] * taps.t()[:, None, :]).flatten(1)


class CPConv(LowRankConv):
    def __init__(self, conv: nn.Conv2d, scale: float, rank: int):
        super().__init__(conv, scale, rank)
        cin, taps = conv.weight.shape[1], prod(conv.kernel_size)
        self.channels = self.normal(cin, rank, fan=cin)
        self.taps = self.normal(taps, rank, fan=taps)

    def rows(self) -> Tensor:
        return khatri_rao(self.channels, self.taps)


class TuckerConv(LowRankConv):
    def __init__(self, conv: nn.Conv2d, scale: float, r1: int, r2: int):
        super().__init__(conv, scale, r1)
        cin, taps = conv.weight.shape[1], prod(conv.kernel_size)
        self.channels = self.normal(cin, r2, fan=cin)
        self.core = self.normal(r1, r2, taps, fan=r2 * taps)

    def rows(self) -> Tensor:
        return torch.matmul(self.channels, self.core).flatten(1)  # (cin, r2) (r1, r2, k l) -> (r1, cin, k l)


class TuckerCPConv(LowRankConv):
    def __init__(self, conv: nn.Conv2d, scale: float, r1: int, r2: int, rank: int):
        super().__init__(conv, scale, r1)
        cin, taps = conv.weight.shape[1], prod(conv.kernel_size)
        self.channels = self.normal(cin, r2, fan=cin)
        self.core_up = self.normal(r1, rank, fan=rank)
        self.core_channels = self.normal(r2, rank, fan=r2)
        self.core_taps = self.normal(taps, rank, fan=taps)

    def rows(self) -> Tensor:
        return self.core_up @ khatri_rao(self.channels @ self.core_channels, self.core_taps)
