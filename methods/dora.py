"""DoRA: the length and the direction of each filter are trained separately."""

from dataclasses import dataclass

from visual_decathlon.methods.low_rank import Scaled
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import ConvShape


@register
@dataclass(frozen=True)
class Dora(Scaled):
    """Liu et al. 2024: W' = m V / ‖V‖, V = W + λ B A as in `lora`, the norm over (cin, k, l) of each filter.

    B starts at zero and m at ‖W‖: the identity. It stores rank (n + cout) + cout a convolution: #par. 1.44 at rank 8.
    Here every convolution comes before a batch norm, and in training mode this makes it plain LoRA: the norm cancels a
    filter's length, so the gradient of m is suppressed by eps / variance (measured: 2e-5 of B's), and the factor
    m / ‖V‖ has no effect. The paper and HF PEFT keep ‖V‖ constant in the gradient to save memory; here it is
    differentiated, which before such a batch norm is the same to that order.
    """

    name = "dora"
    label = "DoRA"
    family = "low rank"
    fidelity = "adaptation"
    paper = "Liu 2024, arXiv 2402.09353"
    mergeable = True
    lr = 0.15
    start_rounds = False

    rank: int = 8
    alpha: float = 8.0

    def layer(self, conv):
        """m V / ‖V‖, V = W + λ B A, at this convolution."""

        from visual_decathlon.methods.layers.dora import DoraConv

        return DoraConv(conv, self.scale, self.rank_at(ConvShape.of(conv)))

    def new_floats(self, conv: ConvShape) -> int:
        """rank (n + cout) + cout."""
        return self.rank_at(conv) * (conv.fan_in + conv.cout) + conv.cout
