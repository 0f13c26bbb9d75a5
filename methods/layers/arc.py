"""ARC, adapter re-composing: layers of one width mix their channels by one shared, symmetric projection."""

from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visual_decathlon.methods.layers.delta import DeltaConv
from visual_decathlon.methods.layers.network import Network


def recompose(y: Tensor, p: Tensor, c: Tensor) -> Tensor:
    """(cout, m) -> (cout, m): (I + P diag(c) Pᵀ) y with P (cout, r) and c (r,)."""
    return y + (p * c) @ (p.mT @ y)


class ARCConv(DeltaConv):
    """(I + P diag(c) Pᵀ)(M x + b): P (cout, r) may belong to another layer, c (r,) belongs to this one."""

    def __init__(self, conv: nn.Conv2d, rank: int):
        super().__init__(conv)
        self.p = nn.init.xavier_uniform_(self.empty(conv.out_channels, rank))
        self.c = self.zeros(rank)
        # In a tuple, so that torch does not register it as a submodule: P keeps one name and one owner.
        self.projection_owner: tuple[ARCConv, ...] = ()
        # Two 1x1 convolutions after this one spare the whole weight's gradient: a third of the time on a CPU at
        # rank 32 and 256 channels, a fifth at 128, nothing at 64.
        self.mixed_path = prod(conv.kernel_size) > 1 and conv.out_channels >= max(128, 4 * rank)

    def tie_projection(self, projection_owner: "ARCConv") -> None:
        """Drops this layer's own P and uses that of `projection_owner`, a layer of the same width."""
        del self.p
        self.projection_owner = (projection_owner,)

    def projection(self) -> Tensor:
        """P (cout, r), this layer's own or its owner's."""
        return self.projection_owner[0].p if self.projection_owner else self.p

    def forward(self, x: Tensor) -> Tensor:
        """(N, cin, H, W) -> (N, cout, H', W'), in training by two 1x1 convolutions where that is faster."""
        if not (self.mixed_path and torch.is_grad_enabled()):
            return super().forward(x)
        y, p = self.conv(x), self.projection()
        return y + F.conv2d(F.conv2d(y, p.mT[:, :, None, None]), (p * self.c)[:, :, None, None])

    def weight(self) -> Tensor:
        """W' = (I + P diag(c) Pᵀ) M as (cout, cin, k, l)."""
        return recompose(self.conv.weight.flatten(1), self.projection(), self.c).view(self.conv.weight.shape)

    def bias(self) -> Tensor | None:
        """(I + P diag(c) Pᵀ) b, or None where the convolution has no bias."""
        bias = self.conv.bias
        return None if bias is None else recompose(bias[:, None], self.projection(), self.c)[:, 0]


def share_projections(network: Network) -> None:
    """Lets all layers of one width use the projection of the first of them."""
    first: dict[torch.Size, ARCConv] = {}
    for _, module in network.conv_sites():
        if isinstance(module, ARCConv):
            owner = first.setdefault(module.p.shape, module)
            if owner is not module:
                module.tie_projection(owner)
