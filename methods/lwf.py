"""LwF, learning without forgetting: fine-tuning that keeps the outputs of the original network."""

from dataclasses import dataclass

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import Shapes


@register
@dataclass(frozen=True)
class LwF(Method):
    """Li, Hoiem 2016: every weight, with cross-entropy + `weight` * KL(original || old head), T `temperature`.

    The old head, a trained copy of the source's, must keep the original network's outputs on the new images, both
    softened by T. The paper records the original outputs once for each uncropped image; here the frozen network
    computes them for the training crop, which costs its forward pass. The paper first trains the new head alone. As in
    the paper there is no factor T² (Hinton's, which keeps the gradient's size when T changes; it is weight=4 at
    T = 2). The KL divergence is the paper's cross-entropy less a constant. It starts as the identity and stores the
    whole base: #par. 10. The old head and the original network are needed only in training.
    """

    name = "lwf"
    label = "LwF"
    family = "own network"
    fidelity = "reproduction"
    paper = "Li 2016, arXiv 1606.09282"
    mergeable = True
    lr = 0.2
    needs_head = True

    weight: float = 1.0
    temperature: float = 2.0

    def __post_init__(self):
        if self.weight < 0:
            raise InputError(f"lwf(weight={self.weight}): the weight of the old answers must be 0 or more")
        if self.temperature <= 0:
            raise InputError(f"lwf(temperature={self.temperature}): the temperature must be above 0")

    def place(self, source, classes):
        """An own network with a fresh head; the old head and the frozen network as its teacher are training aids."""

        from visual_decathlon.methods.layers.network import keep_in_eval, new_head, own, share

        network, teacher = share(source), share(source)
        own(network.body, network.head)
        keep_in_eval(teacher.body)  # also while the network trains
        network.aids["old_head"], network.aids["teacher"] = network.head, teacher
        new_head(network, classes)
        return network

    def loss(self, network, x, y, criterion):
        """Cross-entropy + `weight` times the distillation loss of the old head."""

        from visual_decathlon.methods.layers.lwf import distillation

        features = network.body(x)
        logits, old = network.head(features), network.aids["old_head"](features)
        forgotten = distillation(old, network.aids["teacher"], x, self.temperature)
        return criterion(logits, y) + self.weight * forgotten, logits

    def floats(self, shapes: Shapes) -> int:
        """The whole base."""
        return shapes.base
