"""CHAPTER: a scaled copy of the kernel, added to it."""

from torch import Tensor, nn

from visual_decathlon.methods.layers.delta import DeltaConv

SCALE = 0.01


class ScaledCopyConv(DeltaConv):
    """W + 0.01 A, A of W's shape, from zero."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__(conv)
        self.copy = self.zeros(*conv.weight.shape)

    def adapted_weight(self) -> Tensor:
        """W' = W + 0.01 A."""
        return self.conv.weight + SCALE * self.copy
