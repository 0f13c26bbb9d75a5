"""Ladder side-tuning: a thin side network beside the frozen one."""

from dataclasses import dataclass

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import Shapes


@register
@dataclass(frozen=True)
class LST(Method):
    """Ladder side-tuning (Sung, Cho, Bansal 2022): no gradient goes through the network, so none of its maps is kept
    for a backward pass but those that the side network reads.

    The side network has a step for each residual block, with w = max(1, C // `reduction`) channels where the block has
    C: s_i = μ_i f_i(s_(i-1)) + (1 - μ_i) D_i h_i. h_i is the block's output and D_i a 1x1 convolution (w, C);
    f_i is batch norm, ReLU and a 3x3 convolution of s, averaged to h_i's size, with a shortcut where the width stays;
    μ_i = sigmoid(α_i / 0.1), α_i from 0.2. s_0 = D_0 h_0, h_0 the first block's input. The head reads the frozen
    features plus U mean(relu(norm(s))), U (dim, w) from zero: the identity. Batch norm of the network is the source's.
    The paper adapts transformers: its side layers are transformer layers, started from pruned weights of the network,
    mixed before each layer instead of behind it (an option of its code), with reduction 8 and α from 0; the head reads
    U s alone. Adding to the frozen features follows DTL (Fu 2024, arXiv 2312.07856), whose side network is low rank.
    A transformer here has the same side network, on the map of its patches without class tokens: a 3x3 convolution
    mixes neighbours where the paper's side layers attend to all. A block that reads a list of maps is read joined.
    It stores Σ C w of the laterals, Σ 9 w_(i-1) w_i + 2 w_(i-1) + 1 of the steps and 2 w + w dim at the end: #par.
    1.42, and 1.15 with reduction 8. `side` reads a frozen network in closed form.
    """

    name = "lst"
    label = "Ladder side-tuning"
    family = "read-out"
    fidelity = "adaptation"
    paper = "Sung 2022, arXiv 2206.06522"
    mergeable = False
    lr = 0.1
    compiles = False  # hooks read the maps of a pass

    reduction: int = 4

    def __post_init__(self):
        if self.reduction < 1:
            raise InputError(f"lst(reduction={self.reduction}): reduction must be 1 or more")

    def channels(self, shapes: Shapes) -> list[int]:
        """The channels of the maps that are read: the first block's input, and every block's output."""
        return [shapes.block_shapes[0].cin, *(block.cout for block in shapes.block_shapes)]

    def widths(self, shapes: Shapes) -> list[int]:
        """The channels of the side network at each of these maps."""
        return [max(1, c // self.reduction) for c in self.channels(shapes)]

    def check(self, shapes: Shapes) -> None:
        """Raises InputError for a backbone without blocks that give one map each, or narrower than the reduction."""
        shapes.require_blocks("lst", "use feature")
        shapes.require_simple("lst", "feature")
        shapes.require_grids("lst", shapes.block_shapes, "feature")
        if self.reduction > (widest := max(self.channels(shapes))):
            raise InputError(
                f"lst(reduction={self.reduction}): this backbone's widest block has {widest} channels; lower it"
            )

    def place(self, source, classes):
        """The shared network, frozen, with the side network beside its body and a fresh head."""

        from visual_decathlon.methods.layers.layout import Layout
        from visual_decathlon.methods.layers.lst import put_ladder
        from visual_decathlon.methods.layers.network import new_head, share

        network = share(source)
        shapes = network.shapes
        self.check(shapes)
        layouts = {block.name: Layout.of_block(shapes, block) for block in shapes.block_shapes}
        put_ladder(network, self.channels(shapes), self.widths(shapes), layouts)
        new_head(network, classes)
        return network

    def floats(self, shapes: Shapes) -> int:
        """Laterals, steps with their norms and gates, the last norm and U."""
        widths = self.widths(shapes)
        laterals = sum(c * w for c, w in zip(self.channels(shapes), widths, strict=True))
        steps = sum(9 * a * b + 2 * a + 1 for a, b in zip(widths, widths[1:], strict=False))
        return laterals + steps + widths[-1] * (2 + shapes.dim)
