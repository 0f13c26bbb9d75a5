"""Residual adapters: a 1x1 convolution after or parallel to every convolution, and batch norm per domain."""

from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Literal

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.param_groups import apart
from visual_decathlon.methods.per_conv import PerConv, Ranked
from visual_decathlon.methods.registry import register
from visual_decathlon.methods.shapes import ConvShape, Shapes

if TYPE_CHECKING:
    from visual_decathlon.methods.layers.parallel import ParallelConv


def refuse_groups(method: str, shapes: Shapes) -> None:
    """Raises InputError for a backbone with convolutions in groups, behind which series adapters cannot merge."""
    if grouped := [c.name for c in shapes.convs if c.groups != 1]:
        raise InputError(
            f"{method}: a 1x1 behind {grouped[0]} would mix the channels of its groups, and not fold into it; "
            "take a method that leaves such convolutions alone, as par_adapter"
        )


@register
@dataclass(frozen=True)
class ResAdapter(Method):
    """Series: y = conv(x), y <- y + A BN(y), then the domain's BN (Rebuffi, Bilen, Vedaldi 2017).

    The backbone is pretrained with adapters in it, and `init='source'` starts from the source's own A and inner BN:
    the identity on that backbone. `he` starts A as the released code does. `off_the_shelf=True`, with `zero` or `he`,
    is for a backbone that was pretrained without adapters and gets new ones. (The authors report 80.2 with and 70.7
    without adapters in pretraining on CIFAR-100 val, so it is an option and not the default.)
    It stores cout² + 2 cout a convolution and 2 a batch norm channel: #par. 2.09.
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
            raise InputError(
                f"{self.name}(off_the_shelf=True) has no adapters of the source to start from; "
                "add init='zero' or init='he'"
            )

    @property
    def backbone_structure(self):
        """`plain` for a backbone that was pretrained without adapters, otherwise `series`."""
        return "plain" if self.off_the_shelf else "series"

    @property
    def start(self):
        """The identity for the source's own adapters, and for zero ones on a plain backbone."""
        return "other" if self.init == "he" or (self.init == "zero" and not self.off_the_shelf) else "identity"

    def check(self, shapes: Shapes) -> None:
        """Raises InputError for a backbone with convolutions in groups."""
        refuse_groups(self.spec, shapes)

    def place(self, source, classes):
        """The shared network with its own series adapters, batch norms and head."""

        from visual_decathlon.methods.layers.linear import inner_of
        from visual_decathlon.methods.layers.network import new_head, norms, own, share
        from visual_decathlon.methods.layers.series import put_series, start_mix

        network = share(source)
        if self.off_the_shelf:
            put_series(network, self.init)
        else:
            for adapter in (inner_of(module) for _, module in network.conv_sites()):
                own(adapter.norm, adapter.mix)
                if self.init != "source":
                    start_mix(adapter, self.init)
        own(*norms(network))
        new_head(network, classes)
        return network

    def floats(self, shapes: Shapes) -> int:
        """2 floats for each batch norm channel, and cout² + 2 cout for each convolution."""
        return shapes.affine + sum(c.cout**2 + 2 * c.cout for c in shapes.convs)


@register
@dataclass(frozen=True)
class ResAdapterDecay(ResAdapter):
    """res_adapter with its adapters' weight decay raised on some domains (Rebuffi, Bilen, Vedaldi 2017).

    The paper says that small domains get more decay, and gives neither values nor a rule. Its cells differ from those
    of "Res. adapt." on Airc., DTD, GTSR, Flwr and UCF alone. No rule by the number of images gives these five, nor one
    by images per class: GTSR has 31,367 training images, which is more than DPed (23,520) and OGlt (17,853) have, and
    OGlt has 11 a class, as few as Flwr. So `domains` lists them. On these, A and its inner norm have `factor` times the
    recipe's decay (ours: 5e-4 where the paper's recipe has 1e-4); all other domains, and a user's own that are not
    listed, train as with res_adapter, to the bit. Start and count are those of res_adapter.
    """

    name = "res_adapter_decay"
    label = "Res. adapt. decay"

    factor: float = 5.0
    domains: tuple[str, ...] = ("aircraft", "dtd", "gtsrb", "vgg-flowers", "ucf101")

    def __post_init__(self):
        super().__post_init__()
        if self.factor < 0:
            raise InputError(f"{self.name}(factor={self.factor:g}): a weight decay must be 0 or more")
        for domain in self.domains:
            if not domain.strip():
                raise InputError(f"{self.name}(domains={self.domains!r}) has an empty name; leave it out")
            if self.domains.count(domain) > 1:
                raise InputError(f"{self.name}(domains={self.domains!r}) names {domain} twice; leave one out")

    def for_domain(self, domain):
        """The same method on the listed domains, and `factor=1` on all others."""
        return self if domain in self.domains else replace(self, factor=1.0)

    def domain_note(self, domains):
        """On the first of its `domains` that is none of these, but is spelled nearly as one of them.

        It is no error, since another run may have a domain of that name.
        """
        for domain in self.domains:
            near = [] if domain in domains else get_close_matches(domain.lower(), domains, n=1, cutoff=0.7)
            if near:
                return f"{self.name}(domains=...): no domain here is called {domain!r}; did you mean {near[0]!r}?"
        return ""

    def groups(self, network, decay, images):
        """The adapters with `factor` times the decay, and all others."""

        from visual_decathlon.methods.layers.series import SeriesConv

        # The convolution inside is frozen: a SeriesConv's trained tensors are its A and inner norm.
        adapters = [p for m in network.modules() if isinstance(m, SeriesConv) for p in m.parameters()]
        others, own = apart(network, adapters, decay, weight_decay=decay * self.factor)
        return [own, others]


