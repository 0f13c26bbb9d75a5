"""Methods with one training over all domains at once: of the shared weights too, or of a domain classifier."""

from dataclasses import dataclass

from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.residual_adapters import ResAdapter
from visual_decathlon.methods.shapes import Shapes


@register
@dataclass(frozen=True)
class FinetuneAll(Method):
    """Rebuffi, Bilen, Vedaldi 2017, "Res. adapt. finetune all": series adapters, the shared weights trained too.

    One training uses the batches of all domains in a random order. Each domain has its own adapters, batch norms and
    head on one set of convolutions, which all domains train. Each domain has as many steps as with other methods. It
    stores the adapters per domain and the shared weights once: #par. 2.09.
    """

    name = "res_adapter_finetune_all"
    label = "Res. adapt. finetune all"
    family = "residual adapters"
    fidelity = "reproduction"
    paper = "Rebuffi 2017, arXiv 1705.08045"
    mergeable = True
    backbone_structure = "series"
    lr = 0.1
    has_joint_stage = True
    trains_per_domain = False

    def build_joint(self, source, classes):
        """A network for each domain on one trained set of convolutions: JointNetwork."""

        from visual_decathlon.methods.layers.joint import JointNetwork

        return JointNetwork(source, classes)

    def optimiser(self, groups, lr, momentum, nesterov):
        """The recipe's SGD, fused only on a GPU, where it can be captured: CPU records have the unfused rounding."""
        from visual_decathlon.methods.layers.sgd import SGD

        fused = groups[0]["params"][0].device.type != "cpu"
        return SGD(groups, lr, momentum, nesterov=nesterov and momentum > 0, fused=fused)

    def place(self, source, classes):
        """As res_adapter; the joint stage trains the networks."""
        return ResAdapter().place(source, classes)

    def floats(self, shapes: Shapes) -> int:
        """As res_adapter."""
        return ResAdapter().floats(shapes)


@register
@dataclass(frozen=True)
class DomPred(Method):
    """Rebuffi, Bilen, Vedaldi 2017, "Res. adapt. dom-pred": a network predicts the domain and picks its adapters.

    An image that the classifier assigns to another domain is classified by that domain's head, so it counts as an
    error. The paper's predictor is not public; ours is a plain network of nine 3x3 convolutions with the backbone's
    stage widths, trained on equal shares of all domains. Its parameters are counted once: #par. 2.49.
    """

    name = "res_adapter_dom_pred"
    label = "Res. adapt. dom-pred"
    family = "residual adapters"
    fidelity = "reproduction"
    paper = "Rebuffi 2017, arXiv 1705.08045"
    mergeable = True
    backbone_structure = "series"
    lr = 0.1
    has_joint_stage = True

    def build_joint(self, source, classes):
        """The domain classifier."""

        from visual_decathlon.methods.layers.joint import DomainClassifier

        return DomainClassifier(classifier_widths(_stem(source)), len(classes))

    def place(self, source, classes):
        """As res_adapter."""
        return ResAdapter().place(source, classes)

    def inference_module(self, network, joint_module, index, mean, std, size):
        """The domain's network behind the domain classifier: DomainRoutedNetwork."""

        from visual_decathlon.methods.layers.joint import DomainRoutedNetwork

        return DomainRoutedNetwork(network, joint_module, index, mean, std, size)

    def floats(self, shapes: Shapes) -> int:
        """As res_adapter."""
        return ResAdapter().floats(shapes)

    def shared_params(self, shapes: Shapes) -> int:
        """Parameters of the classifier of ten domains: convolutions, batch norms, head."""
        widths = classifier_widths(shapes.convs[0].cout)
        convs = sum(9 * cin * cout for cin, cout in zip((3, *widths), widths))
        return convs + 2 * sum(widths) + 10 * (widths[-1] + 1)


def classifier_widths(stem: int) -> tuple[int, ...]:
    """Channels of the domain classifier's convolutions; it halves the image where they double."""
    return (stem, 2 * stem, 2 * stem, 4 * stem, 4 * stem, 8 * stem, 8 * stem, 8 * stem, 8 * stem)


def _stem(source) -> int:
    _, first = next(source.conv_sites())
    return getattr(first, "conv", first).out_channels
