"""Depthwise sharing: the filters that read one channel are the domain's own, those that mix channels are shared."""

from dataclasses import dataclass

from visual_decathlon.datasets.errors import InputError, option
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import ConvShape, Shapes


@register
@dataclass(frozen=True)
class Depthwise(Method):
    """Guo, Li, Wang, Rosing 2019: a domain's own depthwise convolutions and batch norms on shared 1x1 convolutions.

    Domains share how channels are mixed, and each has spatial filters of its own. Those, with a bias where they have
    one, and the batch norms start as copies of the source's: the identity. All other layers are frozen. At inference it
    is the plain network.

    The paper's network is a ResNet-26 whose 3x3 convolutions are replaced by a depthwise and a 1x1 each. Here it is any
    network of the libraries that has depthwise convolutions, MobileNets, EfficientNets, Xception, ConvNeXt, as it is; a
    dense convolution in it, as the stem, stays shared, and so does one that pads in a way of its own, as the strided
    ones of timm's `tf_` networks. The paper's soft sharing, gates that mix several domains' filters, is not offered.
    On a network without depthwise convolutions, as the ResNet-26, it is refused.

    It stores k l channels a depthwise convolution, and 2 floats a batch norm channel: #par. 1.40 on
    torchvision/mobilenet_v2, 1.50 on torchvision/efficientnet_b0.
    """

    name = "depthwise"
    label = "Depthwise sharing"
    family = "own network"
    fidelity = "reproduction"
    paper = "Guo 2019, arXiv 1902.00927"
    mergeable = True
    lr = 0.1

    def adapted(self, shapes: Shapes) -> list[ConvShape]:
        """The depthwise convolutions, in order."""
        return [conv for conv in shapes.convs if conv.depthwise]

    def unsupported_reason(self, network: str) -> str:
        """A sentence for the ResNet-26; whether a library's network has depthwise convolutions is seen by `check`."""
        return self._refusal(network) if network == "resnet26" else ""

    def _refusal(self, network: str) -> str:
        return (
            f"{self.name} gives a domain its own depthwise convolutions, and {network} has none; take a network that "
            f"has some, as in {option('settings')}network=torchvision/mobilenet_v2"
        )

    def check(self, shapes: Shapes) -> None:
        """Raises InputError for a backbone without depthwise convolutions."""
        if not self.adapted(shapes):
            raise InputError(self._refusal("this backbone"))

    def place(self, source, classes):
        """The shared network with its own depthwise convolutions and batch norms, and a fresh head.

        Raises InputError for a backbone without depthwise convolutions.
        """

        from visual_decathlon.methods.layers.network import new_head, norms, own, share

        network = share(source)
        self.check(network.shapes)
        own(*(network.get_submodule(conv.name) for conv in self.adapted(network.shapes)), *norms(network))
        new_head(network, classes)
        return network

    def floats(self, shapes: Shapes) -> int:
        """2 floats for each batch norm channel, and k l, or k l + 1 with a bias, for each depthwise filter."""
        return shapes.affine + sum(conv.floats for conv in self.adapted(shapes))
