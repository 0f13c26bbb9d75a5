"""RepAdapter: a linear bottleneck before a convolution."""

import torch
from torch import Tensor, nn

from visual_decathlon.methods.layers.adapter import Adapter
from visual_decathlon.methods.layers.network import conv_like
from visual_decathlon.methods.layers.noise import Noise


def weight_after_mix(weight: Tensor, change: Tensor) -> Tensor:
    """The kernel W (I + change) of a convolution of x + change x: `weight` (cout, cin, k, l), `change` (cin, cin)."""
    return weight + torch.einsum("oikl,ij->ojkl", weight, change)


class RepAdapterConv(Adapter):
    """(N, cin, H, W) -> (N, cout, H', W'): conv(x + scale * up(dropout(down(x)))), up in two groups.

    The two 1x1 convolutions make a step cheaper than the gradient of the whole weight in weight space would.
    """

    def __init__(self, conv: nn.Conv2d, hidden: int, bias: bool, scale: float = 1.0, dropout: float = 0.0):
        super().__init__()
        self.conv, self.scale, self.dropout = conv, scale, dropout
        self.noise = Noise().to(conv.weight.device) if dropout else None
        like = {"bias": bias, "device": conv.weight.device, "dtype": conv.weight.dtype}
        self.down = nn.Conv2d(conv.in_channels, hidden, 1, **like)
        self.up = nn.Conv2d(hidden, conv.in_channels, 1, groups=2, **like)
        nn.init.xavier_uniform_(self.down.weight)
        nn.init.zeros_(self.up.weight)
        if bias:
            nn.init.zeros_(self.down.bias)
            nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, cin, H, W) -> (N, cout, H', W')."""
        hidden = self.down(x)
        if self.training and self.noise is not None:
            hidden = self.noise.dropout(hidden, self.dropout)
        return self.conv(torch.add(x, self.up(hidden), alpha=self.scale))

    def merge(self) -> nn.Conv2d:
        """A frozen convolution with the weight W (I + scale U D). Raises AttributeError with biases."""
        if self.up.bias is not None:
            raise AttributeError("a biased RepAdapter does not merge: the convolution pads with zeros after it")
        change = torch.block_diag(*self.up.weight[:, :, 0, 0].chunk(2)) @ self.down.weight[:, :, 0, 0]
        return conv_like(self.conv, weight_after_mix(self.conv.weight, self.scale * change), self.conv.bias)
