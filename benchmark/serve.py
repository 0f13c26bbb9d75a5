"""Trained domains in use: one shared backbone, and the adapters of any number of domains on it."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import torch
from msgspec import Meta
from torch import Tensor, nn

from benchmark import networks
from benchmark.backbones.shapes import shapes_named, stage_channels
from benchmark.backbones.weights import read_weights
from benchmark.malloc import give_back
from benchmark.profiles import PROFILES, fitting
from datasets.errors import BadInput
from methods.layers.network import Network, merged, own_tensors, restore
from methods.layers.packed import hold_stored
from methods.method import Method
from methods.registry import select

_Hash = Annotated[str, Meta(pattern="^[0-9a-f]{16}$")]  # names a file
_Count = Annotated[int, Meta(ge=1, lt=2**31)]
_Side = Annotated[int, Meta(ge=1, lt=10_000)]
_Three = tuple[float, float, float]
_Positive = Annotated[float, Meta(gt=0)]


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What the file of a domain's adapters says of itself: the metadata of a safetensors file, all of them strings.

    An image is shown as in the evaluation: RGB in 0 to 1, its shorter side resized to `shorter` pixels (bicubic),
    the centre square of `crop` pixels cut out, less `mean` and divided by `std`.
    """

    method: Annotated[str, Meta(max_length=1000)]  # the method string with every option
    backbone: _Hash  # hash of the backbone that it was trained on
    domain: Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]+$")]
    classes: _Count
    mean: _Three  # a JSON list
    std: tuple[_Positive, _Positive, _Positive]  # a JSON list
    crop: _Side
    shorter: _Side
    training: int  # version of the suite's training code
    joint: _Hash | None = None  # hash of the training over all domains; absent where the method has none

    def metadata(self) -> dict[str, str]:
        said = {name: value for name, value in msgspec.structs.asdict(self).items() if value is not None}
        return {name: value if isinstance(value, str) else json.dumps(value) for name, value in said.items()}

    @classmethod
    def of(cls, about: dict[str, str], path: Path) -> "Head":
        """That of a file with these metadata. Raises BadInput where they are no such head."""
        try:
            lists = {name: msgspec.json.decode(about[name]) for name in ("mean", "std") if name in about}
            return msgspec.convert(about | lists, cls, strict=False)  # numbers stand in strings
        except (msgspec.MsgspecError, RecursionError) as error:
            raise BadInput(
                f"{path} is no file of a domain's adapters ({error}); give one that this version wrote to RESULTS="
            ) from None


