"""DeLoRA: rank-one terms of length one, times a trained strength and the lengths of the weight's columns."""

import torch
from torch import Tensor, nn

from visual_decathlon.methods.layers.delta import DeltaConv
from visual_decathlon.methods.layers.drawn import uniform

SHORTEST = 1e-4  # a vector that is shorter is not made longer than itself / SHORTEST


def delora_delta(up: Tensor, down: Tensor, strength: Tensor, lengths: Tensor) -> Tensor:
    """(λ / r) Σ_i b_i a_i / (|b_i| |a_i|) diag(|w_j|), (cout, n).

    `up` (cout, r) has the columns b, `down` (r, n) the rows a; λ is `strength` (1,), `lengths` (n,) are the |w_j|.
    """
    sizes = up.norm(dim=0).clamp(min=SHORTEST) * down.norm(dim=1).clamp(min=SHORTEST)
    return (up * (strength / (len(down) * sizes))) @ (down * lengths)


class DeloraConv(DeltaConv):
    """W + ΔM(B, A, λ) - ΔM at the start, which is drawn from a seed: the identity."""

    def __init__(self, conv: nn.Conv2d, rank: int, strength: float, seed: int):
        super().__init__(conv)
        matrix = conv.weight.detach().flatten(1)
        cout, n = matrix.shape
        self.start_strength = strength
        # Of the sizes that Kaiming's start has in LoRA's code, variance 1 / (3 fan-in). Not stored: the seed gives
        # them again, and the lengths are those of the shared weight.
        self.register_buffer("start_up", uniform(2 * seed, cout, rank, like=matrix) / (3 * rank) ** 0.5, False)
        self.register_buffer("start_down", uniform(2 * seed + 1, rank, n, like=matrix) / (3 * n) ** 0.5, False)
        self.register_buffer("lengths", matrix.norm(dim=0), False)
        self.up, self.down = nn.Parameter(self.start_up.clone()), nn.Parameter(self.start_down.clone())
        self.growth = self.zeros(1)  # of λ, relative: at 15 a step of SGD would be below the last bit

    def strength(self) -> Tensor:
        """λ (1,)."""
        return self.start_strength * (1 + self.growth)

    def adapted_weight(self) -> Tensor:
        """W' = W + ΔM - ΔM at the start."""
        # Both strengths are tensors: torch divides a number by a tensor with another rounding.
        start = torch.full_like(self.growth, self.start_strength)
        delta = delora_delta(self.up, self.down, self.strength(), self.lengths)
        frozen = delora_delta(self.start_up, self.start_down, start, self.lengths)
        return self.conv.weight + (delta - frozen).view_as(self.conv.weight)


def trained_tensors(network: nn.Module) -> list[nn.Parameter]:
    """B, A and the growth of λ of every DeloraConv of a network."""
    return [p for m in network.modules() if isinstance(m, DeloraConv) for p in (m.up, m.down, m.growth)]
