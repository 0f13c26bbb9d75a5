"""TAPS: a layer is shared, or has a weight of its own; a trained score with a threshold decides which."""

import torch
from torch import Tensor, nn

from visual_decathlon.methods.layers.delta import DeltaConv
from visual_decathlon.methods.layers.masks import switched

START, THRESHOLD = 0.15, 0.1  # of a score, as released


def adapted_weight(weight: Tensor, change: Tensor, score: Tensor) -> Tensor:
    """W + 1[score > threshold] ΔW, ΔW of W's shape and a scalar score whose gradient passes straight through."""
    return weight + switched(score, THRESHOLD) * change


class OwnOrSharedConv(DeltaConv):
    """A convolution with W + ΔW where its score is above the threshold, and with W elsewhere."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__(conv)
        self.change = nn.Parameter(torch.zeros_like(conv.weight))
        self.score = nn.Parameter(conv.weight.new_full((), START))

    def adapted_weight(self) -> Tensor:
        """W + 1[score > threshold] ΔW."""
        return adapted_weight(self.conv.weight, self.change, self.score)

    def is_own(self) -> bool:
        """Whether the layer has a weight of its own; it reads the score on the host."""
        return bool(self.score > THRESHOLD)

    def stored(self) -> dict[str, Tensor]:
        """ΔW as (cout n,), or (0,) where the layer is shared: its length says which, so no score is stored."""
        return {"change": self.change.flatten().clone() if self.is_own() else self.change.new_empty(0)}

    def unpacked(self, stored: dict[str, Tensor]) -> dict[str, Tensor]:
        """ΔW, zero where the layer is shared, and a score on the right side of the threshold."""
        flat = stored["change"]
        change = flat.view(self.change.shape) if len(flat) else flat.new_zeros(self.change.shape)
        return {"change": change, "score": flat.new_full((), START if len(flat) else 0.0)}

    def may_store(self, name: str, shape: torch.Size) -> bool:
        """A whole ΔW or none."""
        return name == "change" and tuple(shape) in ((0,), (self.change.numel(),))


class Warmup(nn.Module):
    """`on` is 0 until the penalty begins and 1 from then on: a tensor, so that a captured step sees the change."""

    def __init__(self, like: Tensor):
        super().__init__()
        self.register_buffer("on", like.new_zeros(()))


def scored_convs(network: nn.Module) -> list[OwnOrSharedConv]:
    """Every OwnOrSharedConv of a network, in order."""
    return [m for m in network.modules() if isinstance(m, OwnOrSharedConv)]


def mean_score(network: nn.Module) -> Tensor:
    """Scalar mean of |score| over the layers."""
    return torch.stack([conv.score for conv in scored_convs(network)]).abs().mean()