@dataclass(frozen=True)
class Held:
    """One domain: its network, and the network whose tensors it shares."""

    head: Head
    network: Network
    source: Network

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What it holds beside the shared weights."""
        return own_tensors(self.network, self.source)


class MultiDomain:
    """One frozen backbone with the adapters of several domains, switched by name.

        net = MultiDomain(".cache/backbones/0123456789abcdef.safetensors")
        net.use(net.load("results/runs/adapters/fedcba9876543210.safetensors"))
        logits = net(x)

    A domain takes no more tensors than its file holds (SpotTune's a counter more): packed bits and factors are
    unpacked for every batch. The shared tensors are one storage and never written. Nothing in a file is executed.
    `held` has each domain's `head`, which says how its images are shown. One thread at a time may compute.
    """

    def __init__(self, backbone: Path | str, device: str = "cpu"):
        """Raises BadInput for a file that is no backbone out of this suite's cache, or a damaged one."""
        self.path, self.device = Path(backbone), torch.device(device)
        self.held: dict[str, Held] = {}
        self.name = ""  # of the domain in use
        self._trunks: dict[str, nn.Module] = {}
        tensors, about = read_weights(self.path)
        try:
            says = msgspec.convert(about, _Backbone, strict=False)
            chosen = fitting(dataclasses.replace(PROFILES["standin"], network=says.network, width=says.width))
        except (msgspec.ValidationError, BadInput) as error:
            raise BadInput(
                f"{self.path} is no backbone of this suite ({error}); give one that this version wrote to CACHE="
            ) from None
        self._says, fault = says, _misfit(says, tensors)
        if not fault:
            with self._aside():
                self._shapes = shapes_named(says.network, says.width)
                self.source = networks.build(chosen, says.structure, len(tensors["head.weight"]))
            fault = networks.fit(self.source, tensors) or networks.damage(self.source)
        if fault:
            raise BadInput(f"the backbone {self.path} {fault}; get the file again")
        layout = networks.memory_format(chosen, self.device)
        self.source.to(device=self.device, memory_format=layout).requires_grad_(False).eval()
        give_back()

    def load(self, adapters: Path | str, name: str = "", merge: bool = False) -> str:
        """Hold the domain of this file under its own name, or under `name`; returns that. One held so is replaced.

        With `merge` its adapters are folded into the convolutions: as fast as the bare backbone, at the
        price of convolutions of its own. Raises BadInput for adapters of another backbone, a damaged or
        foreign file, and one that is not what it says.
        """
        path = Path(adapters)
        tensors, about = read_weights(path)
        head = Head.of(about, path)
        if head.backbone != self._says.hash:
            raise BadInput(
                f"{path} holds adapters of the backbone {head.backbone}, and {self.path} is {self._says.hash}; "
                "load each on its own"
            )
        method = self._method(head, tensors, path)
        if merge and not method.mergeable:
            raise BadInput(f"{path}: {method.spec} does not merge; load it without merging")
        with self._aside():  # what `place` draws is overwritten
            if method.alone:
                source = self.source
                source.size = head.crop
                network = method.place(source, head.classes)
            else:
                together = self._together(method, head, path)
                source, network = together.trunk, together.place(head.classes)
        with torch.autocast(self.device.type, enabled=False):  # as in the run that wrote it
            if fault := restore(network, source, tensors) or networks.damage(network):
                raise BadInput(f"{path} {fault}, so it is not what {method.spec} stores; get the file again")
            network.aids = nn.ModuleDict()
            network.eval()  # no more: torch.matmul takes another path, to other bits, where nothing requires gradients
            if merge:
                network = merged(network)
            else:
                hold_stored(network, tensors)
        name = name or head.domain
        self.held[name] = Held(head, network, source)
        give_back()  # what was placed and then replaced by the file: up to ten times that
        return name

    def use(self, name: str) -> None:
        """The domain that is computed from now on. Raises BadInput where none is held under this name."""
        if name not in self.held:
            raise BadInput(f"no domain is held as {name!r} (held: {self._names}); load its adapters first")
        self.name = name

    def drop(self, name: str) -> None:
        """Hold this domain no longer, nor what it alone shared. Raises BadInput where none is held under this name."""
        if name not in self.held:
            raise BadInput(f"no domain is held as {name!r} (held: {self._names}); name one of those")
        del self.held[name]
        if self.name == name:
            self.name = ""
        joint = {held.head.joint for held in self.held.values()}
        self._trunks = {file: trunk for file, trunk in self._trunks.items() if file in joint}
        give_back()

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) images, shown as the domain's head says -> (N, classes) logits of the domain in use."""
        if not self.name:
            raise BadInput(f"no domain is in use (held: {self._names}); choose one with use()")
        return self.held[self.name].network(x.to(self.device))

    @property
    def _names(self) -> str:
        return ", ".join(self.held) or "none"

    def _aside(self):
        """The caller's random numbers stay as they are."""
        return torch.random.fork_rng([self.device] if self.device.type == "cuda" else [])

    def _method(self, head: Head, tensors: dict[str, Tensor], path: Path) -> Method:
        """The method of a file whose tensors may be its; nothing large is made for one whose are not."""
        says, shapes = self._says, dataclasses.replace(self._shapes, size=head.crop)
        try:
            found = select(head.method)
            if len(found) != 1:
                raise BadInput(f"{len(found)} methods are named")
            (method,) = found
            if sentence := method.refusal(says.network):
                raise BadInput(sentence)
            if method.source != says.structure:
                raise BadInput(f"{method.spec} needs a {method.source} backbone, this one is {says.structure}")
            method.check(shapes)
        except BadInput as error:
            told = " ".join(str(error).split())
            raise BadInput(f"{path} cannot be loaded by the method that it names: {told}") from None
        weight = tensors.get("head.weight", torch.empty(0))
        if weight.shape != (head.classes, shapes.dim):
            raise BadInput(
                f"{path} says that it has {head.classes} classes, its head.weight is of shape {tuple(weight.shape)}; "
                "get the file again"
            )
        if method.floats(shapes) + method.bits(shapes) // 8 > sum(t.numel() for t in tensors.values()):
            raise BadInput(f"{path} holds fewer numbers than {method.spec} stores; get the file again")
        return method

    def _together(self, method: Method, head: Head, path: Path) -> nn.Module:
        """The joint training's shared weights, read once for all of its domains."""
        if head.joint is None:
            raise BadInput(
                f"{path} does not say of which joint training it is, as {method.name} needs it; get it again"
            )
        if head.joint not in self._trunks:
            file = self.path.with_name(f"{head.joint}.safetensors")
            if not file.is_file():
                raise BadInput(
                    f"{path} stands on weights that {method.name} trained over all domains; put their file "
                    f"{file.name} beside {self.path}"
                )
            tensors, _ = read_weights(file)
            together = method.together(self.source, {})
            theirs = {name: t for name, t in tensors.items() if name.startswith("trunk.")}
            if fault := restore(together, self.source, theirs) or networks.damage(together):
                raise BadInput(f"{file} {fault}; get the file again")
            self._trunks[head.joint] = together
        return self._trunks[head.joint]


class _Backbone(msgspec.Struct, frozen=True):
    """What the metadata of a backbone's file must say."""

    hash: _Hash
    network: str
    width: float
    structure: Literal["plain", "series"]


def _misfit(says: _Backbone, tensors: dict[str, Tensor]) -> str:
    """What is wrong with the head of a backbone, before a network of its width is built; "" where nothing is."""
    head = tensors.get("head.weight")
    if head is None or head.ndim != 2 or not len(head):
        return "has no head.weight of classes x features"
    if says.network == "resnet26" and head.shape[1] != (dim := stage_channels(says.width)[-1]):
        return f"says width {says.width:g}, which has {dim} features, and its head reads {head.shape[1]}"
    return ""
