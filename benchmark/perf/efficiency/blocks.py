"""The building blocks of efficient networks, each with its number of weights in closed form.

All map C channels to C at stride 1 without biases. So each weight is used once at each of the H W positions, and the
multiply-adds are H W times the weights. Batch norms are left out: at inference they are folded into the convolutions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor, nn

KERNEL, GROUPS, EXPANSION, DILATION = 3, 4, 6, 2


@dataclass(frozen=True)
class Block:
    """A block; `weights` and `ratio` are functions of C. `ratio` is that of weights to the standard convolution's.

    `formula` and `ratio_formula` are the same in words: C channels, k the kernel's side, g groups, t the expansion.
    `field` is the side of the receptive field in positions.
    """

    name: str
    source: str
    build: Callable[[int], nn.Module]
    weights: Callable[[int], int]
    formula: str
    ratio: Callable[[int], Fraction]
    ratio_formula: str
    field: int = KERNEL


class ShuffleUnit(nn.Module):
    """Grouped 1x1 to C / 4 channels, channel shuffle, depthwise 3x3, grouped 1x1 back; the input is added."""

    def __init__(self, channels: int):
        super().__init__()
        narrow = channels // 4
        self.path = nn.Sequential(
            _conv(channels, narrow, 1, groups=GROUPS),
            nn.ReLU(inplace=True),
            nn.ChannelShuffle(GROUPS),
            _conv(narrow, narrow, groups=narrow),
            _conv(narrow, channels, 1, groups=GROUPS),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        return (x + self.path(x)).relu_()


class Fire(nn.Module):
    """1x1 to C / 8 channels; on those a 1x1 and a 3x3 side by side, to C / 2 channels each."""

    def __init__(self, channels: int):
        super().__init__()
        self.squeeze = _conv(channels, channels // 8, 1)
        self.expand1 = _conv(channels // 8, channels // 2, 1)
        self.expand3 = _conv(channels // 8, channels // 2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        x = self.squeeze(x).relu_()
        return torch.cat([self.expand1(x).relu_(), self.expand3(x).relu_()], dim=1)


class InvertedResidual(nn.Module):
    """1x1 to 6 C channels, depthwise 3x3, a linear 1x1 back to C; the input is added."""

    def __init__(self, channels: int):
        super().__init__()
        wide = EXPANSION * channels
        self.path = nn.Sequential(
            _conv(channels, wide, 1),
            nn.ReLU6(inplace=True),
            _conv(wide, wide, groups=wide),
            nn.ReLU6(inplace=True),
            _conv(wide, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        return x + self.path(x)


def _conv(cin: int, cout: int, kernel: int = KERNEL, groups: int = 1, dilation: int = 1) -> nn.Conv2d:
    padding = dilation * (kernel // 2)
    return nn.Conv2d(cin, cout, kernel, padding=padding, groups=groups, dilation=dilation, bias=False)


def _one(kernel: int = KERNEL, groups: int = 1, dilation: int = 1) -> Callable[[int], nn.Module]:
    """A single convolution of C channels and its ReLU."""
    return lambda c: nn.Sequential(_conv(c, c, kernel, groups, dilation), nn.ReLU(inplace=True))


def _separable(c: int) -> nn.Module:
    relu = lambda: nn.ReLU(inplace=True)
    return nn.Sequential(_conv(c, c, groups=c), relu(), _conv(c, c, 1), relu())


K2 = KERNEL**2

BLOCKS = (
    Block(
        name="standard",
        source="convolution k × k",
        build=_one(),
        weights=lambda c: K2 * c * c,
        formula="k² C²",
        ratio=lambda c: Fraction(1),
        ratio_formula="1",
    ),
    Block(
        name="grouped",
        source="convolution in g = 4 groups (ResNeXt, Xie et al. 2017)",
        build=_one(groups=GROUPS),
        weights=lambda c: K2 * c * c // GROUPS,
        formula="k² C² / g",
        ratio=lambda c: Fraction(1, GROUPS),
        ratio_formula="1 / g",
    ),
    Block(
        name="depthwise-separable",
        source="depthwise k × k, then 1 × 1 (MobileNet, Howard et al. 2017)",
        build=_separable,
        weights=lambda c: K2 * c + c * c,
        formula="k² C + C²",
        ratio=lambda c: Fraction(1, c) + Fraction(1, K2),
        ratio_formula="1 / C + 1 / k²",
    ),
    Block(
        name="pointwise",
        source="convolution 1 × 1",
        build=_one(kernel=1),
        weights=lambda c: c * c,
        formula="C²",
        ratio=lambda c: Fraction(1, K2),
        ratio_formula="1 / k²",
        field=1,
    ),
    Block(
        name="channel shuffle",
        source="unit of ShuffleNet: grouped 1 × 1 to C / 4, shuffle, depthwise, grouped 1 × 1 (Zhang et al. 2018)",
        build=ShuffleUnit,
        weights=lambda c: 2 * c * (c // 4) // GROUPS + K2 * (c // 4),
        formula="C² / (2 g) + k² C / 4",
        ratio=lambda c: Fraction(1, 2 * GROUPS * K2) + Fraction(1, 4 * c),
        ratio_formula="1 / (2 g k²) + 1 / (4 C)",
    ),
    Block(
        name="fire",
        source="SqueezeNet: 1 × 1 to C / 8, then 1 × 1 and k × k to C / 2 each (Iandola et al. 2016)",
        build=Fire,
        weights=lambda c: c * (c // 8) + (c // 8) * (c // 2) + K2 * (c // 8) * (c // 2),
        formula="C² (3 + k²) / 16",
        ratio=lambda c: Fraction(3 + K2, 16 * K2),
        ratio_formula="(3 + k²) / (16 k²)",
    ),
    Block(
        name="inverted residual",
        source="MobileNetV2: 1 × 1 to t C, t = 6, depthwise k × k, 1 × 1 (Sandler et al. 2018)",
        build=InvertedResidual,
        weights=lambda c: 2 * EXPANSION * c * c + K2 * EXPANSION * c,
        formula="2 t C² + k² t C",
        ratio=lambda c: Fraction(2 * EXPANSION, K2) + Fraction(EXPANSION, c),
        ratio_formula="2 t / k² + t / C",
    ),
    Block(
        name="dilated",
        source="convolution k × k with gaps, dilation 2 (Yu and Koltun 2016)",
        build=_one(dilation=DILATION),
        weights=lambda c: K2 * c * c,
        formula="k² C²",
        ratio=lambda c: Fraction(1),
        ratio_formula="1",
        field=DILATION * (KERNEL - 1) + 1,
    ),
)
"""The standard convolution first: all ratios are to it."""