def no_centre_tap(conv: ConvShape) -> str:
    """Why a parallel 1x1 is not this convolution's centre tap; "" where it is."""
    if conv.groups != 1:
        return f"its {conv.groups} groups read only their own inputs, a parallel 1x1 reads all of them"
    return "" if conv.centred else "its padding gives its kernel no centre tap on the input"


@register
@dataclass(frozen=True)
class ParAdapter(PerConv):
    """Parallel: conv(x) + A x, then the domain's BN (Rebuffi, Bilen, Vedaldi, CVPR 2018).

    A starts at zero: the identity; `init='he'` is the start of the released code. The backbone is plain.
    It stores cin cout a convolution and 2 a batch norm channel: #par. 2.01.
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
        """The identity for `zero`, otherwise `other`."""
        return "identity" if self.init == "zero" else "other"

    def skip_reason(self, conv: ConvShape) -> str:
        """The 1x1 must be the kernel's centre tap."""
        return no_centre_tap(conv)

    def started(self, adapter: "ParallelConv") -> "ParallelConv":
        """The adapter with A initialised by the option `init`."""

        from torch import nn

        if self.init == "he":
            nn.init.kaiming_normal_(adapter.side.weight, mode="fan_out", nonlinearity="relu")
        else:
            nn.init.zeros_(adapter.side.weight)
        return adapter

    def layer(self, conv):
        """conv(x) + A x at this convolution."""

        from visual_decathlon.methods.layers.parallel import ParallelConv

        return self.started(ParallelConv(conv))

    def new_floats(self, conv: ConvShape) -> int:
        """cin cout."""
        return conv.cin * conv.cout


@register
@dataclass(frozen=True)
class ParAdapterSVD(Ranked, ParAdapter):
    """par_adapter with each domain's A truncated to a low rank by itself (after Rebuffi, Bilen, Vedaldi, CVPR 2018).

    The paper compresses the adapters of all domains jointly, as par_adapter_joint_svd does; here every domain has its
    own SVD, so that domains can be added one by one. A has its full rank in the first half of the steps and is then
    truncated every `every` steps and after the last one. It is stored as U sqrt(S) and sqrt(S) V, or as A where the
    factors are not smaller: min(r (cin + cout), cin cout) a convolution, #par. 1.18. Rank 48 has the published 1.5.
    """

    name = "par_adapter_svd"
    label = "Parallel res. adapt. SVD"
    fidelity = "adaptation"

    rank: int = 16
    every: int = 20

    def __post_init__(self):
        super().__post_init__()
        if self.every < 1:
            raise InputError(f"par_adapter_svd(every={self.every}): it truncates A every `every` steps; give 1 or more")

    def largest_rank(self, conv: ConvShape) -> int:
        """min(cin, cout)."""
        return min(conv.cin, conv.cout)

    def _pays(self, conv: ConvShape) -> bool:
        return self.rank * (conv.cin + conv.cout) < conv.cin * conv.cout

    def layer(self, conv):
        """conv(x) + A x, A truncated where its factors are smaller than A."""

        from visual_decathlon.methods.layers.parallel import TruncatedConv

        return self.started(TruncatedConv(conv, self.rank)) if self._pays(ConvShape.of(conv)) else super().layer(conv)

    def new_floats(self, conv: ConvShape) -> int:
        """min(r (cin + cout), cin cout)."""
        return self.rank * (conv.cin + conv.cout) if self._pays(conv) else conv.cin * conv.cout

    def after_step(self, network, step, steps):
        """Truncates A every `every` steps of the second half, and after the last step."""

        from visual_decathlon.methods.layers.parallel import TruncatedConv

        if step == steps or (2 * step > steps and step % self.every == 0):
            for module in network.modules():
                if isinstance(module, TruncatedConv):
                    module.truncate()
