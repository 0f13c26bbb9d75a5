"""ΔW that a Fourier transform makes simple: of few frequencies (FourierFT), or a circular convolution (C³A)."""

from dataclasses import dataclass
from math import gcd

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.low_rank import require_positive
from visual_decathlon.methods.per_conv import PerConv
from visual_decathlon.methods.random_bases import require_seed
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import ConvShape, Shapes


@register
@dataclass(frozen=True)
class FourierFT(PerConv):
    """Gao et al. 2024: ΔM = scale Re F⁻¹(E) on the weight as a matrix (cout, n), E with `count` real entries.

    Their places are random, drawn from `position_seed`, the same for all convolutions of one size, neither stored nor
    counted. F⁻¹ is the orthonormal inverse 2D transform: the paper's α is scale √(cout n), with α 300 at ViT-B a scale
    of 0.39. The entries start at zero: the identity (the paper's start normal, HF PEFT offers both). A place and the
    one mirrored through the origin are the same cosine in the real part; the paper draws both, and so does this. A
    convolution with fewer than `count` weights has an entry for each. It stores `count` floats a convolution: #par.
    1.05. HF PEFT takes linear layers only.
    """

    name = "fourierft"
    label = "FourierFT"
    family = "spectral"
    fidelity = "adaptation"
    paper = "Gao 2024, arXiv 2405.03003"
    mergeable = True
    lr = 0.1

    count: int = 1000
    scale: float = 1.0
    position_seed: int = 0

    def __post_init__(self):
        require_positive(self, "count", "scale")
        require_seed(self, "position_seed")

    def check(self, shapes: Shapes) -> None:
        """Raises InputError where no convolution has as many weights as the spectrum has entries."""
        super().check(shapes)
        largest = max(c.cout * c.fan_in for c in shapes.convs)
        if self.count > largest:
            raise InputError(
                f"fourierft(count={self.count}): there are more entries than weights in every convolution of this "
                f"backbone (the largest has {largest}); lower it"
            )

    def layer(self, conv):
        """W + scale Re F⁻¹(E) at this convolution."""

        from visual_decathlon.methods.layers.spectral import FourierConv

        return FourierConv(conv, self.new_floats(ConvShape.of(conv)), self.scale, self.position_seed)

    def new_floats(self, conv: ConvShape) -> int:
        """min(count, cout n)."""
        return min(self.count, conv.cout * conv.fan_in)


@register
@dataclass(frozen=True)
class C3A(PerConv):
    """Chen et al. 2024, C³A: ΔW of b x b circulant blocks, s C(c)[i, j] = s c[(j - i) mod b], s = 1 / √b.

    Each tap of the kernel is a matrix (cout, cin / groups) of such blocks; with the columns of M ordered tap by tap
    this is the paper's matrix. (In the weight's own order a circulant would mix taps with channels.) b is `block`, or
    at a convolution whose channels it does not divide, the largest common divisor of the three; where that is 1, as at
    the ResNet-26's stem of 3 channels, the convolution is left alone. The kernels start at zero: the identity (HF
    PEFT's default start is Xavier's, and its s is 1 / n, for Adam). The circular convolution is computed as the
    circulant's product, not by Fourier transforms. It stores cout n / b floats a convolution: #par. 1.29.
    """

    name = "c3a"
    label = "C³A"
    family = "spectral"
    fidelity = "adaptation"
    paper = "Chen 2024, arXiv 2407.19342"
    mergeable = True
    lr = 0.3

    block: int = 32

    def __post_init__(self):
        if self.block < 2:
            raise InputError(f"c3a(block={self.block}): block must be 2 or more; of 1 it is the whole weight")

    def block_at(self, conv: ConvShape) -> int:
        """The side of a block at this convolution: the largest common divisor of `block` and its channels."""
        return gcd(self.block, conv.cout, conv.cin // conv.groups)

    def skip_reason(self, conv: ConvShape) -> str:
        """Convolutions whose channels have no common divisor with `block` are left alone."""
        if self.block_at(conv) > 1:
            return ""
        return (
            f"{conv.cout} filters of {conv.cin // conv.groups} channels have no common divisor with block {self.block}"
        )

    def layer(self, conv):
        """W + s C at this convolution."""

        from visual_decathlon.methods.layers.spectral import CirculantConv

        return CirculantConv(conv, self.block_at(ConvShape.of(conv)))

    def new_floats(self, conv: ConvShape) -> int:
        """cout n / b."""
        return conv.cout * conv.fan_in // self.block_at(conv)
