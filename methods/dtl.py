"""DTL: low-rank side maps that are summed over blocks and added behind the later half of them."""

from dataclasses import dataclass

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import BlockShape, NormShape, Shapes, onwards

LARGEST_KERNEL = 31  # the largest maps of a backbone here are some 30 pixels wide where something is added


@register
@dataclass(frozen=True)
class DTL(Method):
    """y_i = f_i(x_i) + M(swish(Σ_j U_j D_j x_j)) behind the later half of the blocks (Fu 2024, DTL).

    x_j is the input of block j, D_j a 1x1 convolution (rank, cin) and U_j one (cout, rank), from zero: the identity.
    The sum is over the blocks of block i's stage up to i. swish(t) = t sigmoid(100 t). M is nothing, or with `kernel`
    above 0 (DTL+; the release has 3 to 5) a depthwise convolution, one for all blocks of a stage. Gradients go through
    the blocks behind the first addition alone; of blocks before it only what D reads is kept for the backward pass.

    The paper adapts transformers, a Swin among them. As there the sum starts anew in each stage, where the channels
    change, and stages in which nothing is added have no maps; the release's Swin adds behind the blocks from 14 of 24
    on. A ResNet's stage begins with a block that halves the map: what D reads of its input is averaged to the size of
    its output. A transformer's layer norms see what is added; here the batch norms behind the first addition are the
    domain's own, and all others the source's. As released, M acts on the grid of patches, and what is added to a class
    token does not go through it. The release's drop-path belongs to its recipe and is not here.

    It stores rank (cin + cout) a block, kernel² C a stage and 2 floats for each channel of those batch norms: #par.
    1.03, DTL+ with kernel=5 1.04.
    """

    name = "dtl"
    label = "DTL"
    family = "read-out"
    fidelity = "adaptation"
    paper = "Fu 2024, arXiv 2312.07856"
    mergeable = False
    lr = 0.1
    compiles = False  # hooks carry the sum from block to block

    rank: int = 4
    kernel: int = 0

    def __post_init__(self):
        if self.rank < 1:
            raise InputError(f"dtl(rank={self.rank}): rank must be 1 or more")
        if self.kernel != 0 and self.kernel not in range(1, LARGEST_KERNEL + 1, 2):
            raise InputError(
                f"dtl(kernel={self.kernel}): give 0 for no convolution, or an odd kernel of at most {LARGEST_KERNEL}"
            )

    def _adding(self, shapes: Shapes) -> tuple[BlockShape, ...]:
        """The later half of the blocks, behind which the sum is added."""
        return shapes.block_shapes[len(shapes.blocks) // 2 :]

    def _stages(self, shapes: Shapes) -> list[list[BlockShape]]:
        """The blocks of each stage in which something is added."""
        adding = self._adding(shapes)
        return [stage for stage in shapes.stages if stage[-1] in adding]

    def _own_norms(self, shapes: Shapes) -> list[NormShape]:
        """The batch norms behind the first addition."""
        first = self._adding(shapes)[0].name
        behind = {name for name in onwards(shapes.order, first) if not name.startswith(f"{first}.")}
        return [norm for norm in shapes.norms if norm.batch and norm.name in behind]

    def check(self, shapes: Shapes) -> None:
        """Raises InputError for a backbone without blocks that map one map to one, or narrower than the rank."""
        shapes.require_blocks("dtl", "use feature")
        shapes.require_simple("dtl", "feature")
        if self.kernel:
            shapes.require_grids(self.spec, [b for stage in self._stages(shapes) for b in stage], "kernel=0")
        widest = max(block.cout for stage in self._stages(shapes) for block in stage)
        if self.rank > widest:
            raise InputError(f"dtl(rank={self.rank}): this backbone's widest block has {widest} channels; lower it")

    def place(self, source, classes):
        """The shared network with a side map at each block of the later stages, own late norms and a fresh head."""

        from visual_decathlon.methods.layers.dtl import SideMap, put_side_maps
        from visual_decathlon.methods.layers.layout import Layout
        from visual_decathlon.methods.layers.network import new_head, own, share

        network, shapes = share(source), source.shapes
        self.check(shapes)
        own(*(network.get_submodule(norm.name) for norm in self._own_norms(shapes)))
        adding = self._adding(shapes)
        maps = []
        for stage in self._stages(shapes):
            for block in stage:
                first, last = block == stage[0], block == stage[-1]
                how = first, last, block in adding, self.kernel, Layout.of_block(shapes, block)
                side = SideMap(block.cin, block.cout, self.rank, *how)
                maps.append((block.name, side))
        put_side_maps(network, maps)
        new_head(network, classes)
        return network

    def floats(self, shapes: Shapes) -> int:
        """rank (cin + cout) of each block that is read, kernel² C of its stage, 2 of each own norm's channel."""
        stages = self._stages(shapes)
        maps = sum(self.rank * (block.cin + block.cout) for stage in stages for block in stage)
        mixes = sum(self.kernel**2 * stage[-1].cout for stage in stages)
        return maps + mixes + sum(norm.floats for norm in self._own_norms(shapes))
