"""Kernels that are rotated: the matrix M of a convolution times an orthogonal matrix."""

from dataclasses import dataclass
from typing import Literal

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.per_conv import PerConv, Ranked
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import ConvShape, Shapes


@register
@dataclass(frozen=True)
class OFT(PerConv):
    """OFT (Qiu 2023): M <- M Qᵀ (`side='right'`), which turns all filters alike: their lengths and angles stay.

    Q is block-diagonal; each block is the exact Cayley transform (I - S)(I + S)⁻¹ of a skew-symmetric S. S starts at
    zero: the identity. Where `block` does not divide the n columns, the largest divisor below it is used and counted.
    It stores (n / b) b (b - 1) / 2 a convolution: #par. 1.74 with blocks of 32. The paper turns the inputs of a linear
    layer in this way, and so does HF PEFT; but for a kernel larger than 1x1 PEFT rotates unfolded patches and adds them
    where they overlap, which is another function even at the start.
    `side='left'` is Q M, LyCORIS's Diag-OFT (Yeh 2024, arXiv 2309.14859): blocks of filters are mixed, so their angles
    change. It stores (cout / b) b (b - 1) / 2: #par. 1.10. LyCORIS's limit on S and its trained scale are not here.
    """

    name = "oft"
    label = "OFT"
    family = "orthogonal"
    fidelity = "adaptation"
    paper = "Qiu 2023, arXiv 2306.07280"
    mergeable = True
    lr = 0.06

    block: int = 32
    side: Literal["left", "right"] = "right"

    def __post_init__(self):
        if self.block < 2:
            raise InputError(f"oft(block={self.block}): a block of one turns nothing; block must be 2 or more")

    def _size(self, conv: ConvShape) -> int:
        return conv.cout // conv.groups if self.side == "left" else conv.fan_in

    def block_at(self, conv: ConvShape) -> int:
        """The largest block up to `block` that divides the rows or columns of this convolution."""
        size = self._size(conv)
        return max(b for b in range(1, min(self.block, size) + 1) if size % b == 0)

    def skip_reason(self, conv):
        """A block of one would change nothing."""
        what = "filters of a group" if self.side == "left" else "columns"
        if self.block_at(conv) == 1:
            return f"its {self._size(conv)} {what} make no equal blocks of 2 to {self.block}"
        return ""

    def check(self, shapes: Shapes) -> None:
        """Raises InputError where `block` is larger than every matrix."""
        super().check(shapes)
        largest = max(map(self._size, shapes.convs))
        if largest < self.block:
            raise InputError(
                f"{self.spec}: a block of {self.block} is larger than every matrix of this backbone "
                f"(the largest has {largest} {'rows' if self.side == 'left' else 'columns'}); lower it"
            )

    def layer(self, conv):
        """Q M or M Qᵀ at this convolution."""

        from visual_decathlon.methods.layers.orthogonal import OFTConv

        return OFTConv(conv, self.block_at(ConvShape.of(conv)), self.side)

    def new_floats(self, conv):
        """(size / b) b (b - 1) / 2, size = cout on the left and n on the right."""
        turned = conv.cout if self.side == "left" else conv.fan_in
        return turned * (self.block_at(conv) - 1) // 2


@register
@dataclass(frozen=True)
class BOFT(PerConv):
    """BOFT (Liu 2023): M <- M (Q_m ... Q_1)ᵀ, `factors` = m butterflies over the n columns.

    Each butterfly is block-diagonal with exact Cayley blocks after the columns are reordered: the i-th, from 0,
    rotates half a block together with the half block 2^i further. S starts at zero: the identity. A convolution uses as
    many butterflies as the powers of two in its number of columns allow, and is left alone where `block` does not
    divide them. It stores m (n / b) b (b - 1) / 2 a convolution (HF PEFT stores all b² numbers of S). The paper's scale
    per filter is not here: a batch norm in training cancels it.
    """

    name = "boft"
    label = "BOFT"
    family = "orthogonal"
    fidelity = "adaptation"
    paper = "Liu 2023, arXiv 2311.06243"
    mergeable = True
    lr = 0.1

    block: int = 4
    factors: int = 4

    def __post_init__(self):
        if self.block < 2 or self.block % 2:
            raise InputError(f"boft(block={self.block}): a butterfly pairs half blocks; block must be even, 2 or more")
        if self.factors < 1:
            raise InputError(f"boft(factors={self.factors}): factors must be 1 or more")

    def skip_reason(self, conv):
        """`block` must divide the columns."""
        return f"its {conv.fan_in} columns make no blocks of {self.block}" if conv.fan_in % self.block else ""

    def factors_at(self, conv: ConvShape) -> int:
        """Butterflies at this convolution: at most 1 + how often 2 divides its number of blocks."""
        blocks = conv.fan_in // self.block
        return min(self.factors, (blocks & -blocks).bit_length())  # 1 + how often 2 divides the blocks

    def check(self, shapes: Shapes) -> None:
        """Raises InputError where no convolution has the columns for `factors` butterflies."""
        super().check(shapes)
        most = max(map(self.factors_at, self.adapted(shapes)))
        if most < self.factors:
            raise InputError(
                f"{self.full_spec}: no convolution of this backbone has the columns for {self.factors} butterflies "
                f"of blocks of {self.block} (one has them for {most}); lower factors or block"
            )

    def layer(self, conv):
        """M (Q_m ... Q_1)ᵀ at this convolution."""

        from visual_decathlon.methods.layers.orthogonal import BOFTConv

        return BOFTConv(conv, self.block, self.factors_at(ConvShape.of(conv)))

    def new_floats(self, conv):
        """m (n / b) b (b - 1) / 2."""
        return self.factors_at(conv) * conv.fan_in * (self.block - 1) // 2


@register
@dataclass(frozen=True)
class HRA(Ranked):
    """HRA (Yuan 2024): M <- M H_1 ... H_r, Householder reflections H = I - 2 u uᵀ / |u|² of the n columns.

    With an even rank the vectors start as random equal pairs, which cancel: the identity. An odd product is no
    rotation and has another start, as in HF PEFT. The vectors start with unit length, which does not change the
    function but the gradient. The paper's penalty on UᵀU is not here. It stores r n a convolution: #par. 1.39 at
    rank 8.
    """

    name = "hra"
    label = "HRA"
    family = "orthogonal"
    fidelity = "adaptation"
    paper = "Yuan 2024, arXiv 2405.17484"
    mergeable = True
    lr = 0.03

    rank: int = 8

    @property
    def start(self):
        """The identity for an even rank, `other` for an odd one."""
        return "other" if self.rank % 2 else "identity"

    def skip_reason(self, conv):
        """Filters with one weight are left alone."""
        return "its filters have one weight each, which a reflection can only negate" if conv.fan_in == 1 else ""

    def largest_rank(self, conv):
        """n, or n - 1 where only that keeps an even rank even or an odd one odd."""
        return conv.fan_in - (conv.fan_in - self.rank) % 2  # clipped, an even rank stays even

    def layer(self, conv):
        """M H_1 ... H_r at this convolution."""

        from visual_decathlon.methods.layers.orthogonal import HRAConv

        return HRAConv(conv, self.rank_at(ConvShape.of(conv)))

    def new_floats(self, conv):
        """r n."""
        return self.rank_at(conv) * conv.fan_in
