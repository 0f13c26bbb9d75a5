"""Binary masks: each shared weight, or each input channel, is kept or removed."""

from dataclasses import dataclass

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.per_conv import PerConv
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import ConvShape


class Masks(PerConv):
    """Base of masks, trained as real numbers that a threshold makes binary; the gradient passes straight through."""

    def groups(self, network, decay, images):
        """The masks without weight decay, which would pull them across the threshold for any loss, and all others."""
        from visual_decathlon.methods.layers.masks import masks_of

        masks = masks_of(network)
        known = set(map(id, masks))
        rest = [p for p in network.parameters() if p.requires_grad and id(p) not in known]
        return [{"params": rest, "weight_decay": decay}, {"params": masks, "weight_decay": 0.0}]


@register
@dataclass(frozen=True)
class Piggyback(Masks):
    """Mallya, Davis, Lazebnik 2018: W' = W * 1[m > 5e-3], a bit for every weight; m starts at 1e-2, so W' = W.

    The gradient of the mask is used as that of m. The release trains m by Adam; here SGD trains m and the head with
    one learning rate, which removes about a twentieth of the weights. Batch norm is the domain's own.
    It stores n cout bits a convolution and 2 floats a batch norm channel: #par. 1.29.
    """

    name = "piggyback"
    label = "Piggyback"
    family = "masks"
    fidelity = "reproduction"
    paper = "Mallya 2018, arXiv 1801.06519"
    mergeable = True
    lr = 0.1

    def layer(self, conv):
        """W * 1[m > 5e-3] at this convolution."""

        from visual_decathlon.methods.layers.masks import WeightMask

        return WeightMask(conv)

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
    It stores cin bits a convolution and 2 floats a batch norm channel: #par. 1.01.
    """

    name = "ba2"
    label = "BA²"
    family = "masks"
    fidelity = "reproduction"
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
