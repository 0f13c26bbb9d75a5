"""Residual adapters: a 1x1 convolution behind or beside every convolution, and batch norm per domain."""

from dataclasses import dataclass
from typing import Literal

from datasets.errors import BadInput
from methods.method import Method
from methods.registry import register
from methods.shapes import Shapes


@register
@dataclass(frozen=True)
class ResAdapter(Method):
    """Series: y = conv(x), y <- y + A BN(y), then the domain's BN (Rebuffi, Bilen, Vedaldi 2017).

    The backbone is pretrained with adapters in it, and `init='source'` starts from the source's own A
    and inner BN: the identity on that backbone. `he` starts A as the released code does. `zero`, and
    any `init` with `off_the_shelf=True`, is for a backbone that was pretrained without adapters: there
    new ones are put on (80.2 against 70.7 on CIFAR-100 val in the authors' hands, so only when asked).
    Stores cout² + 2 cout a convolution and 2 a batch norm channel: #par. 2.09.
    """

    name = "res_adapter"
    label = "Res. adapt."
    family = "residual adapters"
    fidelity = "reproduction"
    paper = "Rebuffi 2017, arXiv 1705.08045"
    mergeable = True
    lr = 0.1

    init: Literal["source", "he", "zero"] = "source"
    off_the_shelf: bool = False

    def __post_init__(self):
        if self.off_the_shelf and self.init == "source":
            raise BadInput(
                "res_adapter(off_the_shelf=True) has no adapters of the source to start from; "
                "add init='zero' or init='he'"
            )

    @property
    def source(self):
        return "plain" if self.off_the_shelf else "series"

    @property
    def start(self):
        return "other" if self.init == "he" or (self.init == "zero" and not self.off_the_shelf) else "identity"

    def place(self, source, classes):
        from methods.layers.network import new_head, norms, own, share
        from methods.layers.series import put_series, start_mix

        network = share(source)
        if self.off_the_shelf:
            put_series(network, self.init)
        else:
            for _, adapter in network.conv_sites():
                own(adapter.norm, adapter.mix)
                if self.init != "source":
                    start_mix(adapter, self.init)
        own(*norms(network))
        new_head(network, classes)
        return network

    def floats(self, shapes: Shapes) -> int:
        return shapes.affine + sum(c.cout**2 + 2 * c.cout for c in shapes.convs)


@register
@dataclass(frozen=True)
class ParAdapter(Method):
    """Parallel: conv(x) + A x, then the domain's BN (Rebuffi, Bilen, Vedaldi, CVPR 2018).

    A starts at zero, the identity; `init='he'` is the released start. Works on a plain backbone.
    Stores cin cout a convolution and 2 a batch norm channel: #par. 2.01.
    """

    name = "par_adapter"
    label = "Parallel res. adapt."
    family = "residual adapters"
    fidelity = "reproduction"
    paper = "Rebuffi 2018, arXiv 1803.10082"
    mergeable = True
    lr = 0.1

    init: Literal["zero", "he"] = "zero"

    @property
    def start(self):
        return "identity" if self.init == "zero" else "other"

    def place(self, source, classes):
        from torch import nn

        from methods.layers.network import new_head, norms, own, share
        from methods.layers.parallel import ParallelConv

        network = share(source)
        for site, conv in list(network.conv_sites()):
            adapter = ParallelConv(conv)
            if self.init == "he":
                nn.init.kaiming_normal_(adapter.side.weight, mode="fan_out", nonlinearity="relu")
            else:
                nn.init.zeros_(adapter.side.weight)
            network.set_submodule(site.conv, adapter)
        own(*norms(network))
        new_head(network, classes)
        return network

    def floats(self, shapes: Shapes) -> int:
        return shapes.affine + sum(c.cin * c.cout for c in shapes.convs)
