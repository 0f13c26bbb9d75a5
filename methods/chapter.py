"""CHAPTER: a small-scaled copy of whole convolutions beside them."""

from dataclasses import dataclass

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.per_conv import PerConv
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import ConvShape, Shapes


@register
@dataclass(frozen=True)
class Chapter(PerConv):
    """conv(x; W) + 0.01 conv(x; A), A as large as W and zero at the start (Chen 2022, CHAPTER).

    Born on the convolutions of a speech network's feature extractor, without batch norm; here the sum goes
    through the domain's BN and then the ReLU, so that it folds into W + 0.01 A. `stages` are the backbone's
    stages that get it, from 0, negative ones from the end: the first by default, as the paper too adapts the
    early layers and the last stage alone is #par. 7.86. Under SGD, unlike the paper's Adam, the 0.01 shrinks A's
    gradient too; A's rate is divided by 0.01² and its decay multiplied, so that 0.01 A moves as a trained W
    does (at the plain rate three stand-ins of three end below bn_adapt).
    Stores cin cout k² a convolution in those stages: #par. 1.44, 10 with every stage.
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
        """Module paths of the stages that are adapted."""
        paths = list(dict.fromkeys(block.rpartition(".")[0] for block in shapes.blocks))
        if not self.stages or not all(-len(paths) <= stage < len(paths) for stage in self.stages):
            have = f"stages 0 to {len(paths) - 1}" if paths else "no stages"
            raise InputError(f"chapter(stages={self.stages}): this backbone has {have}; name some of those")
        return {paths[stage] for stage in self.stages}

    def check(self, shapes: Shapes) -> None:
        self._paths(shapes)

    def adapted(self, shapes: Shapes) -> list[ConvShape]:
        within = tuple(f"{path}." for path in self._paths(shapes))
        return [conv for conv in shapes.convs if conv.name.startswith(within)]

    def layer(self, conv):
        from visual_decathlon.methods.layers.chapter import ScaledCopyConv

        return ScaledCopyConv(conv)

    def new_floats(self, conv: ConvShape) -> int:
        return conv.cout * conv.fan_in

    def groups(self, network, decay, images):
        from visual_decathlon.methods.layers.chapter import SCALE, ScaledCopyConv

        copies = [module.copy for module in network.modules() if isinstance(module, ScaledCopyConv)]
        theirs = {id(p) for p in copies}
        others = [p for p in network.parameters() if p.requires_grad and id(p) not in theirs]
        return [
            {"params": copies, "weight_decay": decay * SCALE**2, "scale": 1 / SCALE**2},
            {"params": others, "weight_decay": decay},
        ]
