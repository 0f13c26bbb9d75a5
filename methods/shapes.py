"""The shapes of a backbone's layers: what a method's closed-form count is a function of."""

from dataclasses import dataclass
from math import prod


@dataclass(frozen=True)
class ConvShape:
    cin: int
    cout: int
    kernel: tuple[int, int]
    groups: int = 1
    bias: bool = False

    @property
    def floats(self) -> int:
        return self.cout * (self.cin // self.groups) * prod(self.kernel) + self.bias * self.cout


@dataclass(frozen=True)
class Shapes:
    """`convs` in order, `norms` the channels of every batch norm, `dim` the features of the head."""

    convs: tuple[ConvShape, ...]
    norms: tuple[int, ...]
    dim: int

    @property
    def affine(self) -> int:
        """Scale and shift of every batch norm."""
        return 2 * sum(self.norms)

    @property
    def base(self) -> int:
        """Parameters of the plain backbone without a head: convolutions and batch norm."""
        return sum(c.floats for c in self.convs) + self.affine

    def head(self, classes: int) -> int:
        return (self.dim + 1) * classes
