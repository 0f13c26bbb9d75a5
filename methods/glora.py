"""GLoRA, generalised LoRA: what of its five terms is left before a batch norm."""

from dataclasses import dataclass
from typing import Literal

from visual_decathlon.methods.per_conv import Ranked
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import ConvShape


@register
@dataclass(frozen=True)
class GLora(Ranked):
    """Chavan et al. 2023: W' = W + W ⊙ A + B; its b' = b + D b + E + W C is a constant, which batch norm cancels.

    The matrix is the weight as (cout, n). A is of low rank, A1 A2. B is of low rank, B1 B2, or with `shift` = 'vector'
    one number for each filter, added to all of its weights. A1 and B1 start at zero: the identity; A2 is normal with
    variance one and B2 Kaiming uniform, as in hira and lora (in the release both are Xavier uniform).
    The paper's linear layers have no norm behind them. Here a batch norm follows every convolution: C, D and E would
    get no gradient, and of the supports that the paper offers for A one number for each filter, or one for all, would
    only rescale filters. These are not offered; alone B is lora and A hira. The paper trains all supports at once, one
    drawn for each layer at every step, and then searches the best for each layer by evolution; here they are given,
    the same in all layers.
    It stores 2 rank (n + cout) a convolution, #par. 1.43 at rank 4, or rank (n + cout) + cout, #par. 1.23.
    """

    name = "glora"
    label = "GLoRA"
    family = "low rank"
    fidelity = "adaptation"
    paper = "Chavan 2023, arXiv 2306.07967"
    mergeable = True
    lr = 0.15

    rank: int = 4
    shift: Literal["low-rank", "vector"] = "low-rank"

    def largest_rank(self, conv: ConvShape) -> int:
        """min(cout, n)."""
        return min(conv.cout, conv.fan_in)

    def layer(self, conv):
        """W + W ⊙ A + B at this convolution."""

        from visual_decathlon.methods.layers.glora import GLoraConv

        return GLoraConv(conv, self.rank_at(ConvShape.of(conv)), self.shift == "vector")

    def new_floats(self, conv: ConvShape) -> int:
        """2 rank (n + cout), or rank (n + cout) + cout."""
        factors = self.rank_at(conv) * (conv.fan_in + conv.cout)
        return factors + (conv.cout if self.shift == "vector" else factors)
