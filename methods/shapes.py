"""Shapes of a backbone's layers, from which the methods compute their parameter counts in closed form."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import isqrt, prod

from visual_decathlon.datasets.errors import InputError


@dataclass(frozen=True)
class ConvShape:
    """Shape and geometry of one convolution, or of a linear layer, which is a 1x1 convolution of each position."""

    cin: int
    cout: int
    kernel: tuple[int, int]
    groups: int = 1
    bias: bool = False
    stride: tuple[int, int] = (1, 1)
    name: str = ""  # module path in the network
    centred: bool = True  # a 1x1 of the same stride reads the same pixels as the kernel's centre tap
    linear: bool = False  # a linear layer: its channels are the last axis of what it reads
    normed: bool = False  # a batch norm alone reads what it gives

    @classmethod
    def of(cls, conv, name: str = "") -> "ConvShape":
        """The shape of a torch.nn.Conv2d, or of an nn.Linear or `methods.layers.linear.LinearConv`."""
        if hasattr(conv, "in_features"):
            biased = conv.bias is not None
            return cls(conv.in_features, conv.out_features, (1, 1), bias=biased, name=name, linear=True)
        kernel, stride = tuple(conv.kernel_size), tuple(conv.stride)
        centred = not isinstance(conv.padding, str) and all(
            k % 2 == 1 and p == d * (k // 2) for k, p, d in zip(kernel, conv.padding, conv.dilation, strict=True)
        )
        biased = conv.bias is not None
        return cls(conv.in_channels, conv.out_channels, kernel, conv.groups, biased, stride, name, centred)

    @property
    def depthwise(self) -> bool:
        """Whether each of its filters reads one channel and every channel has one: groups = cin = cout, and no 1x1."""
        return self.groups == self.cin == self.cout and prod(self.kernel) > 1

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
    """Channels of one norm, its module path, and what it has: a batch norm's statistics, a scale, a shift."""

    channels: int
    name: str = ""
    batch: bool = True  # it has running statistics, which a domain replaces by its own
    scale: bool = True
    shift: bool = True

    @property
    def floats(self) -> int:
        """Trained floats: a scale and a shift a channel, where it has them."""
        return self.channels * (self.scale + self.shift)


@dataclass(frozen=True)
class BlockShape:
    """One block: its module path, the channels that it reads and gives, and the number of its stage, from 0.

    `last` is the path of the last layer on its main path, the norm behind a convolution or the convolution where there
    is none, and `width` the channels of that. `tokens` tells that channels are the last axis of what the block gives,
    (N, L, C) or (N, H, W, C), not the second, and `any_length` that it maps tokens (N, L, C) to as many for any L.
    `simple` tells that the block maps one tensor to one, or a list of maps that it joins along the channels, and that
    it gives as many tokens as it reads, with channels on the same axis. `single` tells that it gives one tensor, in no
    tuple.
    """

    name: str
    cin: int
    cout: int
    stage: int = 0
    last: str = ""
    width: int = 0
    tokens: bool = False
    any_length: bool = False
    simple: bool = True
    single: bool = True


@dataclass(frozen=True)
class AttentionShape:
    """Self-attention of one layer: its module path, the path of its fused projection, and its output projection's.

    The fused projection maps `dim` channels to 3 `inner`, for `heads` heads.
    `thirds` tells that the 3 `inner` are the queries, the keys and the values, in this order, and not those of one head
    behind those of another.
    """

    name: str
    qkv: str
    proj: str
    dim: int
    inner: int
    heads: int
    hidden: tuple[str, str, str] = ("", "", "")  # the MLP behind it: its path, its first and its last linear layer
    thirds: bool = True
    gives: int = 0  # channels of its output; 0 where that is a tuple


@dataclass(frozen=True)
class SdpaShape:
    """Attention as a module computes it by torch's scaled_dot_product_attention (SDPA).

    `heads` are those of its keys, `keys` and `values` the channels of all heads together. `count` tells how often the
    module calls the function in a pass.
    """

    name: str  # module path
    heads: int
    keys: int
    values: int
    count: int = 1


@dataclass(frozen=True)
class GridShape:
    """Where the tokens (N, L, C) of one module lie in the image: L = `prefix` + `height` * `width`.

    The `prefix` tokens in front are none of the image (class and register tokens); patches follow row by row.
    """

    name: str  # module path
    height: int
    width: int
    prefix: int = 0

    def sides(self, tokens: int) -> tuple[int, int]:
        """Rows and columns of so many tokens; of another number than here they are a square.

        Raises InputError where they are none.
        """
        patches = tokens - self.prefix
        if patches == self.height * self.width:
            return self.height, self.width
        side = isqrt(max(0, patches))
        if side**2 != patches or not side:
            raise InputError(f"{patches} patches of an image make no square grid; give images of the backbone's size")
        return side, side


