"""The decathlon ResNet-26 (Rebuffi, Bilen, Vedaldi 2017), as their public code computes it.

3x3 stem to 32 channels, stride 1, batch norm, no ReLU, no pooling; three stages of four basic blocks
with 64, 128 and 256 channels, the first of each at stride 2; where the shape changes the shortcut is
2x2 average pooling and zero channels, so it has no parameters; then batch norm, ReLU, global average
pooling and a linear head. A width factor multiplies the channels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visual_decathlon.benchmark.backbones.shapes import BLOCKS, resnet26_shapes, stage_channels
from visual_decathlon.methods.layers.network import Network, Site, start_afresh


def norm_relu(norm: nn.Module, x: Tensor, residual: Tensor | None = None) -> Tensor:
    """ReLU of norm(x), or of norm(x) + residual; the norm computes all of it where it `fuses_relu` (fused_norm.py)."""
    if getattr(norm, "fuses_relu", False):
        return norm(x, residual, relu=True)
    y = norm(x)
    return F.relu(y if residual is None else y + residual, inplace=True)


class Unit(nn.Module):
    """Convolution 3x3 and its batch norm, then the sum with a residual where one is given, then with `relu` a ReLU."""

    def __init__(self, cin: int, cout: int, stride: int = 1, relu: bool = True):
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, 3, stride, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(cout)
        self.relu = relu

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """(N, cin, H, W) -> (N, cout, H / stride, W / stride); a residual is only used with `relu`."""
        y = self.conv(x)
        return norm_relu(self.bn, y, residual) if self.relu else self.bn(y)


class Block(nn.Module):
    """(N, cin, H, W) -> (N, cout, H / stride, W / stride)."""

    def __init__(self, cin: int, cout: int, stride: int):
        super().__init__()
        self.unit1 = Unit(cin, cout, stride)
        self.unit2 = Unit(cout, cout)
        self.halves = stride == 2

    def forward(self, x: Tensor) -> Tensor:
        """Adds the shortcut before the last ReLU: average pooling and zero channels at stride 2 (option A)."""
        y = self.unit1(x)
        if self.halves:
            x = F.avg_pool2d(x, 2)
            x = torch.cat([x, torch.zeros_like(x)], dim=1)
        return self.unit2(y, x)


class Body(nn.Module):
    """(N, 3, H, W) -> (N, 256 * width); H and W are multiples of 8."""

    def __init__(self, width: float = 1.0):
        super().__init__()
        channels = stage_channels(width)
        self.stem = Unit(3, channels[0], relu=False)
        self.stages = nn.ModuleList(
            nn.Sequential(*(Block(cin if b == 0 else cout, cout, 2 if b == 0 else 1) for b in range(BLOCKS)))
            for cin, cout in zip(channels, channels[1:], strict=False)
        )
        self.norm = nn.BatchNorm2d(channels[-1])

    def forward(self, x: Tensor) -> Tensor:
        """The features in front of the head."""
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return norm_relu(self.norm, x).mean(dim=(2, 3))


def resnet26(classes: int, width: float = 1.0) -> Network:
    """Builds a network with the reference code's random start (from torch's global generator)."""
    body = Body(width)
    start_afresh(body)
    sites = [
        Site(f"body.{name}.conv", f"body.{name}.bn")
        for name, module in body.named_modules()
        if isinstance(module, Unit)
    ]
    return Network(body, nn.Linear(body.norm.num_features, classes), sites, resnet26_shapes(width))
