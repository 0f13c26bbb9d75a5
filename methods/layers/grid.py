"""The talk's grid: its 1x1 as a matrix, and its two places at a convolution."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visual_decathlon.methods.layers.adapter import Adapter
from visual_decathlon.methods.layers.network import conv_like
from visual_decathlon.methods.layers.parallel import ParallelPointwise


def tiled_matrix(blocks: Tensor, groups: int, copies: int) -> Tensor:
    """A (cout, cin) of its trained numbers (cout / copies, cin / groups).

    The rows are split into `groups` blocks on the diagonal; then all rows are repeated `copies` times.
    """
    if groups > 1:
        blocks = torch.block_diag(*blocks.chunk(groups))
    return blocks.repeat(copies, 1)


def serial_weight(weight: Tensor, matrix: Tensor) -> Tensor:
    """The kernel (cout, cin, k, l) of W followed by y + A y, A (cout, cout)."""
    return weight + (matrix @ weight.flatten(1)).view_as(weight)


class Mix(nn.Module):
    """λ A: A (cout, cin) is block-diagonal with `groups` blocks, or repeats the same rows `copies` times.

    Without λ, A starts at zero. With λ, λ starts at zero and A keeps the variance of its input.
    """

    def __init__(self, like: Tensor, cin: int, cout: int, copies: int, groups: int, learned: bool):
        super().__init__()
        self.copies, self.groups = copies, groups
        self.weight = nn.Parameter(like.new_zeros(cout // copies, cin // groups))
        self.scale = nn.Parameter(like.new_zeros(())) if learned else None
        if learned:
            nn.init.kaiming_normal_(self.weight, nonlinearity="linear")

    def forward(self) -> Tensor:
        """λ A (cout, cin)."""
        matrix = tiled_matrix(self.weight, self.groups, self.copies)
        return matrix if self.scale is None else self.scale * matrix


class GridParallel(ParallelPointwise):
    """conv(x) + λ A x."""

    def __init__(self, conv: nn.Conv2d, mix: Mix):
        super().__init__(conv)
        self.mix = mix

    def pointwise_kernel(self) -> Tensor:
        """λ A as a (cout, cin, 1, 1) kernel."""
        return self.mix()[:, :, None, None]


class GridSerial(Adapter):
    """y + λ A y of y = conv(x): it needs the weight gradient of a 1x1, weight space that of the whole convolution."""

    def __init__(self, conv: nn.Conv2d, mix: Mix):
        super().__init__()
        self.conv, self.mix = conv, mix

    def forward(self, x: Tensor) -> Tensor:
        """(N, cin, H, W) -> (N, cout, H', W')."""
        y = self.conv(x)
        return y + F.conv2d(y, self.mix()[:, :, None, None])

    def merge(self) -> nn.Conv2d:
        """A frozen convolution with the weight (I + λ A) W and the bias (I + λ A) b."""
        conv, mix = self.conv, self.mix()
        bias = None if conv.bias is None else conv.bias + mix @ conv.bias
        return conv_like(conv, serial_weight(conv.weight, mix), bias)
