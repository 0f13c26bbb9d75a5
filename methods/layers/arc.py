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
        # In a tuple, so that torch does not register it as a submodule: P keeps one name and one owner.
        self.projection_owner: tuple[ARCConv, ...] = ()
        # Two 1x1 behind the convolution spare the whole weight's gradient: at rank 32 and 256 channels a third of
        # the time on a CPU, at 128 a fifth, at 64 none.
        self.mixed_path = prod(conv.kernel_size) > 1 and conv.out_channels >= max(128, 4 * rank)

    def tie_projection(self, projection_owner: "ARCConv") -> None:
        del self.p
        self.projection_owner = (projection_owner,)

    def projection(self) -> Tensor:
        return self.projection_owner[0].p if self.projection_owner else self.p

    def mix(self, y: Tensor) -> Tensor:
        """(cout, ...) -> (cout, ...)."""
        p = self.projection()
        return y + (p * self.c) @ (p.mT @ y)

    def forward(self, x: Tensor) -> Tensor:
        if not (self.mixed_path and torch.is_grad_enabled()):
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
            projection_owner = first.setdefault(module.p.shape, module)
            if projection_owner is not module:
                module.tie_projection(projection_owner)
