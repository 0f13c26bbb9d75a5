"""What every entry of the registry says of itself, and what the training loop asks of it.

An entry is a frozen dataclass: its fields are its options. It is light: whatever needs torch is
imported where it is used, so that listing the methods costs no start-up.
"""

import dataclasses
from typing import TYPE_CHECKING, ClassVar, Literal

from visual_decathlon.methods.shapes import ConvShape, Shapes

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn
    from torch.optim import Optimizer

    from visual_decathlon.methods.layers.network import Network


@dataclasses.dataclass(frozen=True)
class Method:
    """One way to specialise a shared, frozen backbone to a domain."""

    name: ClassVar[str]
    label: ClassVar[str]  # as tables print it
    family: ClassVar[str]
    fidelity: ClassVar[Literal["reproduction", "adaptation", "ours"]]
    paper: ClassVar[str]
    mergeable: ClassVar[bool]  # at inference it is the bare backbone's graph with other weights
    backbone_structure: ClassVar[Literal["plain", "series"]] = "plain"  # the structure its backbone is pretrained in
    lr: ClassVar[float]  # the stand-in profile's peak learning rate, from a sweep on a part of train
    cached_views: ClassVar[int] = 0  # > 0: `split`'s first part is computed once, for so many crops of each image
    has_joint_stage: ClassVar[bool] = False  # `together` is trained once over all domains of a run
    trains_per_domain: ClassVar[bool] = (
        True  # and then each domain by itself; False: its network is a part of that training
    )
    compiles: ClassVar[bool] = True  # its loss calls the network's body, which torch.compile can trace
    captured: ClassVar[bool] = True  # its loss reads no value on the host: a CUDA graph can replay it
    needs_head: ClassVar[bool] = False  # it reads the answers of the head that the backbone was pretrained with
    width_multiplier: ClassVar[float] = 1.0  # its backbone is so many times as wide as the profile's
    start_tolerance: ClassVar[float] = (
        0.0  # of a start that is `near`: largest deviation of a feature, of the largest one
    )

    @property
    def start(self) -> Literal["identity", "near", "other"]:
        """Whether the adapted network computes, before training, what the frozen one does."""
        return "identity"

    def place(self, source: "Network", classes: int) -> "Network":
        """A network for one domain of `classes` classes on the shared `source`, which stays as it is.

        What the method trains requires gradients and is its own storage; all else is the source's.
        """
        raise NotImplementedError

    def split(self, network: "Network") -> "tuple[nn.Module, nn.Module]":
        """What of a placed network is not trained and comes first, and what is trained on its outputs (`views`)."""
        raise NotImplementedError

    def fit(self, network: "Network", read: "Tensor", y: "Tensor") -> "Tensor":
        """Sets in closed form what is not trained, before the loop; returns what the trained part reads (`views`).

        `read` (views, n, ...) are the first part's outputs for n images of classes y (n,), and may be overwritten.
        What it draws comes from the global generator; a resumed run calls it again.
        """
        return read

    def floats(self, shapes: Shapes) -> int:
        """Trained floats a domain stores beside the backbone, head and running statistics not counted."""
        raise NotImplementedError

    def bits(self, shapes: Shapes) -> int:
        """Stored bits beside those floats (binary masks)."""
        return 0

    def shared_params(self, shapes: Shapes) -> int:
        """Floats stored once for all domains beside the backbone."""
        return 0

    def build_joint(self, source: "Network", classes: dict[str, int]) -> "nn.Module":
        """Of a joint method: the module that is trained over all domains, name -> number of classes, in order.

        Where `alone` is False it has `networks`, one a domain, and takes (name, x); else it judges
        images (N, 3, H, W) in 0 to 1 by domain.
        """
        raise NotImplementedError

    def inference_module(
        self, network: "nn.Module", together: "nn.Module", index: int, mean: tuple, std: tuple, size: int
    ) -> "nn.Module":
        """Of a joint method: what is evaluated, for the domain of this index, x normalised by its mean and std."""
        return network

    def loss(self, network: "nn.Module", x: "Tensor", y: "Tensor", criterion: "Callable") -> "tuple[Tensor, Tensor]":
        """Scalar training loss and (N, classes) logits of a batch: x normalised, y (N,) class indices.

        `criterion(logits, y)` is the recipe's cross-entropy.
        """
        logits = network(x)
        return criterion(logits, y), logits

    def skip_reason(self, conv: ConvShape) -> str:
        """Why this convolution is left as it is, such as "3 channels make no two groups"; "" where it is adapted."""
        return ""

    def check(self, shapes: Shapes) -> None:
        """Raises InputError where its options do not fit this backbone: asked before anything is trained."""

    def adapted(self, shapes: Shapes) -> list[ConvShape]:
        """The convolutions that it adapts, in order."""
        return [c for c in shapes.convs if not self.skip_reason(c)]

    def unsupported_reason(self, network: str) -> str:
        """Why it cannot run on the backbone of this name, in one sentence; "" where it can."""
        return ""

    def groups(self, network: "nn.Module", decay: float, images: int) -> list[dict]:
        """Parameter groups of the optimiser: what is trained, each with its weight decay.

        `decay` is the recipe's, `images` the domain's number of training images. A group's `scale`
        multiplies the rate.
        """
        return [{"params": [p for p in network.parameters() if p.requires_grad], "weight_decay": decay}]

    def optimiser(self, groups: list[dict], lr: float, momentum: float, nesterov: bool) -> "Optimizer":
        """SGD as the recipe has it. The loop sets each group's rate at every step; state must be tensors.

        A step with a fused or capturable one can be captured: its rates are then tensors that the loop fills.
        """
        from visual_decathlon.methods.layers.sgd import SGD

        return SGD(groups, lr, momentum, nesterov=nesterov and momentum > 0, fused=True)

    def after_step(self, network: "nn.Module", step: int, steps: int) -> None:
        """Called after each optimiser step, `step` from 1 to `steps`: ranks are pruned, weights projected.

        Outside of a captured step: it may read values on the host, and finds each gradient in place.
        """

    def multiplier(self, shapes: Shapes, base: int | None = None) -> float:
        """#par. of the paper: all ten domains' parameters / base, heads not counted, a bit counted as 1/32.

        The first domain is the backbone's own, so (backbone + 9 domains' own parameters) / base; `base` is
        the plain network's where `shapes` are a wider one's.
        """
        own = self.floats(shapes) + self.bits(shapes) / 32
        return (shapes.base + self.shared_params(shapes) + 9 * own) / (base or shapes.base)

    def _string(self, fields) -> str:
        options = ", ".join(f"{field.name}={getattr(self, field.name)!r}" for field in fields)
        return f"{self.name}({options})" if options else self.name

    @property
    def spec(self) -> str:
        """The string that names it: options that differ from their defaults."""
        return self._string(f for f in dataclasses.fields(self) if getattr(self, f.name) != f.default)

    @property
    def full_spec(self) -> str:
        """The string that enters hashes: every option, so that a changed default is another method."""
        return self._string(dataclasses.fields(self))
