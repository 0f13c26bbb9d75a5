"""SHiRA: a share of the weights themselves is trained, at random places or where the first gradients are largest."""

from dataclasses import dataclass
from typing import Literal

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.per_conv import PerConv
from visual_decathlon.methods.random_bases import require_seed
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import ConvShape

CHOOSING = 0.05  # share of the steps whose gradients choose the entries


def index_bits(kept: int, n: int) -> int:
    """Bits that name `kept` of n places: an index for each, or a mask of all, whichever is less."""
    return min(kept * (n - 1).bit_length(), n)


@register
@dataclass(frozen=True)
class Shira(PerConv):
    """Bhardwaj et al. 2024, SHiRA: W' = W + S, S with a `share` of W's entries, all others 0.

    `mask='random'`, the paper's SHiRA-Rand and HF PEFT's, which takes linear layers only: the places are drawn from
    `position_seed`, the same for all convolutions of one size, neither stored nor counted; it stores share · cout n
    floats a convolution: #par. 1.19. `mask='gradient'` is GPS (Zhang 2024, arXiv 2312.10136): the same number of
    entries in every filter, those whose gradient is largest. It stores their places too, for each filter the smaller
    of an index for each and a bit for each weight: #par. 1.26. The values start at zero: the identity.
    GPS sums the gradient of a contrastive loss over all images before training, since a fresh head says nothing; it
    chooses a number of entries, not a share, and freezes norms. Here the gradient is that of the training loss, summed
    over the first 5 % of the steps, in which head and batch norm learn and S stays zero; S then is trained as a whole
    tensor of W's size, of which the chosen entries count.
    """

    name = "shira"
    label = "SHiRA"
    family = "sparse"
    fidelity = "adaptation"
    paper = "Bhardwaj 2024, arXiv 2406.13175; Zhang 2024 (GPS), arXiv 2312.10136"
    mergeable = True
    lr = 0.15

    share: float = 0.02
    mask: Literal["random", "gradient"] = "random"
    position_seed: int = 0

    def __post_init__(self):
        if not 0 < self.share < 1:
            raise InputError(f"shira(share={self.share:g}): share is a part of the weights, above 0 and below 1")
        require_seed(self, "position_seed")
        if self.mask == "gradient" and self.position_seed:
            raise InputError("shira(mask='gradient') draws no places; leave out position_seed")

    def kept(self, conv: ConvShape) -> int:
        """Trained entries of the convolution, or with `mask='gradient'` of each of its filters; at least one."""
        return max(1, round(self.share * conv.fan_in * (conv.cout if self.mask == "random" else 1)))

    def place(self, source, classes):
        """As a PerConv; with `mask='gradient'` the sums of the gradients are a training aid."""

        from torch import nn

        from visual_decathlon.methods.layers.shira import GradientSum, gradient_convs

        network = super().place(source, classes)
        if self.mask == "gradient":
            network.aids["gradients"] = nn.ModuleList(map(GradientSum, gradient_convs(network)))
        return network

    def layer(self, conv):
        """W + S at this convolution."""

        from visual_decathlon.methods.layers.shira import GradientShiraConv, ShiraConv

        kept = self.kept(ConvShape.of(conv))
        return ShiraConv(conv, kept, self.position_seed) if self.mask == "random" else GradientShiraConv(conv, kept)

    def new_floats(self, conv: ConvShape) -> int:
        """share · cout n, with `mask='gradient'` rounded in each filter."""
        return self.kept(conv) * (1 if self.mask == "random" else conv.cout)

    def new_bits(self, conv: ConvShape) -> int:
        """0, with `mask='gradient'` cout min(kept ⌈log2 n⌉, n)."""
        if self.mask == "random":
            return 0
        return conv.cout * index_bits(self.kept(conv), conv.fan_in)

    def after_step(self, network, step, steps):
        """With `mask='gradient'`, sums the gradients of the first steps, undoes those steps, and then chooses."""
        last = max(1, int(CHOOSING * steps))
        if self.mask == "random" or step > last:
            return

        from visual_decathlon.methods.layers.shira import gradient_convs

        for conv, gradients in zip(gradient_convs(network), network.aids["gradients"], strict=True):
            gradients.observe(conv)
            if step == last:
                conv.choose(gradients.total.abs())
