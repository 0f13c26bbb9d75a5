"""TAPS, task adaptive parameter sharing: training decides which layers get weights of their own."""

from dataclasses import dataclass

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.param_groups import apart
from visual_decathlon.methods.per_conv import PerConv
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import ConvShape, Shapes

WARM = 0.1
"""Share of the steps before the penalty begins: the release waits for three of its 31 epochs."""


@register
@dataclass(frozen=True)
class TAPS(PerConv):
    """Wallingford et al. 2022: W' = W + 1[s > 0.1] ΔW, one score s a layer, and `weight` · mean |s| in the loss.

    The gradient passes straight through the indicator. ΔW starts at zero: the identity; s starts at 0.15, so that all
    layers begin with weights of their own. From a tenth of the steps on, the penalty pulls the scores of layers whose
    ΔW does not help below the threshold; such a layer is the shared one again. Thresholds, starts and the late penalty
    are the release's, which divides the sum of |s| by 52 on networks of 36 to 104 layers; here it is a mean over the
    layers. The release has no weight decay; here ΔW decays to zero, and the scores do not decay. It takes one optimiser
    step for eight batches. Batch norm is the domain's own in all layers, as in the release. The paper's joint variant,
    which trains the shared weights as well, is not offered.
    It stores ΔW, cout n, of the layers above the threshold and 2 floats a batch norm channel, so its size is known
    after training: #par. is at most 10, with no layer of its own 1.01, and a record has the domain's own count.
    """

    name = "taps"
    label = "TAPS"
    family = "own network"
    fidelity = "reproduction"
    paper = "Wallingford 2022, arXiv 2203.16708"
    mergeable = True
    lr = 0.2

    weight: float = 1.0

    def __post_init__(self):
        if self.weight < 0:
            raise InputError(f"taps(weight={self.weight!r}): the weight of the penalty must be 0 or more")

    def layer(self, conv):
        """W + 1[s > 0.1] ΔW at this convolution."""

        from visual_decathlon.methods.layers.taps import OwnOrSharedConv

        return OwnOrSharedConv(conv)

    def place(self, source, classes):
        """As a PerConv, with the beginning of the penalty as a training aid."""

        from visual_decathlon.methods.layers.taps import Warmup

        network = super().place(source, classes)
        network.aids["warmup"] = Warmup(network.head.weight)
        return network

    def loss(self, network, x, y, criterion):
        """Cross-entropy + `weight` · mean |s|, the latter from a tenth of the steps on."""

        from visual_decathlon.methods.layers.taps import mean_score

        value, logits = super().loss(network, x, y, criterion)
        return value + self.weight * network.aids["warmup"].on * mean_score(network), logits

    def after_step(self, network, step, steps):
        """Lets the penalty begin after a tenth of the steps."""
        if step == max(1, round(WARM * steps)):
            network.aids["warmup"].on.fill_(1)

    def groups(self, network, decay, images):
        """The scores without weight decay, which would be a second penalty, and all others."""

        from visual_decathlon.methods.layers.taps import scored_convs

        return apart(network, [conv.score for conv in scored_convs(network)], decay, weight_decay=0.0)

    def new_floats(self, conv: ConvShape) -> int:
        """cout n: what a layer of its own stores."""
        return conv.cout * conv.fan_in

    def least_floats(self, shapes: Shapes) -> int:
        """Batch norm alone: every layer is shared."""
        return shapes.affine

    def stored_floats(self, network, shapes: Shapes) -> int:
        """Batch norm, and cout n of every layer whose score is above the threshold."""

        from visual_decathlon.methods.layers.taps import scored_convs

        return shapes.affine + sum(conv.change.numel() for conv in scored_convs(network) if conv.is_own())
