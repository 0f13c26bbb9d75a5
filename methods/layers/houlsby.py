"""Houlsby: a bottleneck adapter after a batch norm."""

import torch.nn.functional as F
from torch import Tensor, nn

from visual_decathlon.methods.layers.network import Adapter


class BottleneckNorm(Adapter):
    """(N, C, H, W) -> the same shape: h = norm(x), then h + up(relu(down(h)))."""

    def __init__(self, norm: nn.BatchNorm2d, bottleneck: int):
        super().__init__()
        self.norm = norm
        channels, like = norm.num_features, {"device": norm.weight.device, "dtype": norm.weight.dtype}
        self.down = nn.Conv2d(channels, bottleneck, 1, bias=False, **like)
        self.up = nn.Conv2d(bottleneck, channels, 1, bias=False, **like)
        nn.init.kaiming_normal_(self.down.weight, nonlinearity="relu")
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        h = self.norm(x)
        return h + self.up(F.relu(self.down(h), inplace=True))
