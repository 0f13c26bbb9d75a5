"""The base class of every registry entry: the attributes that describe it, and the hooks of the training loop.

An entry is a frozen dataclass whose fields are its options. It is light: code that needs torch imports it where it is
used, so that listing the methods starts fast.
"""

import dataclasses
from typing import TYPE_CHECKING, ClassVar, Literal

from visual_decathlon.methods.shapes import ConvShape, Shapes

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from torch import Tensor, nn
    from torch.optim import Optimizer

    from visual_decathlon.methods.layers.network import Network


@dataclasses.dataclass(frozen=True)
class Method:
    """One way to specialise a shared, frozen backbone to a domain."""

    name: ClassVar[str]
    label: ClassVar[str]  # the name in tables
    family: ClassVar[str]
    fidelity: ClassVar[Literal["reproduction", "adaptation", "ours"]]
    paper: ClassVar[str]
    mergeable: ClassVar[bool]  # at inference it is the plain backbone with other weights
    backbone_structure: ClassVar[Literal["plain", "series"]] = "plain"  # the structure its backbone is pretrained in
    later_options: ClassVar[tuple[str, ...]] = ()  # options that the entry lacked when records of it were shipped
    revision: ClassVar[int] = 1  # raised by hand whenever the same options give other numbers: the hashes change
    lr: ClassVar[float]  # the stand-in profile's peak learning rate, from a sweep on a part of train
    cached_views: ClassVar[int] = 0  # > 0: `split`'s first part is computed once, for this many crops
    has_joint_stage: ClassVar[bool] = False  # `build_joint`'s module is trained once over all domains of a run
    joint_method: ClassVar[str] = ""  # the entry whose joint stage it uses, and shares with that entry; "": its own
    trains_per_domain: ClassVar[bool] = True  # False: the joint stage trains the domains' networks
    counted_domains: ClassVar[int] = 9  # domains whose own parameters #par. counts; the tenth is the backbone's
    classifies_domains: ClassVar[bool] = False  # `build_classifier`'s module is trained too, and picks the network
    compiles: ClassVar[bool] = True  # its loss calls the network's body, which torch.compile can trace
    captured: ClassVar[bool] = True  # its loss reads no value on the host, so a CUDA graph can replay it
    needs_head: ClassVar[bool] = False  # it reads the outputs of the head that the backbone was pretrained with
    width_multiplier: ClassVar[float] = 1.0  # the width of its backbone divided by the profile's width
    start_tolerance: ClassVar[float] = 0.0  # for the start `near`: largest deviation of a feature, of the largest one
    start_rounds: ClassVar[bool] = True  # its start needs only zeros, ones and equal pairs, which `quantised` keeps

    @property
    def start(self) -> Literal["identity", "near", "other"]:
        """How the adapted network starts: equal to the frozen one (`identity`), `near` it, or anywhere (`other`)."""
        return "identity"

    def for_domain(self, domain: str) -> "Method":
        """The method as it trains the domain of this name: another only where its settings differ between domains.

        What is placed, stored and counted is the same. A joint training does not call it.
        """
        return self

    def domain_note(self, domains: "Collection[str]") -> str:
        """A sentence on an option that seems to misspell one of these domains, which a run prints; "" for none."""
        return ""

    def place(self, source: "Network", classes: int) -> "Network":
        """A network for one domain with `classes` classes on the shared `source`, which does not change.

        Tensors that the method trains require gradients and have their own storage; all others are the source's.
        """
        raise NotImplementedError

    def split(self, network: "Network") -> "tuple[nn.Module, nn.Module]":
        """The first part of a placed network, which is not trained, and the part that is trained on its outputs.

        It is called where `cached_views` is above 0.
        """
        raise NotImplementedError

    def fit(self, network: "Network", read: "Tensor", y: "Tensor") -> "Tensor":
        """Sets tensors in closed form before the loop and returns the inputs of the trained part.

        It is called where `cached_views` is above 0. `read` (views, n, ...) are the first part's outputs for n images
        of the classes y (n,); it may be overwritten. Random numbers come from the global generator, and a resumed run
        calls this again.
        """
        return read

    def floats(self, shapes: Shapes) -> int:
        """Trained floats a domain stores in addition to the backbone, without head and running statistics."""
        raise NotImplementedError

    def least_floats(self, shapes: Shapes) -> int:
        """The fewest floats a domain may store, where training decides how many; `floats` is then the most."""
        return self.floats(shapes)

    def stored_floats(self, network: "nn.Module", shapes: Shapes) -> int:
        """The floats that this trained network's domain stores: `floats`, unless training decides how many."""
        return self.floats(shapes)

    def bits(self, shapes: Shapes) -> int:
        """Bits a domain stores in addition to those floats (binary masks)."""
        return 0

    def shared_params(self, shapes: Shapes) -> int:
        """Floats stored once for all domains in addition to the backbone."""
        return 0

    def build_joint(self, source: "Network", classes: dict[str, int]) -> "nn.Module":
        """The module that a joint method trains over all domains (name -> number of classes, in order).

        It takes (name, x) and has `networks`, one for each domain, `trunk`, the network that they share, and
        `place(classes)` for one more.
        """
        raise NotImplementedError

    def build_classifier(self, source: "Network", domains: int) -> "nn.Module":
        """The module that maps images (N, 3, H, W) in 0 to 1 to (N, domains) logits, where `classifies_domains`."""
        raise NotImplementedError

    def inference_module(
        self, network: "nn.Module", classifier: "nn.Module", index: int, mean: tuple, std: tuple, size: int
    ) -> "nn.Module":
        """The module that is evaluated for the domain of this index, x normalised by its mean and std.

        It is called where `classifies_domains`. It gives (N, classes + 1) logits, of which the last is the largest
        where the classifier takes the image for one of another domain.
        """
        raise NotImplementedError

    def loss(self, network: "nn.Module", x: "Tensor", y: "Tensor", criterion: "Callable") -> "tuple[Tensor, Tensor]":
        """The scalar training loss and the (N, classes) logits of a batch, x normalised and y (N,) class indices.

        `criterion(logits, y)` is the recipe's cross-entropy.
        """
        logits = network(x)
        return criterion(logits, y), logits

    def skip_reason(self, conv: ConvShape) -> str:
        """Why this convolution is not adapted, such as "3 channels make no two groups"; "" where it is adapted."""
        return ""

    def check(self, shapes: Shapes) -> None:
        """Raises InputError where its options do not fit this backbone; called before anything is trained."""

    def adapted(self, shapes: Shapes) -> list[ConvShape]:
        """The convolutions that the method adapts, in order."""
        return [c for c in shapes.convs if not self.skip_reason(c)]

    def unsupported_reason(self, network: str) -> str:
        """Why it cannot run on the backbone of this name, in one sentence; "" where it can."""
        return ""

    def groups(self, network: "nn.Module", decay: float, images: int) -> list[dict]:
        """Parameter groups of the optimiser: all trained parameters, each group with its weight decay.

        `decay` is the recipe's weight decay, `images` the number of the domain's training images. A group's `scale`
        multiplies the learning rate. A recipe with another decay for batch norms and heads asks a second time, for
        that decay, and splits the groups; so the answer depends on the arguments alone.
        """
        return [{"params": [p for p in network.parameters() if p.requires_grad], "weight_decay": decay}]

    def optimiser(self, groups: list[dict], lr: float, momentum: float, nesterov: bool) -> "Optimizer":
        """The recipe's SGD. The loop sets each group's learning rate at every step; the state must consist of tensors.

        A step can be captured in a CUDA graph if the optimiser is fused or capturable: its learning rates are then
        tensors that the loop fills.
        """
        from visual_decathlon.methods.layers.sgd import SGD

        return SGD(groups, lr, momentum, nesterov=nesterov and momentum > 0, fused=True)

    def after_step(self, network: "nn.Module", step: int, steps: int) -> "Iterable[nn.Parameter] | None":
        """Called after each optimiser step, `step` from 1 to `steps`, to prune ranks or project weights.

        It runs outside of a captured step: it may read values on the host, and gradients are still set. It returns the
        parameters whose coordinates it changed: the optimiser starts anew with them, since a momentum of the old
        coordinates would move them anywhere.
        """
        return None

    def multiplier(self, shapes: Shapes, base: int | None = None, floats: int | None = None) -> float:
        """#par. of the paper: the parameters of all ten domains / base, without heads, a bit counted as 1/32.

        The first domain is the backbone's own, so the own parameters of nine more (`counted_domains`) are added.
        `base` is the count of the plain network where `shapes` belong to a wider one. `floats` are those of one domain,
        where training decides how many it stores; without them it is `floats(shapes)`, the most.
        """
        own = (self.floats(shapes) if floats is None else floats) + self.bits(shapes) / 32
        return (shapes.base + self.shared_params(shapes) + self.counted_domains * own) / (base or shapes.base)

    def _string(self, names: "Iterable[str]") -> str:
        options = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{self.name}({options})" if options else self.name

    @property
    def spec(self) -> str:
        """The string that names the method: its name and the options that differ from their defaults."""
        return self._string(f.name for f in dataclasses.fields(self) if self._differs(f))

    @property
    def with_options(self) -> str:
        """The string with every option, in which a listing shows them."""
        return self._string(f.name for f in dataclasses.fields(self))

    @property
    def full_spec(self) -> str:
        """The string that enters hashes: it has every option, so that a changed default is another method.

        An option of `later_options` is in it only where it differs from its default. A revision above 1 is its last
        word, as in `ssf(revision=2)`.
        """
        fields = (f for f in dataclasses.fields(self) if f.name not in self.later_options or self._differs(f))
        return self._string([f.name for f in fields] + ["revision"] * (self.revision > 1))

    def _differs(self, field: dataclasses.Field) -> bool:
        return getattr(self, field.name) != field.default
