"""Ours: in each group of weights one is changed, by plus or minus a step, so that a weight costs less than a bit."""

from dataclasses import dataclass
from functools import cache
from math import ceil
from typing import Literal

from visual_decathlon.methods.per_conv import PerConv
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import ConvShape, Shapes


@cache
def packing(group: int) -> tuple[int, int]:
    """(count, size): so many choices among 2 `group` are stored in so many bytes, the densest of up to 7 bytes."""
    sizes = [(count, ceil(((2 * group) ** count - 1).bit_length() / 8)) for count in range(1, 57)]
    return min((pair for pair in sizes if pair[1] <= 7), key=lambda pair: (pair[1] / pair[0], pair[1]))


def sign_bits(conv: ConvShape, group: int) -> int:
    """Bits of the packed choices, and 16 for each filter's step."""
    count, size = packing(group)
    return 8 * size * ceil(conv.cout * ceil(conv.fan_in / group) / count) + 16 * conv.cout


@register
@dataclass(frozen=True)
class Signs(PerConv):
    """Ours: W' = W + s sign(D) at the largest |D| of each `group` of a filter's weights, and W elsewhere.

    A group is the weights of neighbouring input channels at one tap. s, one for each filter, is the mean of those
    largest |D|. D has W's shape and starts at zero: the identity. It is trained through its coded form; the gradient
    passes straight through (Bengio 2013, arXiv 1308.3432), also to the weights that are not chosen, so that the choice
    can change until the end. Only the choice, the sign and s are stored. With `group=1` this is a sign for each weight,
    as BitDelta (Liu 2024, arXiv 2402.10193) stores the difference of a fine-tuned language model; there the signs are
    those of the finished difference.
    With G groups of a filter it stores 16 bits for s and about G log2(2 group) bits (8 groups of four take 3 bytes),
    and 2 floats a batch norm channel: #par. 1.23.
    """

    name = "signs"
    label = "Signs"
    family = "masks"
    fidelity = "ours"
    paper = "none"
    mergeable = True
    lr = 0.1

    group: Literal[1, 2, 3, 4, 6, 8] = 4

    def layer(self, conv):
        """W + signed steps at this convolution."""

        from visual_decathlon.methods.layers.signs import SignsConv

        return SignsConv(conv, self.group, packing(self.group))

    def new_floats(self, conv: ConvShape) -> int:
        """0."""
        return 0

    def new_bits(self, conv: ConvShape) -> int:
        """The packed choices, and half precision for each filter."""
        return sign_bits(conv, self.group)


@register
@dataclass(frozen=True)
class JointSigns(Signs):
    """Ours: W' = W + t sign(C) + the signed steps of `signs`, C for all domains and the steps for one.

    One training uses the batches of all domains in a random order, so that C learns what helps all of them; each
    domain has as many steps as with other methods. C and the D of all domains start at zero: the identity, and all are
    trained through their coded forms. t, one for each filter, is the mean |C|. W stays as it is.
    The signs of C and t are stored once, a bit a weight and 16 bits a filter; a domain stores what it does with
    `signs`. ImageNet's domain has steps of its own too, so #par. counts ten domains: 1.24. A domain that is added later
    needs the joint training again.
    """

    name = "joint_signs"
    label = "Joint signs"
    has_joint_stage = True
    trains_per_domain = False
    counted_domains = 10

    group: Literal[1, 2, 3, 4, 6, 8] = 6

    def layer(self, conv):
        """W + signed steps at this convolution, and + t sign(C) on the trunk of `build_joint`."""

        from visual_decathlon.methods.layers.signs import SignsConv

        frozen, common = (conv.conv, conv.delta) if isinstance(conv, SignsConv) else (conv, None)
        return SignsConv(frozen, self.group, packing(self.group), common)

    def build_joint(self, source, classes):
        """A network for each domain on a trunk whose convolutions are W + t sign(C): JointAdapters."""

        from visual_decathlon.methods.layers.joint import JointAdapters
        from visual_decathlon.methods.layers.network import share
        from visual_decathlon.methods.layers.signs import SignsConv

        trunk = share(source)
        for site, conv in trunk.conv_sites():
            trunk.set_submodule(site.conv, SignsConv(conv, 1, packing(1)))
        return JointAdapters(trunk, classes, self.place)

    def shared_params(self, shapes: Shapes) -> int:
        """The signs and steps of C, in floats of 32 bits, rounded up."""
        return ceil(sum(sign_bits(conv, 1) for conv in shapes.convs) / 32)
