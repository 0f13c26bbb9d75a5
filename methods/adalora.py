"""AdaLoRA: one budget of ranks for all convolutions, which training assigns to the most important ones."""

from dataclasses import dataclass

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.low_rank import Scaled, require_positive
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import ConvShape

WARM, FINAL = 0.1, 0.5  # shares of the steps: all ranks before the first, the last choice kept in the second
BETA = 0.85  # of both running means of importance, as in the paper and its code


@register
@dataclass(frozen=True)
class AdaLora(Scaled):
    """Zhang et al. 2023: ΔM = λ P diag(Λ) Q, λ = alpha / rank, with γ Σ ‖PᵀP − I‖² + ‖QQᵀ − I‖² in the loss.

    Every convolution starts with `rank` triplets. From 10 to 50 % of the steps the budget falls along a cubic to
    `target` per convolution on average, and every `interval` steps the Λ of the least important triplets of all
    convolutions are set to zero. In the second half they stay zero. The importance of a float is the running mean of
    |value · gradient| times that of its deviation; that of a triplet is the importance of Λ plus the means over P's
    column and Q's row. Λ starts at zero: the identity. P and Q start orthonormal (in the paper Gaussian, which the
    penalty first has to correct). The penalty is the paper's; the released code averages norms that are not squared.
    It stores P, Λ and Q at the full `rank`, zeros included: rank (cout + n + 1) a convolution, #par. 1.64 at
    rank 12.
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
        """As a PerConv, with the running means of importance as a training aid."""

        from torch import nn

        from visual_decathlon.methods.layers.adalora import Importance, svd_convs

        network = super().place(source, classes)
        network.aids["importance"] = nn.ModuleList(map(Importance, svd_convs(network)))
        return network

    def layer(self, conv):
        """W + λ P diag(Λ) Q at this convolution."""

        from visual_decathlon.methods.layers.adalora import SVDConv

        return SVDConv(conv, self.scale, self.rank_at(ConvShape.of(conv)))

    def new_floats(self, conv: ConvShape) -> int:
        """rank (cout + n + 1)."""
        return self.rank_at(conv) * (conv.cout + conv.fan_in + 1)

    def loss(self, network, x, y, criterion):
        """Cross-entropy + gamma times the orthogonality error of P and Q."""

        from visual_decathlon.methods.layers.adalora import penalty, svd_convs

        value, logits = super().loss(network, x, y, criterion)
        return value + self.gamma * penalty(svd_convs(network)), logits

    def budget(self, step: int, steps: int, full: int, target: int) -> int:
        """Number of triplets kept over all convolutions after this step, from `full` down to `target`."""
        warm, fixed = int(WARM * steps), steps - max(1, int(FINAL * steps))
        if step <= warm:
            return full
        left = 1 - (step - warm) / (fixed - warm) if step < fixed else 0.0
        return target + int((full - target) * left**3)

    def after_step(self, network, step, steps):
        """Updates the importance, and every `interval` steps sets the Λ of the least important triplets to zero."""

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
