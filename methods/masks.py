"""Binary masks: each shared weight, or each input channel, is kept or removed."""

from dataclasses import dataclass

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.param_groups import apart
from visual_decathlon.methods.per_conv import PerConv
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import ConvShape, Shapes

ADAM_RATE = 1e-3  # of the recipe's, which is SGD's


class Masks(PerConv):
    """Base of masks, trained as real numbers that a threshold makes binary; the gradient passes straight through."""

    def groups(self, network, decay, images):
        """The masks without weight decay, which would pull them across the threshold for any loss, and all others."""
        from visual_decathlon.methods.layers.masks import masks_of

        return apart(network, masks_of(network), decay, weight_decay=0.0)


@register
@dataclass(frozen=True)
class Piggyback(Masks):
    """Mallya, Davis, Lazebnik 2018: W' = W * 1[m > 5e-3], a bit for every weight; m starts at 1e-2, so W' = W.

    The gradient of the mask is used as that of m. Batch norm is the domain's own (`--train_bn` of the release); with
    `own_norm=False` it stays the source's, statistics included, which is the release's default. On the stand-ins that
    trains badly by SGD: one seed on the ten domains gave a mean of 79.0 in place of 87.9, and chance on daimlerpedcls.
    The release trains masks and head by Adam at 1e-4 without weight decay: `adam=True`, at a thousandth of the recipe's
    rate, which is 1e-4 where that is 0.1. Its 30 epochs have some 7,600 steps, though, those of a stand-in 240 to 900,
    and Adam does not get far in these. So the default is the recipe's SGD: one rate for masks and head; masks do not
    decay.
    (Top-1 on a fifth of train held out, one seed, aircraft and dtd: Adam at 1e-4 18 %, not run; at 1e-3 44 and 6 %; at
    3e-3 26 and 24 %; SGD 74 and 77 %, all with frozen batch norm; SGD with own batch norm 75 and 82 %.)
    It stores n cout bits a convolution and 2 floats a batch norm channel: #par. 1.29; with `own_norm=False` the bits
    alone: 1.28, as printed in the paper.
    """

    name = "piggyback"
    label = "Piggyback"
    family = "masks"
    fidelity = "reproduction"
    paper = "Mallya 2018, arXiv 1801.06519"
    mergeable = True
    lr = 0.1

    adam: bool = False
    own_norm: bool = True

    def layer(self, conv):
        """W * 1[m > 5e-3] at this convolution."""

        from visual_decathlon.methods.layers.masks import WeightMask

        return WeightMask(conv)

    def place(self, source, classes):
        """As a PerConv; without `own_norm` the source's batch norms stay."""

        from visual_decathlon.methods.layers.network import share_norms

        network = super().place(source, classes)
        if not self.own_norm:
            share_norms(network, source)
        return network

    def groups(self, network, decay, images):
        """As for all masks; with `adam` a thousandth of the rate and no decay at all."""
        groups = super().groups(network, decay, images)
        return [group | {"weight_decay": 0.0, "scale": ADAM_RATE} for group in groups] if self.adam else groups

    def optimiser(self, groups, lr, momentum, nesterov):
        """Adam with torch's own settings, or the recipe's SGD. A GPU can capture either step."""
        if not self.adam:
            return super().optimiser(groups, lr, momentum, nesterov)
        from visual_decathlon.methods.layers.adam import Adam

        return Adam(groups, lr, fused=True, capturable=True)

    def floats(self, shapes: Shapes) -> int:
        """0, or 2 floats for each batch norm channel with `own_norm`."""
        return super().floats(shapes) if self.own_norm else 0

    def new_floats(self, conv: ConvShape) -> int:
        """0."""
        return 0

    def new_bits(self, conv: ConvShape) -> int:
        """n cout."""
        return conv.cout * conv.fan_in


@register
@dataclass(frozen=True)
class BA2(Masks):
    """Berriel et al. 2019, budget-aware adapters: conv(s * x), s a binary switch for every input channel.

    s = 1[m > 5e-3] with m from 1e-2 as in Piggyback, so all switches are on at the start: the identity. The loss has
    the additional term `weight` * max(0, mean of all switches - `budget`), which pushes every switch towards off until
    the budget is met. The domain's own batch norm does not cancel a switch, which acts on the input. A channel that is
    off could be skipped; here it is multiplied by zeros.
    The authors released no code: their repository is a page about the paper. The paper poses a constrained problem on
    the budget. How its multiplier is set, the start and the threshold of the switches and their optimiser are not
    known; here `weight` is a constant, start and threshold are Piggyback's, and the recipe's SGD trains them.
    It stores cin bits a convolution and 2 floats a batch norm channel: #par. 1.01. The paper prints 1.03;
    what else it counts is not known.
    """

    name = "ba2"
    label = "BA²"
    family = "masks"
    fidelity = "adaptation"
    paper = "Berriel 2019, arXiv 1905.06242"
    mergeable = True
    lr = 0.1

    budget: float = 0.75
    weight: float = 1.0

    def __post_init__(self):
        if not 0 < self.budget <= 1:
            raise InputError(f"ba2(budget={self.budget}): the budget is a part of the channels, above 0 and up to 1")
        if self.weight < 0:
            raise InputError(f"ba2(weight={self.weight}): the weight of the budget must be 0 or more")

    def skip_reason(self, conv: ConvShape) -> str:
        """Depthwise convolutions are left alone."""
        if conv.groups == conv.cin > 1:
            return "each filter reads one channel alone, and batch norm cancels its switch"
        return ""

    def layer(self, conv):
        """conv(s * x) at this convolution."""

        from visual_decathlon.methods.layers.masks import InputSwitch

        return InputSwitch(conv)

    def loss(self, network, x, y, criterion):
        """Cross-entropy + `weight` * max(0, mean of all switches - `budget`)."""

        from visual_decathlon.methods.layers.masks import mean_on

        logits = network(x)
        over = (mean_on(network) - self.budget).relu()
        return criterion(logits, y) + self.weight * over, logits

    def new_floats(self, conv: ConvShape) -> int:
        """0."""
        return 0

    def new_bits(self, conv: ConvShape) -> int:
        """cin."""
        return conv.cin
