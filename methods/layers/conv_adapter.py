"""Conv-Adapter: a depthwise and a pointwise convolution parallel to the frozen one."""

import torch.nn.functional as F
from torch import Tensor, nn

from visual_decathlon.methods.layers.adapter import Adapter


class ConvAdapterConv(Adapter):
    """(N, cin, H, W) -> (N, cout, H', W'): conv(x) + scale * up(relu(down(x)))."""

    def __init__(self, conv: nn.Conv2d, reduction: int):
        super().__init__()
        self.conv = conv
        width, like = conv.in_channels // reduction, {"device": conv.weight.device, "dtype": conv.weight.dtype}
        # A strided 1x1 equals the 1x1 of a sliced input; in channels_last only the latter is safe on some CPUs.
        self.slices = all(k == 1 for k in conv.kernel_size) and conv.padding == (0, 0)
        self.down = nn.Conv2d(
            conv.in_channels,
            width,
            conv.kernel_size,
            1 if self.slices else conv.stride,
            conv.padding,
            conv.dilation,
            groups=width,
            padding_mode=conv.padding_mode,
            **like,
        )
        self.up = nn.Conv2d(width, conv.out_channels, 1, bias=False, **like)
        self.scale = nn.Parameter(conv.weight.new_ones(conv.out_channels, 1, 1))
        for branch in (self.down, self.up):
            nn.init.kaiming_normal_(branch.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.down.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, cin, H, W) -> (N, cout, H', W')."""
        sliced = x[:, :, :: self.conv.stride[0], :: self.conv.stride[1]] if self.slices else x
        return self.conv(x) + self.scale * self.up(F.relu(self.down(sliced), inplace=True))
