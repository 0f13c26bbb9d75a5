"""Shapes of a backbone's layers, from which the methods compute their parameter counts in closed form."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod


@dataclass(frozen=True)
class ConvShape:
    """Shape and geometry of one convolution."""

    cin: int
    cout: int
    kernel: tuple[int, int]
    groups: int = 1
    bias: bool = False
    stride: tuple[int, int] = (1, 1)
    name: str = ""  # module path in the network
    centred: bool = True  # a 1x1 of the same stride reads the same pixels as the kernel's centre tap

    @classmethod
    def of(cls, conv, name: str = "") -> "ConvShape":
        """The shape of a torch.nn.Conv2d."""
        kernel, stride = tuple(conv.kernel_size), tuple(conv.stride)
        centred = not isinstance(conv.padding, str) and all(
            k % 2 == 1 and p == d * (k // 2) for k, p, d in zip(kernel, conv.padding, conv.dilation, strict=True)
        )
        biased = conv.bias is not None
        return cls(conv.in_channels, conv.out_channels, kernel, conv.groups, biased, stride, name, centred)

    @property
    def fan_in(self) -> int:
        """n = (cin / groups) k l: columns of the weight as a matrix of cout rows."""
        return (self.cin // self.groups) * prod(self.kernel)

    @property
    def floats(self) -> int:
        """cout n, and cout more with a bias."""
        return self.cout * self.fan_in + self.bias * self.cout


@dataclass(frozen=True)
class NormShape:
    """Channels of one batch norm and its module path."""

    channels: int
    name: str = ""


@dataclass(frozen=True)
class Shapes:
    """`convs` and `norms` in order, `dim` the inputs of the head, `blocks` the module paths of the residual blocks.

    `size` is the side of the input images in pixels.
    """

    convs: tuple[ConvShape, ...]
    norms: tuple[NormShape, ...]
    dim: int
    blocks: tuple[str, ...] = ()
    size: int = 64

    @property
    def affine(self) -> int:
        """Floats in the scales and shifts of all batch norms."""
        return 2 * sum(n.channels for n in self.norms)

    @property
    def base(self) -> int:
        """Parameters of the plain backbone without a head: convolutions and batch norm."""
        return sum(c.floats for c in self.convs) + self.affine

    def head(self, classes: int) -> int:
        """Parameters of a linear head with bias: (dim + 1) classes."""
        return (self.dim + 1) * classes

    def inside(self, module: str) -> list[ConvShape]:
        """The convolutions below the module of this path, in order."""
        return [c for c in self.convs if c.name.startswith(f"{module}.")]

    @property
    def stages(self) -> dict[str, list[str]]:
        """Module path of each stage, in order -> those of its residual blocks."""
        stages: dict[str, list[str]] = {}
        for block in self.blocks:
            stages.setdefault(block.rpartition(".")[0], []).append(block)
        return stages

    def below(self, module: str) -> int:
        """Parameters below the module of this path."""
        convs = sum(c.floats for c in self.inside(module))
        return convs + sum(2 * n.channels for n in self.norms if n.name.startswith(module + "."))


def first_of_blocks(convs: Iterable[str], blocks: Iterable[str]) -> set[str]:
    """Module paths of the first convolution of every residual block, of `convs` in order and `blocks`."""
    convs = list(convs)
    first = (next((conv for conv in convs if conv.startswith(f"{block}.")), "") for block in blocks)
    return {conv for conv in first if conv}


@dataclass(frozen=True)
class KroneckerShape:
    """Shapes of LoKr at one convolution: W1 (out1, in1), W2 (out2, in2, k, l), of `rank`, or whole where that is 0."""

    out1: int
    out2: int
    in1: int
    in2: int
    kernel: tuple[int, int]
    rank: int

    @property
    def floats(self) -> int:
        """out1 in1 + rank (out2 + in2 k l), or out1 in1 + out2 in2 k l without a rank."""
        columns = self.in2 * prod(self.kernel)
        return self.out1 * self.in1 + (self.rank * (self.out2 + columns) if self.rank else self.out2 * columns)
