"""Adapter re-composing: layers of one width mix their channels by one shared, symmetric projection."""

import torch
from torch import Tensor, nn

from methods.layers.delta import DeltaConv
from methods.layers.network import Network


class ARCConv(DeltaConv):
    """(I + P diag(c) Pᵀ)(M x + b): P (cout, r) may be another layer's, c (r,) is this one's."""

    def __init__(self, conv: nn.Conv2d, rank: int):
        super().__init__(conv)
        self.p = nn.init.xavier_uniform_(self.empty(conv.out_channels, rank))
        self.c = self.zeros(rank)
        self.lender: tuple[ARCConv, ...] = ()  # in a tuple, out of torch's sight: P has one name and one owner

    def borrow(self, lender: "ARCConv") -> None:
        del self.p
        self.lender = (lender,)

    def mix(self, y: Tensor) -> Tensor:
        """(cout, ...) -> (cout, ...)."""
        p = self.lender[0].p if self.lender else self.p
        return y + (p * self.c) @ (p.mT @ y)

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
