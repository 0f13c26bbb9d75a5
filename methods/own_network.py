"""A whole network per domain: trained from scratch, or fine-tuned from the shared one."""

from dataclasses import dataclass

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.residual_adapters import refuse_groups
from visual_decathlon.methods.shapes import Shapes


@register
@dataclass(frozen=True)
class Scratch(Method):
    """Rebuffi, Bilen, Vedaldi 2017: every weight of the domain's own network from a random start.

    It stores the whole base: #par. 10 for ten domains.
    """

    name = "scratch"
    label = "Scratch"
    family = "own network"
    fidelity = "reproduction"
    paper = "Rebuffi 2017, arXiv 1705.08045"
    mergeable = True
    lr = 0.1

    @property
    def start(self):
        """`other`: a random start."""
        return "other"

    def place(self, source, classes):
        """An own network with a random start and a fresh head."""

        from visual_decathlon.methods.layers.network import new_head, own, share, start_body_afresh

        network = share(source)
        own(network.body)
        start_body_afresh(network)
        new_head(network, classes)
        return network

    def floats(self, shapes: Shapes) -> int:
        """The whole base."""
        return shapes.base


@register
@dataclass(frozen=True)
class ScratchPlus(Scratch):
    """Rebuffi, Bilen, Vedaldi 2017, "Scratch+": as scratch, with series adapters in the domain's network too.

    It stores the base, and cout² + 2 cout a convolution: #par. 11.08.
    """

    name = "scratch_plus"
    label = "Scratch+"

    def check(self, shapes: Shapes) -> None:
        """Raises InputError for a backbone with convolutions in groups, or with more than convolutions and norms."""
        refuse_groups(self.spec, shapes)
        if shapes.has_other_layers:
            raise InputError(
                "scratch_plus starts convolutions and batch norms at random, and this backbone has other layers; "
                "use scratch"
            )

    def place(self, source, classes):
        """An own network with series adapters, with a random start and a fresh head."""

        from visual_decathlon.methods.layers.network import new_head, own, share, start_afresh
        from visual_decathlon.methods.layers.series import put_series

        network = share(source)
        put_series(network)
        own(network.body)
        start_afresh(network.body)
        new_head(network, classes)
        return network

    def floats(self, shapes: Shapes) -> int:
        """The whole base, and cout² + 2 cout for each convolution."""
        return shapes.base + sum(c.cout**2 + 2 * c.cout for c in shapes.convs)


@register
@dataclass(frozen=True)
class Finetune(Method):
    """Rebuffi, Bilen, Vedaldi 2017: every weight, from the shared ones. The baseline of the score S.

    It starts as the identity and stores the whole base: #par. 10.
    """

    name = "finetune"
    label = "Finetune"
    family = "own network"
    fidelity = "reproduction"
    paper = "Rebuffi 2017, arXiv 1705.08045"
    mergeable = True
    lr = 0.05

    def place(self, source, classes):
        """An own network that starts at the shared weights, and a fresh head."""

        from visual_decathlon.methods.layers.network import new_head, own, share

        network = share(source)
        own(network.body)
        new_head(network, classes)
        return network

    def floats(self, shapes: Shapes) -> int:
        """The whole base."""
        return shapes.base
