"""Adapter re-composing: layers of one width mix their channels by one shared, symmetric projection."""

from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visual_decathlon.methods.layers.delta import DeltaConv
from visual_decathlon.methods.layers.network import Network


class ARCConv(DeltaConv):
    """(I + P diag(c) Pᵀ)(M x + b): P (cout, r) may be another layer's, c (r,) is this one's."""

    def __init__(self, conv: nn.Conv2d, rank: int):
        super().__init__(conv)
        self.p = nn.init.xavier_uniform_(self.empty(conv.out_channels, rank))
        self.c = self.zeros(rank)
        self.lender: tuple[ARCConv, ...] = ()  # in a tuple, out of torch's sight: P has one name and one owner
        # Two 1x1 behind the convolution spare the whole weight's gradient: at rank 32 and 256 channels a third of
        # the time on a CPU, at 128 a fifth, at 64 none.
        self.behind = prod(conv.kernel_size) > 1 and conv.out_channels >= max(128, 4 * rank)

    def borrow(self, lender: "ARCConv") -> None:
        del self.p
        self.lender = (lender,)

    def projection(self) -> Tensor:
        return self.lender[0].p if self.lender else self.p

    def mix(self, y: Tensor) -> Tensor:
        """(cout, ...) -> (cout, ...)."""
        p = self.projection()
        return y + (p * self.c) @ (p.mT @ y)

    def forward(self, x: Tensor) -> Tensor:
        if not (self.behind and torch.is_grad_enabled()):
            return super().forward(x)
        y, p = self.conv(x), self.projection()
        return y + F.conv2d(F.conv2d(y, p.mT[:, :, None, None]), (p * self.c)[:, :, None, None])

    def weight(self) -> Tensor:
        return self.mix(self.conv.weight.flatten(1)).view(self.conv.weight.shape)

    def bias(self) -> Tensor | None:
        return None if self.conv.bias is None else self.mix(self.conv.bias[:, None])[:, 0]


def share_projections(network: Network) -> None:
    """Layers of one width borrow the projection of the first of them."""
    first: dict[torch.Size, ARCConv] = {}
    for _, module in network.conv_sites():
        if isinstance(module, ARCConv):
            lender = first.setdefault(module.p.shape, module)
            if lender is not module:
                module.borrow(lender)
