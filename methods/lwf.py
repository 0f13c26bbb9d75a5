"""Learning without forgetting: fine-tuning that is held to what the original network says."""

from dataclasses import dataclass

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import Shapes


@register
@dataclass(frozen=True)
class LwF(Method):
    """Li, Hoiem 2016: every weight, with cross-entropy + `weight` * KL(original || old head), T `temperature`.

    The old head, a trained copy of the source's, must go on answering the new images as the original
    network does, both softened by T. The paper records the original's answers once, to each image as
    it is; here the frozen network answers the very crop that is trained on, which costs its forward
    pass. The paper trains the new head alone first. Like it this has no T² in front (Hinton's, which keeps
    the gradient's size when T changes; that is weight=4 at T = 2). The KL is its cross-entropy less
    a constant. Stores the whole base: #par. 10; old head and original network are needed in training alone.
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
        from visual_decathlon.methods.layers.network import keep_in_eval, new_head, own, share

        network, teacher = share(source), share(source)
        own(network.body, network.head)
        keep_in_eval(teacher.body)  # also while the network trains
        network.aids["old_head"], network.aids["teacher"] = network.head, teacher
        new_head(network, classes)
        return network

    def loss(self, network, x, y, criterion):
        from visual_decathlon.methods.layers.lwf import distillation

        features = network.body(x)
        logits, old = network.head(features), network.aids["old_head"](features)
        forgotten = distillation(old, network.aids["teacher"], x, self.temperature)
        return criterion(logits, y) + self.weight * forgotten, logits

    def floats(self, shapes: Shapes) -> int:
        return shapes.base
