"""ARC, adapter re-composing: layers of one width mix what they read by one shared, symmetric projection."""

from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visual_decathlon.methods.layers.delta import DeltaConv
from visual_decathlon.methods.layers.network import Network
from visual_decathlon.methods.shapes import first_of_blocks


def recompose(weight: Tensor, p: Tensor, c: Tensor) -> Tensor:
    """W (cout, cin, k, l) -> W (I + P diag(c) Pᵀ) at every tap, P (cin, r) and c (r,)."""
    taps = weight.permute(0, 2, 3, 1)
    return weight + (taps @ (p * c) @ p.mT).permute(0, 3, 1, 2)


class ARCConv(DeltaConv):
    """conv((I + P diag(c) Pᵀ) x): P (cin, r) may belong to another layer, c (r,) belongs to this one."""

    def __init__(self, conv: nn.Conv2d, rank: int):
        super().__init__(conv)
        self.p = nn.init.xavier_uniform_(self.empty(conv.in_channels, rank))
        self.c = self.zeros(rank)
        # In a tuple, so that torch does not register it as a submodule: P keeps one name and one owner.
        self.projection_owner: tuple[ARCConv, ...] = ()
        # Two 1x1 convolutions before this one spare the whole weight's gradient: half of the time on a CPU at rank 50
        # and 256 channels, a sixth at 128.
        self.mixed_path = prod(conv.kernel_size) > 1 and conv.in_channels >= max(128, 2 * rank)

    def tie_projection(self, projection_owner: "ARCConv") -> None:
        """Drops this layer's own P and uses that of `projection_owner`, a layer of the same width."""
        del self.p
        self.projection_owner = (projection_owner,)

    def projection(self) -> Tensor:
        """P (cin, r), this layer's own or its owner's."""
        return self.projection_owner[0].p if self.projection_owner else self.p

    def forward(self, x: Tensor) -> Tensor:
        """(N, cin, H, W) -> (N, cout, H', W'), in training by two 1x1 convolutions where that is faster."""
        if not (self.mixed_path and torch.is_grad_enabled()):
            return super().forward(x)
        p = self.projection()
        return self.conv(x + F.conv2d(F.conv2d(x, p.mT[:, :, None, None]), (p * self.c)[:, :, None, None]))

    def adapted_weight(self) -> Tensor:
        """W' = W (I + P diag(c) Pᵀ)."""
        return recompose(self.conv.weight, self.projection(), self.c)


def share_projections(network: Network) -> None:
    """Lets all layers of one width, and of one place in a block, use the projection of the first of them."""
    heads = first_of_blocks([site.conv for site in network.sites], network.blocks)
    owners: dict[tuple[torch.Size, bool], ARCConv] = {}
    for site, module in network.conv_sites():
        if isinstance(module, ARCConv):
            owner = owners.setdefault((module.p.shape, site.conv in heads), module)
            if owner is not module:
                module.tie_projection(owner)