@dataclass(frozen=True)
class OtherShape:
    """A module with other parameters of its own, and their number: tokens, embeddings, LayerScale.

    `layer` tells that it is a convolution or a linear layer that no adapter can replace, since the network computes
    with it in a way of its own: it pads or standardises, or reads the weight without calling the layer.
    """

    name: str
    floats: int
    layer: bool = False


@dataclass(frozen=True)
class Shapes:
    """`convs` (linear layers among them) and `norms` in the order of registration, `dim` the inputs of the head.

    `size` is the side of the input images in pixels. `others` are all other parameters: tokens, embeddings, layers that
    are called in a way of their own. `order` has the paths of all these layers in the order in which a pass calls them.
    `chain` tells that the network is a chain of its blocks and layers, each of which reads what the one before gave.
    `cuts` are, where it is none, the blocks of which all that follows knows the image only through the one tensor that
    they read.
    `attentions` have one linear layer for queries, keys and values; `sdpas` are all that call torch's function.
    `grids` has the grids of the tokens that blocks and linear layers give, where they are known.
    """

    convs: tuple[ConvShape, ...]
    norms: tuple[NormShape, ...]
    dim: int
    block_shapes: tuple[BlockShape, ...] = ()
    size: int = 64
    others: tuple[OtherShape, ...] = ()
    order: tuple[str, ...] = ()
    chain: bool = True
    attentions: tuple[AttentionShape, ...] = ()
    sdpas: tuple[SdpaShape, ...] = ()
    any_size: bool = True  # it takes images of other sizes too
    grids: tuple[GridShape, ...] = ()
    cuts: tuple[str, ...] = ()

    @property
    def blocks(self) -> tuple[str, ...]:
        """Module paths of the blocks, in order."""
        return tuple(block.name for block in self.block_shapes)

    @property
    def affine(self) -> int:
        """Floats in the scales and shifts of all batch norms, which every domain has of its own beside statistics."""
        return sum(n.floats for n in self.norms if n.batch)

    @property
    def affine_norms(self) -> tuple[NormShape, ...]:
        """The norms that have both a scale and a shift."""
        return tuple(n for n in self.norms if n.scale and n.shift)

    @property
    def base(self) -> int:
        """Parameters of the plain backbone without a head."""
        return sum(layer.floats for layers in (self.convs, self.norms, self.others) for layer in layers)

    def grid(self, module: str) -> GridShape | None:
        """The grid of the tokens that this block or linear layer gives; None where it is not known."""
        return next((grid for grid in self.grids if grid.name == module), None)

    @property
    def of_tokens(self) -> bool:
        """Whether it has attention, or blocks that compute on tokens: a transformer, or an MLP of tokens."""
        return bool(self.attentions) or any(block.tokens for block in self.block_shapes)

    @property
    def has_other_layers(self) -> bool:
        """Whether there is more than convolutions and norms: linear layers, tokens, embeddings, LayerScale."""
        return bool(self.others) or any(conv.linear for conv in self.convs)

    def head(self, classes: int) -> int:
        """Parameters of a linear head with bias: (dim + 1) classes."""
        return (self.dim + 1) * classes

    def inside(self, module: str) -> list[ConvShape]:
        """The convolutions below the module of this path, in order."""
        return [c for c in self.convs if c.name.startswith(f"{module}.")]

    @property
    def stages(self) -> list[list[BlockShape]]:
        """The blocks of each stage, in order: those in a row whose outputs have one shape."""
        return [list(blocks) for _, blocks in groupby(self.block_shapes, key=lambda block: block.stage)]

    def below(self, module: str) -> int:
        """Parameters at and below the module of this path."""
        layers = [*self.convs, *self.norms, *self.others]
        return sum(layer.floats for layer in layers if f"{layer.name}.".startswith(f"{module}."))

    def require_blocks(self, method: str, remedy: str) -> None:
        """Raises InputError where there are no blocks, which `method` reads, with what to do as `remedy`."""
        if not self.block_shapes:
            raise InputError(f"{method} adapts residual blocks and this backbone has none; {remedy}")

    def require_simple(self, method: str, instead: str) -> None:
        """Raises InputError where a block reads or gives more than one map, as `method` would have to follow it."""
        if odd := [block.name for block in self.block_shapes if not block.simple]:
            raise InputError(
                f"{method} follows one map from block to block, and {odd[0]} of this backbone reads or gives several, "
                f"or another number of tokens; use {instead}"
            )

    def require_grids(self, method: str, blocks: Iterable[BlockShape], instead: str) -> None:
        """Raises InputError where these blocks give tokens of which it is not known where they lie in the image."""
        if lost := [block.name for block in blocks if block.tokens and self.grid(block.name) is None]:
            raise InputError(
                f"{method} reads maps, and the tokens that {lost[0]} of this backbone gives have no known grid; "
                f"use {instead}"
            )


def onwards(order: Sequence[str], block: str) -> list[str]:
    """The layers that a pass calls from the first one at or inside `block` to the end; `order` is the pass's."""
    first = next(i for i, name in enumerate(order) if f"{name}.".startswith(f"{block}."))
    return list(order[first:])


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
