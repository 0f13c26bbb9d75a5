"""AdaLoRA: one budget of ranks over all convolutions, given during training to where they count."""

from dataclasses import dataclass

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.low_rank import Scaled, require_positive
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import ConvShape

WARM, FINAL = 0.1, 0.5  # parts of the steps: all ranks before, the last choice kept after
BETA = 0.85  # of the two running means of importance, in the paper and its code


@register
@dataclass(frozen=True)
class AdaLora(Scaled):
    """Zhang et al. 2023: ΔM = λ P diag(Λ) Q, λ = alpha / rank, with γ Σ ‖PᵀP − I‖² + ‖QQᵀ − I‖² in the loss.

    Every convolution starts with `rank` triplets; from 10 to 50 % of the steps the budget falls along a cubic
    to `target` a convolution on average, and every `interval` steps the Λ of the least important triplets over
    all convolutions are set to zero; in the last half they stay so. Importance of a float: running mean of
    |value · gradient| times that of its deviation; of a triplet: Λ's plus the means over P's column and Q's row.
    Λ starts at zero, the identity; P and Q orthonormal (paper: Gaussian, which the penalty first has to mend).
    The penalty is the paper's; the released code takes norms unsquared and averages them. What is stored is P,
    Λ, Q at the full `rank`, zeros included: rank (cout + n + 1) a convolution, #par. 1.64 at rank 12.
    """

    name = "adalora"
    label = "AdaLoRA"
    family = "low rank"
    fidelity = "adaptation"
    paper = "Zhang 2023, arXiv 2303.10512"
    mergeable = True
    lr = 0.15

    rank: int = 12
    target: int = 8
    alpha: float = 12.0
    gamma: float = 0.1
    interval: int = 10

    def __post_init__(self):
        super().__post_init__()
        require_positive(self, "target", "interval")
        if self.target > self.rank:
            raise InputError(f"adalora(rank={self.rank}, target={self.target}): target must be at most rank")
        if self.gamma < 0:
            raise InputError(f"adalora(gamma={self.gamma!r}): gamma must be 0 or more")

    def place(self, source, classes):
        from torch import nn

        from visual_decathlon.methods.layers.adalora import Importance, svd_convs

        network = super().place(source, classes)
        network.aids["importance"] = nn.ModuleList(map(Importance, svd_convs(network)))
        return network

    def layer(self, conv):
        from visual_decathlon.methods.layers.adalora import SVDConv

        return SVDConv(conv, self.scale, self.rank_at(ConvShape.of(conv)))

    def new_floats(self, conv: ConvShape) -> int:
        return self.rank_at(conv) * (conv.cout + conv.fan_in + 1)

    def loss(self, network, x, y, criterion):
        from visual_decathlon.methods.layers.adalora import penalty, svd_convs

        value, logits = super().loss(network, x, y, criterion)
        return value + self.gamma * penalty(svd_convs(network)), logits

    def budget(self, step: int, steps: int, full: int, target: int) -> int:
        """Triplets kept over all convolutions after this step: `full` at first, `target` at last."""
        warm, fixed = int(WARM * steps), steps - max(1, int(FINAL * steps))
        if step <= warm:
            return full
        left = 1 - (step - warm) / (fixed - warm) if step < fixed else 0.0
        return target + int((full - target) * left**3)

    def after_step(self, network, step, steps):
        from visual_decathlon.methods.layers.adalora import keep, svd_convs

        convs, importance = svd_convs(network), network.aids["importance"]
        fixed = steps - max(1, int(FINAL * steps))
        if step < fixed:
            for conv, means in zip(convs, importance, strict=True):
                means.observe(conv, BETA)
        if step > fixed or step % self.interval == 0:
            ranks = [len(conv.values) for conv in convs]
            target = sum(min(self.target, rank) for rank in ranks)
            keep(convs, importance, self.budget(step, steps, sum(ranks), target))
