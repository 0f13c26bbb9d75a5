"""ΔW of low rank: as a matrix (LoRA), as a CP, a Tucker-2, and a Tucker-2 with a CP core of the kernel tensor.

All are W' = W + λ U R, with U (cout, r) zero at the start and R (r, n) the product of the other factors. λ is alpha / r
for the r of the option, also at a convolution that allows only a smaller one. `lora` has other forms and starts too.
"""

from dataclasses import dataclass
from math import prod, sqrt
from typing import Literal

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.per_conv import PerConv, Ranked
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import ConvShape, Shapes


def require_positive(method, *options: str) -> None:
    """Raises InputError for the first of these options that is 0 or less."""
    for option in options:
        if getattr(method, option) <= 0:
            raise InputError(f"{method.name}({option}={getattr(method, option)!r}): {option} must be above 0")


class Scaled(Ranked):
    """A Ranked whose ΔW is scaled by λ = alpha / rank, `rank` being the option and not the clipped rank."""

    alpha: float

    def __post_init__(self):
        super().__post_init__()
        require_positive(self, "alpha")

    @property
    def scale(self) -> float:
        """λ = alpha / rank."""
        return self.alpha / self.rank

    def largest_rank(self, conv: ConvShape) -> int:
        """min(cout, n)."""
        return min(conv.cout, conv.fan_in)


