"""The spatial adapter: a bottleneck with a depthwise convolution in it, behind a batch norm."""

import torch.nn.functional as F
from torch import Tensor, nn

from visual_decathlon.methods.layers.adapter import Adapter


class SpatialNorm(Adapter):
    """(N, C, H, W) -> the same shape: h = norm(x), then h + up(relu(filter(relu(down(h) + shift)))).

    `norm` is a batch norm, or a convolution where no norm is behind it.
    """

    def __init__(self, norm: nn.Module, bottleneck: int):
        super().__init__()
        self.norm = norm
        channels = norm.out_channels if isinstance(norm, nn.Conv2d) else norm.num_features
        like = {"device": norm.weight.device, "dtype": norm.weight.dtype}
        self.down = nn.Conv2d(channels, bottleneck, 1, bias=False, **like)
        # Added afterwards: on a CPU a 1x1 with bias has other bits with another number of threads.
        self.shift = nn.Parameter(norm.weight.new_zeros(bottleneck, 1, 1))
        self.filter = nn.Conv2d(bottleneck, bottleneck, 3, padding=1, groups=bottleneck, **like)
        self.up = nn.Conv2d(bottleneck, channels, 1, bias=False, **like)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        h = self.norm(x)
        z = F.relu(self.filter(F.relu(self.down(h) + self.shift)))
        return h + self.up(z)
