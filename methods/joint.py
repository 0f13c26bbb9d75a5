"""Methods that train something once over all domains together: the shared weights too, or a judge of the domain."""

from dataclasses import dataclass

from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.residual_adapters import ResAdapter
from visual_decathlon.methods.shapes import Shapes


@register
@dataclass(frozen=True)
class FinetuneAll(Method):
    """Rebuffi, Bilen, Vedaldi 2017, "Res. adapt. finetune all": series adapters, the shared weights trained too.

    One training goes over the batches of all domains in a random order, each domain with its own
    adapters, batch norms and head on one set of convolutions that all of them move; every domain is
    shown as often as by the other methods. Stores the adapters per domain and the shared weights once: #par. 2.09.
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
        from visual_decathlon.methods.layers.joint import JointNetwork

        return JointNetwork(source, classes)

    def optimiser(self, groups, lr, momentum, nesterov):
        """Fused on a GPU alone, where it can be captured: the records of CPUs are of the unfused one's rounding."""
        from visual_decathlon.methods.layers.sgd import SGD

        fused = groups[0]["params"][0].device.type != "cpu"
        return SGD(groups, lr, momentum, nesterov=nesterov and momentum > 0, fused=fused)

    def place(self, source, classes):
        return ResAdapter().place(source, classes)

    def floats(self, shapes: Shapes) -> int:
        return ResAdapter().floats(shapes)


@register
@dataclass(frozen=True)
class DomPred(Method):
    """Rebuffi, Bilen, Vedaldi 2017, "Res. adapt. dom-pred": a network tells the domain and picks the adapters.

    An image that the judge takes for another domain's is classified by that domain's head, so it counts
    as an error. The paper's predictor is not public; ours is a plain network of nine 3x3 convolutions with
    the backbone's stage widths, trained on equal shares of all domains, its parameters counted once: #par. 2.49.
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
        from visual_decathlon.methods.layers.joint import DomainClassifier

        return DomainClassifier(classifier_widths(_stem(source)), len(classes))

    def place(self, source, classes):
        return ResAdapter().place(source, classes)

    def inference_module(self, network, joint_module, index, mean, std, size):
        from visual_decathlon.methods.layers.joint import DomainRoutedNetwork

        return DomainRoutedNetwork(network, joint_module, index, mean, std, size)

    def floats(self, shapes: Shapes) -> int:
        return ResAdapter().floats(shapes)

    def shared_params(self, shapes: Shapes) -> int:
        """The judge of ten domains: convolutions, batch norms, head."""
        widths = classifier_widths(shapes.convs[0].cout)
        convs = sum(9 * cin * cout for cin, cout in zip((3, *widths), widths))
        return convs + 2 * sum(widths) + 10 * (widths[-1] + 1)


def classifier_widths(stem: int) -> tuple[int, ...]:
    """Channels of the judge's convolutions; it halves the image wherever they double."""
    return (stem, 2 * stem, 2 * stem, 4 * stem, 4 * stem, 8 * stem, 8 * stem, 8 * stem, 8 * stem)


def _stem(source) -> int:
    _, first = next(source.conv_sites())
    return getattr(first, "conv", first).out_channels
