"""CoLoRA: two convolutions in a row share low-rank factors, each of which sees the other one's frozen weight."""

from math import sqrt

import torch
from torch import Tensor, nn

from visual_decathlon.methods.layers.low_rank import LoraConv


def outputs_and_taps(weight: Tensor) -> Tensor:
    """(cout, cin, k, l) -> (cout k l, cin): the kernel as a map from its inputs to its outputs at every tap."""
    return weight.permute(0, 2, 3, 1).flatten(0, 2)


def second_delta(first: Tensor, down: Tensor, up: Tensor, kernel: tuple[int, int]) -> Tensor:
    """B (A M1ᵀ) as (cout, h, k, l): the second convolution's ΔW from the first one's weight (h, cin, ., .).

    A `down` (rank, n1) reads what the first one reads, B `up` (cout k l, rank) writes what the second one writes.
    """
    delta = up @ (down @ first.flatten(1).t())
    return delta.view(-1, *kernel, len(first)).permute(0, 3, 1, 2)


class FirstConv(LoraConv):
    """M1 + λ (B1 A1 + M2ᵀ B A), M2 the second convolution's weight as (cout k l, h); it owns A and B.

    B starts at zero, as B1 does: the identity for both convolutions.
    """

    def __init__(self, conv: nn.Conv2d, second: nn.Conv2d, scale: float, rank: int, shared: int):
        super().__init__(conv, scale, rank)
        channels = min(conv.in_channels, conv.out_channels)
        self.factored_path = self.factored_path and channels >= 16 * (rank + shared)
        self.second = (second,)  # in a tuple, so that torch does not register it as a submodule
        self.shared_down = self.empty(shared, conv.weight[0].numel())
        nn.init.kaiming_uniform_(self.shared_down, a=sqrt(5))
        self.shared_up = self.zeros(second.weight[:, 0].numel(), shared)

    def factors(self) -> tuple[Tensor, Tensor]:
        """λ [B1, M2ᵀ B] (h, rank + shared) and [A1, A] (rank + shared, n1)."""
        across = outputs_and_taps(self.second[0].weight).t() @ self.shared_up
        return self.scale * torch.cat([self.up, across], 1), torch.cat([self.down, self.shared_down])


class SecondConv(LoraConv):
    """W2 + λ (B2 A2 + B A M1ᵀ), A and B those of the first convolution."""

    def __init__(self, conv: nn.Conv2d, first: FirstConv, scale: float, rank: int):
        super().__init__(conv, scale, rank)
        self.factored_path = False  # B has the taps of this kernel, so the sum is no 1x1 after a convolution
        self.first = (first,)

    def adapted_weight(self) -> Tensor:
        """W2 + λ (B2 A2 + B A M1ᵀ)."""
        (first,) = self.first
        delta = second_delta(first.conv.weight, first.shared_down, first.shared_up, self.conv.kernel_size)
        return super().adapted_weight() + self.scale * delta
