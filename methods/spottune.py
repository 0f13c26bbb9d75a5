"""SpotTune: for each image and residual block, the frozen block or a fine-tuned copy of it."""

from dataclasses import dataclass

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import Shapes

POLICY = (16, 32, 64)
"""Channels of the policy network's convolutions."""


@register
@dataclass(frozen=True)
class SpotTune(Method):
    """Guo et al. 2019: block(x) = g tuned(x) + (1 - g) frozen(x), g in {0, 1} chosen per image and block.

    A policy network reads the image and gives two logits for each block. In training g is a hard sample (Gumbel noise
    and argmax; the gradient is that of the softmax at `temperature`), at test it is the argmax. The tuned copies start
    at the frozen blocks' weights: the identity for every choice. They have the domain's batch norms, the frozen blocks
    keep the source's; layers outside of blocks are fine-tuned. The paper's policy is a ResNet; ours is three 3x3
    convolutions of stride 2 with batch norm and ReLU, the mean, and a linear layer. The release's schedule drops the
    learning rate once; here network and policy follow the recipe. Both blocks are computed and one is used.
    It stores the whole base and the policy: #par. 10.04.
    """

    name = "spottune"
    label = "SpotTune"
    family = "own network"
    fidelity = "reproduction"
    paper = "Guo 2019, arXiv 1811.08737"
    mergeable = False
    lr = 0.05
    compiles = captured = False  # choices are drawn on the host, from a generator of their own

    temperature: float = 5.0

    def __post_init__(self):
        if self.temperature <= 0:
            raise InputError(f"spottune(temperature={self.temperature}): the temperature must be above 0")

    def place(self, source, classes):
        """An own network whose blocks are paired with the shared ones, the policy network, and a fresh head."""

        from visual_decathlon.methods.layers.network import new_head, own, share
        from visual_decathlon.methods.layers.spottune import put_choices

        network = share(source)
        own(network.body)
        put_choices(network, source, self.temperature, POLICY)
        new_head(network, classes)
        return network

    def floats(self, shapes: Shapes) -> int:
        """The whole base and the policy network."""
        convs = sum(9 * cin * cout for cin, cout in zip((3, *POLICY), POLICY))
        return shapes.base + convs + 2 * sum(POLICY) + (POLICY[-1] + 1) * 2 * len(shapes.blocks)
