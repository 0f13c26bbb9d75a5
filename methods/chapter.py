"""CHAPTER: a parallel copy of whole convolutions, with a small scale."""

from dataclasses import dataclass

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.param_groups import apart
from visual_decathlon.methods.per_conv import PerConv
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import ConvShape, Shapes


@register
@dataclass(frozen=True)
class Chapter(PerConv):
    """conv(x; W) + 0.01 conv(x; A), A as large as W and zero at the start (Chen 2022, CHAPTER).

    It is the paper's adapter without what belongs to a speech network. There it adapts all seven convolutions of the
    feature extractor of a HuBERT, beside Houlsby's adapters in the transformer's layers, and each branch has a GELU of
    its own and is added behind the activation: gelu(conv(x; W)) + 0.01 gelu(conv(x; A)). Here there are no other
    adapters, and the linear sum goes through the domain's BN and then the ReLU, so it merges into W + 0.01 A.

    `stages` are the backbone's stages that are adapted, from 0, negative ones from the end. The default is the first:
    the paper adapts early layers, and the last stage alone is #par. 7.86. With SGD, unlike the paper's Adam, the 0.01
    also shrinks A's gradient. Therefore A's learning rate is divided by 0.01² and its decay multiplied by it, so that
    0.01 A moves like a trained W (with the plain rate all three of three stand-ins end below bn_adapt).

    It stores cin cout k² a convolution in those stages: #par. 1.44, 10 with every stage. The paper prints 4.67 M floats
    of HuBERT's 94.7 M, adapters in the transformer included.
    """

    name = "chapter"
    label = "CHAPTER"
    family = "adapter grid"
    fidelity = "adaptation"
    paper = "Chen 2022, arXiv 2212.01282"
    mergeable = True
    lr = 0.1

    stages: tuple[int, ...] = (0,)

    def _paths(self, shapes: Shapes) -> set[str]:
        """Module paths of the blocks in the stages that are adapted."""
        stages = shapes.stages
        if not self.stages or not all(-len(stages) <= stage < len(stages) for stage in self.stages):
            have = f"stages 0 to {len(stages) - 1}" if stages else "no stages"
            raise InputError(f"chapter(stages={self.stages}): this backbone has {have}; name some of those")
        return {block.name for stage in self.stages for block in stages[stage]}

    def check(self, shapes: Shapes) -> None:
        """Raises InputError where `stages` names a stage that this backbone does not have."""
        self._paths(shapes)

    def adapted(self, shapes: Shapes) -> list[ConvShape]:
        """The convolutions inside the chosen stages."""
        within = tuple(f"{path}." for path in self._paths(shapes))
        return [conv for conv in shapes.convs if conv.name.startswith(within)]

    def layer(self, conv):
        """W + 0.01 A at this convolution."""

        from visual_decathlon.methods.layers.chapter import ScaledCopyConv

        return ScaledCopyConv(conv)

    def new_floats(self, conv: ConvShape) -> int:
        """cin cout k l / groups."""
        return conv.cout * conv.fan_in

    def groups(self, network, decay, images):
        """The copies A with their learning rate divided by 0.01² and their decay multiplied by it, and all others."""

        from visual_decathlon.methods.layers.chapter import SCALE, ScaledCopyConv

        copies = [module.copy for module in network.modules() if isinstance(module, ScaledCopyConv)]
        others, own = apart(network, copies, decay, weight_decay=decay * SCALE**2, scale=1 / SCALE**2)
        return [own, others]
