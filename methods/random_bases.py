"""VeRA and RandLoRA: frozen random matrices, one pair for all layers of a network, and trained vectors that scale them.

The matrices are neither stored nor counted: the option `basis_seed` and the largest convolution give the same bits on
every machine. The papers draw them Kaiming uniform for the largest layer; here they have variance one, and each
layer's formula has a factor s for its own sizes, since n is from 27 to 2,304 in one ResNet-26.
"""

from dataclasses import dataclass
from math import ceil

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.per_conv import PerConv, Ranked
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import ConvShape, Shapes

ALWAYS_TAKEN = 1024  # ranks up to this one are taken: their random matrices are small, on a narrow backbone too


def require_seed(method, option: str) -> None:
    """Raises InputError where the option, the seed of what is drawn, is no number of 30 bits."""
    if not 0 <= getattr(method, option) < 2**30:
        raise InputError(f"{method.name}({option}={getattr(method, option)}): a seed is 0 or more and below 2**30")


class RandomBases(PerConv):
    """Base of methods whose layers share one pair of random matrices, drawn from `basis_seed`."""

    basis_seed: int

    def place(self, source, classes):
        """As a PerConv; all layers then use the first rows and columns of one pair of matrices."""

        from visual_decathlon.methods.layers.random_bases import share_bases

        network = super().place(source, classes)
        share_bases(network, self.basis_seed)
        return network


@register
@dataclass(frozen=True)
class Vera(RandomBases):
    """Kopiczko et al. 2024: ΔM = s diag(b) B diag(d) A, B (cout, rank) and A (rank, n) random, frozen, shared.

    M is the weight as a matrix (cout, n), n = (cin / groups) k l. b starts at zero: the identity; d starts at the
    paper's 0.1, and s is 10 / √(rank n), so that b at first is the length of a filter's change. (With Kaiming's sizes,
    as in the paper and in HF PEFT, that is 0.2 b, and a layer with fewer columns than the largest has less.) The rank
    may be above cout: d then chooses among more matrices of rank one. B and A are held in memory: above rank 1,024
    they may not have more numbers than the convolutions. It stores cout + rank a convolution: #par. 1.03 at rank 256.
    HF PEFT stores the random matrices by default and takes linear layers only.
    """

    name = "vera"
    label = "VeRA"
    family = "shared projections"
    fidelity = "adaptation"
    paper = "Kopiczko 2024, arXiv 2310.11454"
    mergeable = True
    lr = 0.15

    rank: int = 256
    basis_seed: int = 0

    def __post_init__(self):
        if self.rank < 1:
            raise InputError(f"vera(rank={self.rank}): rank must be 1 or more")
        require_seed(self, "basis_seed")

    def check(self, shapes: Shapes) -> None:
        """Raises InputError where the rank is above 1,024 and B and A have more numbers than the convolutions."""
        super().check(shapes)
        convs = self.adapted(shapes)
        per_rank = max(c.cout for c in convs) + max(c.fan_in for c in convs)
        weights = sum(c.floats for c in shapes.convs)
        largest = max(ALWAYS_TAKEN, weights // per_rank)
        if self.rank > largest:
            raise InputError(
                f"vera(rank={self.rank}): its random matrices would have {self.rank * per_rank:,} numbers, "
                f"more than the {weights:,} of this backbone's convolutions (ranks up to {largest} are taken); lower it"
            )

    def layer(self, conv):
        """W + s diag(b) B diag(d) A at this convolution, with random matrices of its own until `place`."""

        from visual_decathlon.methods.layers.random_bases import VeraConv

        return VeraConv(conv, self.rank, self.basis_seed)

    def new_floats(self, conv: ConvShape) -> int:
        """cout + rank."""
        return conv.cout + self.rank


@register
@dataclass(frozen=True)
class RandLora(RandomBases, Ranked):
    """Albert et al. 2025: ΔM = s Σ_j B_j diag(λ_j) A diag(γ_j), of full rank from ⌈min / rank⌉ terms.

    min and max are the shorter and the longer side of M (cout, n). A (rank, min) and all B_j (max, rank) are random,
    frozen and shared by the layers; λ_j (rank,) and γ_j (min,) are trained. A smaller rank is a larger method. λ
    starts at zero: the identity. γ starts at 1, stored is γ - 1, and s is 1 / √(cout n), so that a term is as long as
    its λ; the paper's γ of 1 / min and scale of 20 are for Adam, and SGD's steps would be thousands of times as large.
    The paper's sparse bases are not here. It stores ⌈min / rank⌉ (rank + min) a convolution: #par. 1.15 at rank 8. HF
    PEFT stores the random matrices by default, divides them by their samples' deviation, and takes linear layers only.
    """

    name = "randlora"
    label = "RandLoRA"
    family = "shared projections"
    fidelity = "adaptation"
    paper = "Albert 2025, arXiv 2502.00987"
    mergeable = True
    lr = 0.15

    rank: int = 8
    basis_seed: int = 0

    def __post_init__(self):
        super().__post_init__()
        require_seed(self, "basis_seed")

    def largest_rank(self, conv: ConvShape) -> int:
        """min(cout, n): one term alone."""
        return min(conv.cout, conv.fan_in)

    def layer(self, conv):
        """W + s Σ_j B_j diag(λ_j) A diag(γ_j) at this convolution, with random matrices of its own until `place`."""

        from visual_decathlon.methods.layers.random_bases import RandLoraConv

        return RandLoraConv(conv, self.rank_at(ConvShape.of(conv)), self.basis_seed)

    def new_floats(self, conv: ConvShape) -> int:
        """⌈min / rank⌉ (rank + min)."""
        rank, shorter = self.rank_at(conv), self.largest_rank(conv)
        return ceil(shorter / rank) * (rank + shorter)
