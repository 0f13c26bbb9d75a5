"""SpotTune: for each image and residual block, the frozen block or a fine-tuned copy of it."""

from dataclasses import dataclass

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.param_groups import apart
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import Shapes

POLICY_RATE, POLICY_DECAY = 0.1, 1e-3
"""The policy's share of the learning rate, and its weight decay, as released."""


def policy_widths(stem: int) -> tuple[int, ...]:
    """Channels of the policy's convolution and three blocks, `stem` those of the backbone's first convolution.

    They are the release's 32, 64, 128 and 256, and proportionally fewer on a backbone with a stem of less than 32.
    """
    return tuple(min(stem, 32) * factor for factor in (1, 2, 4, 8))


@register
@dataclass(frozen=True)
class SpotTune(Method):
    """Guo et al. 2019: block(x) = g tuned(x) + (1 - g) frozen(x), g in {0, 1} chosen per image and block.

    A policy network reads the image and gives two logits for each block. In training g is a hard sample (Gumbel noise
    and argmax; the gradient is that of the softmax at `temperature`). Both copies start at the source's block: the
    identity for every choice. As in the release, frozen blocks keep only their convolutions frozen: both copies have
    batch norms of the domain, with statistics of their own, and the layers outside of blocks are fine-tuned. The policy
    is the release's ResNet, a convolution and three basic blocks of 32 to 256 channels, from a random start. Its rate
    is a tenth of the network's and its weight decay 1e-3, whatever the recipe's is. Both blocks are computed and one
    is used.

    What differs from the release: at test g is the argmax, so that a prediction is a function of the image (the release
    draws noise there too); the network follows the recipe's schedule and decay (the release drops the rate once, after
    epoch 40 of 110, where its code means to drop it three times, and has a decay of 0, 1e-4 or 5e-4 for each domain);
    on a backbone with a stem of less than 32 channels the policy is as much narrower.

    It stores the whole base, the frozen copies' batch norms and the policy (1,170,616 floats): #par. 11.82. The paper
    prints 11, and its release counts 11.82 as well.
    """

    name = "spottune"
    label = "SpotTune"
    family = "own network"
    fidelity = "reproduction"
    paper = "Guo 2019, arXiv 1811.08737"
    mergeable = False
    revision = 2
    lr = 0.05
    compiles = False  # the policy's choices reach the blocks through a table of the thread

    temperature: float = 5.0

    def __post_init__(self):
        if self.temperature <= 0:
            raise InputError(f"spottune(temperature={self.temperature}): the temperature must be above 0")

    def check(self, shapes: Shapes) -> None:
        """Raises InputError for a backbone without blocks of one map each behind the layer that reads the image."""
        shapes.require_blocks("spottune", "use finetune")
        shapes.require_simple("spottune", "finetune")
        if not shapes.convs:
            raise InputError("spottune stands at the first convolution, and this backbone has none; use finetune")
        stem = shapes.convs[0]
        inside = any(stem.name.startswith(f"{block}.") for block in shapes.blocks)
        if stem.linear or inside or stem.name != next(n for n in shapes.order if n in {c.name for c in shapes.convs}):
            raise InputError(
                "spottune chooses between blocks by the image, at the first convolution, and that of this backbone is "
                f"not in front of its blocks ({stem.name}); use finetune"
            )

    def place(self, source, classes):
        """An own network whose blocks are paired with the shared ones, the policy network, and a fresh head."""

        from visual_decathlon.methods.layers.network import new_head, own, share
        from visual_decathlon.methods.layers.spottune import put_choices

        network = share(source)
        self.check(network.shapes)
        own(network.body)
        _, stem = next(network.conv_sites())
        put_choices(network, source, self.temperature, policy_widths(stem.out_channels))
        new_head(network, classes)
        return network

    def floats(self, shapes: Shapes) -> int:
        """The whole base, a second copy of the batch norms in blocks, and the policy network."""
        within = tuple(f"{block}." for block in shapes.blocks)
        norms = sum(n.floats for n in shapes.norms if n.batch and n.name.startswith(within))
        stem, *wider = policy_widths(shapes.convs[0].cout)
        convs = 27 * stem + sum(9 * (cout // 2 + cout) * cout for cout in wider)
        affine = 2 * (stem + 2 * sum(wider) + wider[-1])
        return shapes.base + norms + convs + affine + (wider[-1] + 1) * 2 * len(shapes.blocks)

    def groups(self, network, decay, images):
        """The network, and the policy with a tenth of the rate and a decay of 1e-3."""

        from visual_decathlon.methods.layers.spottune import policy_of

        policy = policy_of(network).parameters()
        return apart(network, policy, decay, weight_decay=POLICY_DECAY, scale=POLICY_RATE)
