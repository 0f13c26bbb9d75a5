"""Pad prompt: a learned border around the image."""

from dataclasses import dataclass

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import Shapes


@register
@dataclass(frozen=True)
class PadPrompt(Method):
    """Jia 2022, VPT on a ResNet ("pad"): a learned border of `width` p pixels around every image, and the head.

    As in the release, the image of side H stays whole, the network gets an image of side H + 2p, and batch norm is the
    source's, in eval mode. The start is `other`: with any border the network computes something else.

    What differs from the release: the border is learned in normalised colours and starts at 0, the mean colour of the
    data. The release's is uniform in 0 to 1 before it is normalised, or normal with variance one. Its width may be any;
    here it is a multiple of 4, so that networks which halve their input can halve the larger image.

    It stores 6p(2H + 2p): 3,264 with H = 64, #par. 1.01.
    """

    name = "pad_prompt"
    label = "Pad prompt"
    family = "prompts"
    fidelity = "reproduction"
    paper = "Jia 2022, arXiv 2203.12119"
    mergeable = False
    lr = 0.1

    width: int = 4

    def __post_init__(self):
        if self.width < 4 or self.width % 4:
            raise InputError(
                f"pad_prompt(width={self.width}): width must be 4, 8, 12 or so, "
                "that networks which halve their input three times can halve the image with its border"
            )

    @property
    def start(self):
        """`other`: the network gets a larger image."""
        return "other"

    def check(self, shapes: Shapes) -> None:
        """Raises InputError where the border is wider than the image, or the network takes images of one size alone."""
        if not shapes.any_size:
            raise InputError(
                "pad_prompt makes the image larger, and this backbone takes images of one size alone; on a transformer "
                "use prompt"
            )
        if self.width > shapes.size:
            raise InputError(
                f"pad_prompt(width={self.width}): the border is wider than the image of {shapes.size} pixels; lower it"
            )

    def place(self, source, classes):
        """The shared network with a learned border in front of its first convolution, and a fresh head."""

        from visual_decathlon.methods.layers.network import new_head, share
        from visual_decathlon.methods.layers.pad_prompt import BorderedConv

        network = share(source)
        site, conv = next(network.conv_sites())  # the convolution that reads the image
        network.set_submodule(site.conv, BorderedConv(conv, network.shapes.size, self.width))
        new_head(network, classes)
        return network

    def floats(self, shapes: Shapes) -> int:
        """6 p (2 H + 2 p), p the width of the border and H the side of the image."""
        return 6 * self.width * (2 * shapes.size + 2 * self.width)
