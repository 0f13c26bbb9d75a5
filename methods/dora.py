"""DoRA: a filter's length and its direction are trained apart."""

from dataclasses import dataclass

from visual_decathlon.methods.low_rank import Scaled
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import ConvShape


@register
@dataclass(frozen=True)
class Dora(Scaled):
    """Liu et al. 2024: W' = m V / ‖V‖, V = W + λ B A as in `lora`, the norm over (cin, k, l) of each filter.

    B starts at zero and m at ‖W‖: the identity. Stores rank (n + cout) + cout a convolution: #par. 1.44 at
    rank 8. Before a batch norm in training mode, which is where every convolution here stands, it is plain
    LoRA: the norm cancels a filter's length, so m has a gradient suppressed by eps / variance (2e-5 of B's,
    measured), and m / ‖V‖ scales what has no effect. The paper and HF PEFT hold ‖V‖ constant in the gradient,
    to save memory; here it is differentiated, which before such a batch norm is the same to that order.
    """

    name = "dora"
    label = "DoRA"
    family = "low rank"
    fidelity = "adaptation"
    paper = "Liu 2024, arXiv 2402.09353"
    mergeable = True
    lr = 0.15

    rank: int = 8
    alpha: float = 8.0

    def layer(self, conv):
        from visual_decathlon.methods.layers.dora import DoraConv

        return DoraConv(conv, self.scale, self.rank_at(ConvShape.of(conv)))

    def new_floats(self, conv: ConvShape) -> int:
        return self.rank_at(conv) * (conv.fan_in + conv.cout) + conv.cout
