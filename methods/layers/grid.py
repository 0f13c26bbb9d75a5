"""The 1x1 of the talk's grid as a matrix, and the two places it has at a convolution."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visual_decathlon.methods.layers.network import Adapter, conv_like
from visual_decathlon.methods.layers.parallel import ParallelPointwise


class Mix(nn.Module):
    """λ A: A (cout, cin) is block-diagonal of `groups` blocks, or `copies` times the same rows.

    Without λ it starts at zero, with λ at zero and A keeping its input's variance.
    """

    def __init__(self, like: Tensor, cin: int, cout: int, copies: int, groups: int, learned: bool):
        super().__init__()
        self.copies, self.groups = copies, groups
        self.weight = nn.Parameter(like.new_zeros(cout // copies, cin // groups))
        self.scale = nn.Parameter(like.new_zeros(())) if learned else None
        if learned:
            nn.init.kaiming_normal_(self.weight, nonlinearity="linear")

    def forward(self) -> Tensor:
        matrix = self.weight
        if self.groups > 1:
            matrix = torch.block_diag(*matrix.chunk(self.groups))
        matrix = matrix.repeat(self.copies, 1)
        return matrix if self.scale is None else self.scale * matrix


class GridParallel(ParallelPointwise):
    """conv(x) + λ A x."""

    def __init__(self, conv: nn.Conv2d, mix: Mix):
        super().__init__(conv)
        self.mix = mix

    def pointwise_kernel(self) -> Tensor:
        return self.mix()[:, :, None, None]


class GridSerial(Adapter):
    """y + λ A y of y = conv(x): a 1x1's weight gradient, where weight space would pay the whole convolution's."""

    def __init__(self, conv: nn.Conv2d, mix: Mix):
        super().__init__()
        self.conv, self.mix = conv, mix

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return y + F.conv2d(y, self.mix()[:, :, None, None])

    def merge(self) -> nn.Conv2d:
        conv, mix = self.conv, self.mix()
        weight = conv.weight + (mix @ conv.weight.flatten(1)).view_as(conv.weight)
        return conv_like(conv, weight, None if conv.bias is None else conv.bias + mix @ conv.bias)
