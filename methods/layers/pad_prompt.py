"""Pad prompt: a convolution that gets its images with a learned border around them."""

import torch
from torch import Tensor, nn

from visual_decathlon.methods.layers.adapter import Adapter


class BorderedConv(Adapter):
    """(N, C, size, size) -> `conv` of the images with `width` learned pixels on every side."""

    def __init__(self, conv: nn.Conv2d, size: int, width: int):
        super().__init__()
        self.conv = conv
        channels, zeros = conv.in_channels, conv.weight.new_zeros
        self.rows = nn.Parameter(zeros(2, channels, width, size + 2 * width))  # above and below, corners in them
        self.columns = nn.Parameter(zeros(2, channels, size, width))  # left and right

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, size, size) -> (N, cout, H', W'), the border included."""
        above, below = self.rows.to(x).expand(len(x), *self.rows.shape).unbind(1)
        left, right = self.columns.to(x).expand(len(x), *self.columns.shape).unbind(1)
        return self.conv(torch.cat([above, torch.cat([left, x, right], 3), below], 2))