@register
@dataclass(frozen=True)
class Lora(Scaled):
    """Hu et al. 2021: ΔM = λ B A on the weight as a matrix (cout, n), n = (cin / groups) k l, λ = alpha / rank.

    On a convolution it equals a k x k convolution to `rank` channels and a 1x1 after it. A (rank, n) starts Kaiming
    uniform as in the released code, B (cout, rank) at zero: the identity. It stores rank (n + cout) a convolution:
    #par. 1.43 at rank 8. HF PEFT's grouped form has one B per group; here M is one matrix for any number of groups.

    `form='loralib'` is ConvLoRA of the paper's released code: B A of rank `rank` k on the kernel's memory read as a
    matrix (cout k / groups, cin l), B (cout k / groups, rank k), A (rank k, cin l): #par. 1.79. (That code takes square
    kernels alone, l = k.) A row of it is no filter: without groups it holds a k-th of one's numbers, in the order of
    memory. The default is the form of HF PEFT and of the talk: its rows are filters, it can be computed as two
    convolutions, and it has fewer floats at the same rank.
    `scaling='sqrt'` is rsLoRA (Kalajdzievski 2023, arXiv 2312.03732): λ = alpha / √rank. A step of SGD changes ΔM by
    λ² times as much: alpha=2.83 has the λ of the default at rank 8, and keeps it at other ranks in rsLoRA's sense.
    `init='pissa'` is PiSSA (Meng 2024, arXiv 2404.02948): λ B A starts at the matrix of this rank that is nearest to M,
    by its singular value decomposition, and M minus that start stays frozen: the identity. It stores as much, since
    the start is computed again from the shared M. B and A have no weight decay, which would pull them to 0 and with
    them the weight to its frozen rest; the paper has none either.
    `lr_ratio` is LoRA+ (Hayou 2024, arXiv 2402.12354): the rate of B over that of A. With decay, that of B rises
    likewise. The paper's 16 is for Adam.
    `where` chooses layers of a transformer. 'q', 'qv' and 'qkv' adapt only the fused projection of each attention:
    queries, keys and values, the paper's W_q, W_k and W_v, each have a B A of their own on their rows ('qv' is the
    paper's usual choice: 294,912 floats on a ViT-B/16 at rank 8). 'attention' adapts that projection and the output
    projection, each as one matrix, 'mlp' the two layers of the MLP behind it. The default adapts every layer.
    """

    name = "lora"
    label = "LoRA"
    family = "low rank"
    fidelity = "adaptation"
    paper = "Hu 2021, arXiv 2106.09685"
    mergeable = True
    lr = 0.15
    later_options = ("where",)

    rank: int = 8
    alpha: float = 8.0
    form: Literal["filters", "loralib"] = "filters"
    scaling: Literal["linear", "sqrt"] = "linear"
    init: Literal["kaiming", "pissa"] = "kaiming"
    lr_ratio: float = 1.0
    where: Literal["all", "q", "qv", "qkv", "attention", "mlp"] = "all"

    def __post_init__(self):
        super().__post_init__()
        if self.lr_ratio < 1:
            raise InputError(
                f"lora(lr_ratio={self.lr_ratio!r}): lr_ratio, the rate of B over that of A, must be 1 or more"
            )
        if self.parts and self.init == "pissa":
            raise InputError(
                f"lora(init='pissa', where={self.where!r}): PiSSA starts from whole layers; take where='attention'"
            )

    @property
    def parts(self) -> tuple[int, ...]:
        """Which thirds of a fused projection are adapted apart: 0 queries, 1 keys, 2 values; () for whole layers."""
        return tuple("qkv".index(letter) for letter in self.where) if set(self.where) <= set("qkv") else ()

    def adapted(self, shapes: Shapes) -> list[ConvShape]:
        """All layers, or those of attentions and their MLPs that `where` names."""
        convs = super().adapted(shapes)
        if self.where == "all":
            return convs
        known = [a for a in shapes.attentions if a.thirds or not self.parts]
        projections = {name for a in known for name in (a.qkv, *([] if self.parts else [a.proj]))}
        mlps = {name for a in shapes.attentions for name in a.hidden[1:]}
        return [conv for conv in convs if conv.name in (mlps if self.where == "mlp" else projections)]

    def check(self, shapes: Shapes) -> None:
        """Raises InputError for a `where` whose layers this backbone lacks, and for a rank that is too large."""
        if self.where != "all" and not self.adapted(shapes):
            raise InputError(
                f"lora(where={self.where!r}) adapts attention with one linear layer for queries, keys and values, one "
                "behind the other, or the MLP behind it, and this backbone has none; use where='all'"
            )
        super().check(shapes)

    @property
    def scale(self) -> float:
        """λ = alpha / rank, or alpha / √rank."""
        return self.alpha / (sqrt(self.rank) if self.scaling == "sqrt" else self.rank)

    def _matrix(self, conv: ConvShape) -> tuple[tuple[int, int], int]:
        """The shape of the matrix that B A is added to, and the rank of B A for each 1 of `rank`."""
        if self.form == "filters":
            return (conv.cout, conv.fan_in), 1
        height, width = conv.kernel
        return (conv.cout // conv.groups * height, conv.cin * width), height

    def largest_rank(self, conv: ConvShape) -> int:
        """The smaller side of the matrix, over k in loralib's form, but at least 1."""
        shape, times = self._matrix(conv)
        return min(conv.cout // 3, conv.fan_in) if self.parts else max(1, min(shape) // times)

    @property
    def start_rounds(self):
        """Not for PiSSA, which starts at the factors' values less those values."""
        return self.init != "pissa"

    def layer(self, conv):
        """W + λ B A, or W + λ (B A - B0 A0), at this convolution, or B A for some of its thirds."""

        from visual_decathlon.methods.layers.low_rank import LoraConv, LoraParts, PissaConv

        at = ConvShape.of(conv)
        if self.parts:
            return LoraParts(conv, self.scale, self.rank_at(at), self.parts)
        shape, times = self._matrix(at)
        kind = PissaConv if self.init == "pissa" else LoraConv
        return kind(conv, self.scale, min(self.rank_at(at) * times, *shape), shape)

    def groups(self, network, decay, images):
        """As usual; with `lr_ratio` B has a rate of its own, and with PiSSA's start neither factor decays."""
        groups = super().groups(network, decay, images)
        if self.lr_ratio == 1 and self.init == "kaiming":
            return groups
        from visual_decathlon.methods.layers.low_rank import split_factors

        return split_factors(network, groups, self.lr_ratio, decays=self.init != "pissa")

    def new_floats(self, conv: ConvShape) -> int:
        """rank (n + cout), or rank k (cin l + cout k / groups); rank (n + cout / 3) for each adapted third."""
        if self.parts:
            return len(self.parts) * self.rank_at(conv) * (conv.fan_in + conv.cout // 3)
        shape, times = self._matrix(conv)
        return min(self.rank_at(conv) * times, *shape) * sum(shape)


@register
@dataclass(frozen=True)
class LoraCP(Scaled):
    """FTN, factorized tensor networks (Garg 2023), and the talk's CPD (Saghinadze): a CP of ΔW as a tensor.

    ΔW[i, j, s] = λ Σ_r A[i, r] B[j, r] C[s, r] over (cout, cin / groups, k l), with the domain's own batch norm as in
    FTN, which its authors ran on this benchmark. A starts at zero: the identity. B and C are normal with columns of
    length one on average (this size is ours, as is λ = alpha / rank; no code of FTN is public). It stores
    rank (cout + cin / groups + k l) a convolution: #par. 1.10 at rank 8.
    """

    name = "lora_cp"
    label = "LoRA-CP"
    family = "low rank"
    fidelity = "reproduction"
    paper = (
        "Garg 2023 (FTN), arXiv 2310.06124; Saghinadze, talk: LoRA-like Parameter-Efficient Transfer Learning for CNNs"
    )
    mergeable = True
    lr = 0.15

    rank: int = 8
    alpha: float = 8.0

    def largest_rank(self, conv: ConvShape) -> int:
        """No tensor has a larger CP rank than the product of its two smallest sides."""
        return prod(sorted((conv.cout, conv.cin // conv.groups, prod(conv.kernel)))[:2])

    def layer(self, conv):
        """W + λ Σ_r A_r ⊗ B_r ⊗ C_r at this convolution."""

        from visual_decathlon.methods.layers.low_rank import CPConv

        return CPConv(conv, self.scale, self.rank_at(ConvShape.of(conv)))

    def new_floats(self, conv: ConvShape) -> int:
        """rank (cout + cin / groups + k l)."""
        return self.rank_at(conv) * (conv.cout + conv.cin // conv.groups + prod(conv.kernel))


class _Tucker(PerConv):
    """Base of Tucker-2 forms: ranks r1 of the outputs and r2 of the inputs, clipped to a convolution's channels."""

    r1: int
    r2: int
    alpha: float

    def __post_init__(self):
        require_positive(self, "r1", "r2", "alpha")

    @property
    def scale(self) -> float:
        """λ = alpha / r1."""
        return self.alpha / self.r1

    def ranks_at(self, conv: ConvShape) -> tuple[int, int]:
        """(r1, r2) at this convolution, clipped to its channels."""
        return min(self.r1, conv.cout), min(self.r2, conv.cin // conv.groups)

    def check(self, shapes: Shapes) -> None:
        """Raises InputError where a rank is larger than every convolution's channels."""
        super().check(shapes)
        r1, r2 = map(max, zip(*map(self.ranks_at, self.adapted(shapes)), strict=True))
        for option, largest in (("r1", r1), ("r2", r2)):
            if largest < getattr(self, option):
                raise InputError(
                    f"{self.name}({option}={getattr(self, option)}): the rank is larger than every convolution's "
                    f"channels (the largest allows {largest}); lower it"
                )


@register
@dataclass(frozen=True)
class LoraTKD(_Tucker):
    """The talk's TKD (Saghinadze): Tucker-2 of the channel modes, ΔW[i, j, s] = λ Σ_ab U[i, a] G[a, b, s] V[j, b].

    It equals the convolutions 1x1 cin -> r2, k x k r2 -> r1, 1x1 r1 -> cout. U (cout, r1) starts at zero: the identity.
    V (cin / groups, r2) and G (r1, r2, k l) are normal with the variance that keeps R's rows at length one on average
    (ours, as is λ = alpha / r1). It stores cout r1 + (cin / groups) r2 + r1 r2 k l: #par. 1.12 with both at 8.
    """

    name = "lora_tkd"
    label = "LoRA-TKD"
    family = "low rank"
    fidelity = "reproduction"
    paper = "Saghinadze, talk: LoRA-like Parameter-Efficient Transfer Learning for CNNs"
    mergeable = True
    lr = 0.15

    r1: int = 8
    r2: int = 8
    alpha: float = 8.0

    def layer(self, conv):
        """W + λ U (V G) at this convolution."""

        from visual_decathlon.methods.layers.low_rank import TuckerConv

        return TuckerConv(conv, self.scale, *self.ranks_at(ConvShape.of(conv)))

    def new_floats(self, conv: ConvShape) -> int:
        """cout r1 + (cin / groups) r2 + r1 r2 k l."""
        r1, r2 = self.ranks_at(conv)
        return conv.cout * r1 + (conv.cin // conv.groups) * r2 + r1 * r2 * prod(conv.kernel)


@register
@dataclass(frozen=True)
class LoraTKDCP(_Tucker):
    """The talk's TKD-CPD (Saghinadze): Tucker-2 as in `lora_tkd`, its core a CP of this rank, G = Σ_r a_r b_r c_r.

    U (cout, r1) starts at zero: the identity. V, a (r1, rank), b (r2, rank) and c (k l, rank) are normal with the
    variance that keeps R's rows at length one on average (ours, as is λ = alpha / r1). It stores
    cout r1 + (cin / groups) r2 + rank (r1 + r2 + k l): #par. 1.11 with all at 8.
    """

    name = "lora_tkd_cp"
    label = "LoRA-TKD-CP"
    family = "low rank"
    fidelity = "reproduction"
    paper = "Saghinadze, talk: LoRA-like Parameter-Efficient Transfer Learning for CNNs"
    mergeable = True
    lr = 0.15

    r1: int = 8
    r2: int = 8
    rank: int = 8
    alpha: float = 8.0

    def __post_init__(self):
        super().__post_init__()
        require_positive(self, "rank")

    def largest_rank(self, conv: ConvShape) -> int:
        """No core has a larger CP rank than the product of its two smallest sides."""
        return prod(sorted((*self.ranks_at(conv), prod(conv.kernel)))[:2])

    def check(self, shapes: Shapes) -> None:
        """Raises InputError where a rank is larger than every convolution's channels or than every core."""
        super().check(shapes)
        largest = max(map(self.largest_rank, self.adapted(shapes)))
        if largest < self.rank:
            raise InputError(
                f"{self.name}(rank={self.rank}): the rank is larger than every core "
                f"(the largest allows {largest}); lower it, or raise r1 and r2"
            )

    def layer(self, conv):
        """W + λ U (V G), G a CP of `rank`, at this convolution."""

        from visual_decathlon.methods.layers.low_rank import TuckerCPConv

        shape = ConvShape.of(conv)
        return TuckerCPConv(conv, self.scale, *self.ranks_at(shape), min(self.rank, self.largest_rank(shape)))

    def new_floats(self, conv: ConvShape) -> int:
        """cout r1 + (cin / groups) r2 + rank (r1 + r2 + k l)."""
        (r1, r2), rank = self.ranks_at(conv), min(self.rank, self.largest_rank(conv))
        return conv.cout * r1 + (conv.cin // conv.groups) * r2 + rank * (r1 + r2 + prod(conv.kernel))


@register
@dataclass(frozen=True)
class LoraTucker(Scaled):
    """LyCORIS's LoCon in its Tucker form: `lora_tkd(r1=rank, r2=rank)` under its better known name.

    1x1 cin -> rank, k x k rank -> rank, 1x1 rank -> cout; the last one is zero: the identity. LyCORIS starts the other
    two Kaiming uniform, each with a third of the variance here. It stores rank (cin / groups + cout) + rank² k l a
    convolution: #par. 1.12 at rank 8.
    """

    name = "lora_tucker"
    label = "LoRA-Tucker"
    family = "low rank"
    fidelity = "adaptation"
    paper = "Yeh 2024 (LyCORIS), arXiv 2309.14859"
    mergeable = True
    lr = 0.15

    rank: int = 8
    alpha: float = 8.0

    @property
    def tkd(self) -> LoraTKD:
        """The same method under its other name."""
        return LoraTKD(r1=self.rank, r2=self.rank, alpha=self.alpha)

    def largest_rank(self, conv: ConvShape) -> int:
        """min(cout, cin / groups)."""
        return min(conv.cout, conv.cin // conv.groups)

    def layer(self, conv):
        """As lora_tkd with both ranks equal."""
        return self.tkd.layer(conv)

    def new_floats(self, conv: ConvShape) -> int:
        """rank (cin / groups + cout) + rank² k l."""
        return self.tkd.new_floats(conv)
