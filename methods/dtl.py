"""DTL: low-rank side maps that are summed over blocks and added behind the later half of them."""

from collections.abc import Sequence
from dataclasses import dataclass

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import ConvShape, Shapes

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
    domain's own, and all others the source's. The release's drop-path belongs to its recipe and is not here.

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

    def _adding(self, blocks: Sequence[str]) -> Sequence[str]:
        """Of these blocks the later half, behind which the sum is added."""
        return blocks[len(blocks) // 2 :]

    def _stages(self, shapes: Shapes) -> list[list[str]]:
        """The blocks of each stage in which something is added."""
        adding = self._adding(shapes.blocks)
        return [stage for stage in shapes.stages.values() if stage[-1] in adding]

    def _ends(self, shapes: Shapes, block: str) -> tuple[int, int]:
        """The channels that the block reads and gives."""
        convs = shapes.inside(block)
        return convs[0].cin, convs[-1].cout

    def _own_norms(self, norms: Sequence[str], blocks: Sequence[str]) -> Sequence[str]:
        """Of these module paths of batch norms those behind the first addition."""
        first = f"{self._adding(blocks)[0]}."
        return norms[1 + max(i for i, norm in enumerate(norms) if norm.startswith(first)) :]

    def check(self, shapes: Shapes) -> None:
        """Raises InputError for a backbone without residual blocks, or narrower than the rank."""
        if not shapes.blocks:
            raise InputError("dtl reads residual blocks and this backbone has none; use feature")
        widest = max(self._ends(shapes, block)[1] for stage in self._stages(shapes) for block in stage)
        if self.rank > widest:
            raise InputError(f"dtl(rank={self.rank}): this backbone's widest block has {widest} channels; lower it")

    def place(self, source, classes):
        """The shared network with a side map at each block of the later stages, own late norms and a fresh head."""

        from torch.nn.modules.batchnorm import _BatchNorm

        from visual_decathlon.methods.layers.dtl import SideMap, put_side_maps
        from visual_decathlon.methods.layers.network import names_of, new_head, own, share

        network = share(source)
        convs = tuple(ConvShape.of(conv, site.conv) for site, conv in network.conv_sites())
        shapes = Shapes(convs, (), network.head.in_features, network.blocks)
        self.check(shapes)
        own(*map(network.get_submodule, self._own_norms(names_of(network, _BatchNorm), network.blocks)))
        adding = self._adding(network.blocks)
        maps = []
        for stage in self._stages(shapes):
            for block in stage:
                ends = self._ends(shapes, block)
                first, last = block == stage[0], block == stage[-1]
                maps.append((block, SideMap(*ends, self.rank, first, last, block in adding, self.kernel)))
        put_side_maps(network, maps)
        new_head(network, classes)
        return network

    def floats(self, shapes: Shapes) -> int:
        """rank (cin + cout) of each block that is read, kernel² C of its stage, 2 of each own norm's channel."""
        stages = self._stages(shapes)
        maps = sum(self.rank * sum(self._ends(shapes, block)) for stage in stages for block in stage)
        mixes = sum(self.kernel**2 * self._ends(shapes, stage[-1])[1] for stage in stages)
        own = self._own_norms([n.name for n in shapes.norms], shapes.blocks)
        return maps + mixes + sum(2 * n.channels for n in shapes.norms if n.name in own)
