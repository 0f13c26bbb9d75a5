"""W' = W + λ P diag(Λ) Q, and the choice of the triplets that stay."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from visual_decathlon.methods.layers.low_rank import FactoredConv

FACTORS = ("left", "values", "right")  # P (cout, rank), Λ (rank,), Q (rank, n)


class SVDConv(FactoredConv):
    def __init__(self, conv: nn.Conv2d, scale: float, rank: int):
        super().__init__(conv, rank)
        self.scale = scale
        self.left = nn.Parameter(nn.init.orthogonal_(self.empty(conv.out_channels, rank)))
        self.values = self.zeros(rank)
        self.right = nn.Parameter(nn.init.orthogonal_(self.empty(rank, conv.weight[0].numel())))

    def factors(self) -> tuple[Tensor, Tensor]:
        return self.left, self.scale * self.values[:, None] * self.right

    def unorthogonal(self) -> Tensor:
        """‖PᵀP − I‖² + ‖QQᵀ − I‖²."""
        one = torch.eye(len(self.values), dtype=self.values.dtype, device=self.values.device)
        return (self.left.t() @ self.left - one).square().sum() + (self.right @ self.right.t() - one).square().sum()


class Importance(nn.Module):
    """Of one SVDConv's factors the running means of |value * gradient|, `<factor>_size`, and of how far it strays
    from that, `<factor>_unrest`."""

    def __init__(self, conv: SVDConv):
        super().__init__()
        for name in FACTORS:
            for mean in ("size", "unrest"):
                self.register_buffer(f"{name}_{mean}", torch.zeros_like(getattr(conv, name).detach()))

    @torch.no_grad()
    def observe(self, conv: SVDConv, beta: float) -> None:
        """Take the last step's gradients into the running means; of a step that fp16 skipped they are not finite."""
        for name in FACTORS:
            value, size, unrest = getattr(conv, name), getattr(self, f"{name}_size"), getattr(self, f"{name}_unrest")
            good = value.grad.isfinite().all()
            now = (value * value.grad).abs()
            size.lerp_(now.where(good, size), 1 - beta)
            unrest.lerp_((now - size).abs().where(good, unrest), 1 - beta)

    def of_triplets(self) -> Tensor:
        """(rank,)"""
        left, values, right = (getattr(self, f"{name}_size") * getattr(self, f"{name}_unrest") for name in FACTORS)
        return values + left.mean(0) + right.mean(1)


def svd_convs(network: nn.Module) -> list[SVDConv]:
    return [m for m in network.modules() if isinstance(m, SVDConv)]


def penalty(convs: list[SVDConv]) -> Tensor:
    """In full precision: bfloat16 could not tell PᵀP from I."""
    with torch.autocast(convs[0].values.device.type, enabled=False):
        return torch.stack([conv.unorthogonal() for conv in convs]).sum()


@torch.no_grad()
def keep(convs: list[SVDConv], importance: Iterable[Importance], count: int) -> None:
    """Zero the Λ of all but the `count` most important triplets."""
    scores = torch.cat([means.of_triplets() for means in importance])
    dropped = torch.ones_like(scores, dtype=torch.bool)
    dropped[scores.topk(count).indices] = False
    for conv, gone in zip(convs, dropped.split([len(conv.values) for conv in convs]), strict=True):
        conv.values.masked_fill_(gone, 0)
