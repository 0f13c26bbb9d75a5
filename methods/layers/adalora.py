"""AdaLoRA: W' = W + λ P diag(Λ) Q, and the choice of the triplets that are kept."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from visual_decathlon.methods.layers.low_rank import FactoredConv

FACTORS = ("left", "values", "right")  # P (cout, rank), Λ (rank,), Q (rank, n)


def scaled_rows(values: Tensor, right: Tensor, scale: float) -> Tensor:
    """R (rank, n) = λ diag(Λ) Q of Λ (rank,) and Q (rank, n)."""
    return scale * values[:, None] * right


def orthogonality_error(left: Tensor, right: Tensor) -> Tensor:
    """Scalar ‖PᵀP - I‖² + ‖QQᵀ - I‖² of P (cout, rank) and Q (rank, n)."""
    one = torch.eye(len(right), dtype=right.dtype, device=right.device)
    return (left.t() @ left - one).square().sum() + (right @ right.t() - one).square().sum()


class SVDConv(FactoredConv):
    """W + λ P diag(Λ) Q. P and Q start orthonormal, Λ starts at zero: the identity."""

    def __init__(self, conv: nn.Conv2d, scale: float, rank: int):
        super().__init__(conv, rank)
        self.scale = scale
        self.left = nn.Parameter(nn.init.orthogonal_(self.empty(conv.out_channels, rank)))
        self.values = self.zeros(rank)
        self.right = nn.Parameter(nn.init.orthogonal_(self.empty(rank, conv.weight[0].numel())))

    def factors(self) -> tuple[Tensor, Tensor]:
        """U = P (cout, rank) and R = λ diag(Λ) Q (rank, n)."""
        return self.left, scaled_rows(self.values, self.right, self.scale)


class Importance(nn.Module):
    """Running means of importance for the factors of one SVDConv.

    `<factor>_size` is the mean of |value * gradient|, `<factor>_unrest` the mean distance from it.
    """

    def __init__(self, conv: SVDConv):
        super().__init__()
        for name in FACTORS:
            for mean in ("size", "unrest"):
                self.register_buffer(f"{name}_{mean}", torch.zeros_like(getattr(conv, name).detach()))

    @torch.no_grad()
    def observe(self, conv: SVDConv, beta: float) -> None:
        """Updates the running means with the last gradients, which are not finite after a step that fp16 skipped."""
        for name in FACTORS:
            value, size, unrest = getattr(conv, name), getattr(self, f"{name}_size"), getattr(self, f"{name}_unrest")
            good = value.grad.isfinite().all()
            now = (value * value.grad).abs()
            size.lerp_(now.where(good, size), 1 - beta)
            unrest.lerp_((now - size).abs().where(good, unrest), 1 - beta)

    def of_triplets(self) -> Tensor:
        """(rank,): the importance of each triplet, that of its Λ plus the means over its P column and its Q row."""
        left, values, right = (getattr(self, f"{name}_size") * getattr(self, f"{name}_unrest") for name in FACTORS)
        return values + left.mean(0) + right.mean(1)


def svd_convs(network: nn.Module) -> list[SVDConv]:
    """Every SVDConv of a network, in order."""
    return [m for m in network.modules() if isinstance(m, SVDConv)]


def penalty(convs: list[SVDConv]) -> Tensor:
    """Sum of the layers' orthogonality errors, in full precision: bfloat16 cannot tell PᵀP from I."""
    with torch.autocast(convs[0].values.device.type, enabled=False):
        return torch.stack([orthogonality_error(conv.left, conv.right) for conv in convs]).sum()


@torch.no_grad()
def keep(convs: list[SVDConv], importance: Iterable[Importance], count: int) -> None:
    """Sets Λ to zero for all but the `count` most important triplets of all layers."""
    scores = torch.cat([means.of_triplets() for means in importance])
    dropped = torch.ones_like(scores, dtype=torch.bool)
    dropped[scores.topk(count).indices] = False
    for conv, gone in zip(convs, dropped.split([len(conv.values) for conv in convs]), strict=True):
        conv.values.masked_fill_(gone, 0)
