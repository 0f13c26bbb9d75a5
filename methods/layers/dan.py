"""A convolution whose filters are linear combinations of the frozen one's."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visual_decathlon.methods.layers.delta import DeltaConv


class CombinedConv(DeltaConv):
    """M' = (I + change) M, `change` (cout, cout) from zero, M the weight as (cout, n).

    Without groups the outputs are combined instead, by a 1x1 behind the frozen convolution: the same
    sums, and no gradient of a whole kernel (1.28 times as fast a step at width 1).
    """

    def __init__(self, conv: nn.Conv2d):
        super().__init__(conv)
        self.change = self.zeros(conv.out_channels, conv.out_channels)

    def weight(self) -> Tensor:
        shared = self.conv.weight
        return shared + (self.change @ shared.flatten(1)).view_as(shared)

    def forward(self, x: Tensor) -> Tensor:
        if self.conv.groups != 1:
            return super().forward(x)
        y = self.conv._conv_forward(x, self.conv.weight, None)
        combine = self.change + torch.eye(len(self.change), device=self.change.device, dtype=self.change.dtype)
        return F.conv2d(y, combine[:, :, None, None], self.bias())
