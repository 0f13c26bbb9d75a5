"""Trained domains in use: one shared backbone, and the adapters of any number of domains on it."""

import contextlib
import dataclasses
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import torch
from torch import Tensor, nn

from visual_decathlon.benchmark.backbones.build import build, find_invalid_weights, load_strict
from visual_decathlon.benchmark.backbones.shapes import shapes_named, stage_channels
from visual_decathlon.benchmark.backbones.weights import read_weights
from visual_decathlon.benchmark.config.identity import network_digest, trunk_digest
from visual_decathlon.benchmark.config.profiles import PROFILES, fitting
from visual_decathlon.benchmark.runtime.devices import keeping_random_numbers
from visual_decathlon.benchmark.runtime.memory import give_back
from visual_decathlon.benchmark.serving.inputs import check_batch, check_size, device_of
from visual_decathlon.benchmark.serving.metadata import AdapterMetadata, Hash
from visual_decathlon.benchmark.serving.predict import Prediction, predictions
from visual_decathlon.benchmark.training.kernel_choice import default_kernels
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.datasets.in_hand import InHand, several
from visual_decathlon.methods.layers.network import Network, merged, own_tensors, restore
from visual_decathlon.methods.layers.packed import hold_stored
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import select

_OTHERS = "was trained on other weights than {} holds, which were made by the same recipe on another machine or anew"
_LOADING = threading.RLock()
"""One network is placed at a time: what is drawn for it comes out of the process's one generator."""


class _Choice(threading.local):
    """The domain that each thread chose; None where it chose none."""

    name: str | None = None

    def __reduce__(self):  # nothing is chosen of a copy
        return _Choice, ()


@dataclass(frozen=True)
class LoadedDomain:
    """One domain: its network, and the network whose tensors it shares."""

    head: AdapterMetadata
    network: Network
    source: Network

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What it holds beside the shared weights."""
        return own_tensors(self.network, self.source)


class MultiDomain:
    """One frozen backbone with the adapters of several domains, switched by name.

        net = MultiDomain(".cache/backbones/0123456789abcdef.safetensors")
        name = net.load("results/runs/adapters/fedcba9876543210.safetensors")
        print(net.predict("a picture.jpg", name).name)
        logits = net(x, name)

    A domain takes no more tensors than its file holds (SpotTune's a counter more): packed bits and factors are
    unpacked for every batch. The shared tensors are one storage and never written. Nothing in a file is executed.
    `held` has each domain's `head`, which says how its images are shown.

    Threads may share it: each call computes on one domain from beginning to end, whatever others load, use or drop
    meanwhile, and `use` chooses for the thread that calls it. Only random numbers that other threads draw from torch's
    default generator while a file is loaded may come twice.
    """

    def __init__(self, backbone: Path | str, device: str = "cpu"):
        """Raises InputError for a file that is no backbone out of this suite's cache, a damaged one, and no device."""
        self.path, self.device = Path(backbone), device_of(device)
        self.held: dict[str, LoadedDomain] = {}
        self._used, self._last = _Choice(), ""
        self._trunks: dict[str, tuple[nn.Module, str]] = {}
        tensors, about = read_weights(self.path)
        try:
            says = msgspec.convert(about, _Backbone, strict=False)
            chosen = fitting(dataclasses.replace(PROFILES["standin"], network=says.network, width=says.width))
        except (msgspec.ValidationError, InputError) as error:
            raise InputError(
                f"{self.path} is no backbone of this suite ({error}); give one that this version wrote to CACHE="
            ) from None
        self._says, fault = says, _misfit(says, tensors)
        self._weights = network_digest(tensors)
        if not fault:
            with _LOADING, self._aside():
                self._shapes = shapes_named(says.network, says.width)
                self.source = build(chosen, says.structure, len(tensors["head.weight"]))
            fault = load_strict(self.source, tensors) or find_invalid_weights(self.source)
        if fault:
            raise InputError(f"the backbone {self.path} {fault}; get the file again")
        self.layout = default_kernels(chosen.network, str(self.device)).memory_format
        self.source.to(device=self.device, memory_format=self.layout).requires_grad_(False).eval()
        give_back()

    def load(self, adapters: Path | str, name: str = "", merge: bool = False) -> str:
        """Hold the domain of this file under its own name, or under `name`; returns that. One held so is replaced.

        With `merge` its adapters are folded into the convolutions: as fast as the bare backbone, at the
        price of convolutions of its own. Raises InputError for adapters of another backbone, a damaged or
        foreign file, and one that is not what it says.
        """
        path = Path(adapters)
        tensors, about = read_weights(path)
        head = AdapterMetadata.of(about, path)
        with _LOADING:
            held = self._placed(head, tensors, path, merge)
            name = name or head.domain
            self.held[name] = held
        give_back()  # what was placed and then replaced by the file: up to ten times that
        return name

    def _placed(self, head: AdapterMetadata, tensors: dict[str, Tensor], path: Path, merge: bool) -> LoadedDomain:
        if head.backbone != self._says.hash:
            raise InputError(
                f"{path} holds adapters of the backbone {head.backbone}, and {self.path} is {self._says.hash}; "
                "load each on its own"
            )
        if head.weights not in (None, self._weights):
            raise InputError(f"{path} {_OTHERS.format(self.path)}; give the file from where it was trained")
        method = self._method(head, tensors, path)
        if merge and not method.mergeable:
            raise InputError(f"{path}: {method.spec} does not merge; load it without merging")
        with self._aside():  # what `place` draws is overwritten
            if method.trains_per_domain:
                source = self.source
                source.size = head.crop
                network = method.place(source, head.classes)
            else:
                together = self._together(method, head, path)
                source, network = together.trunk, together.place(head.classes)
        with torch.autocast(self.device.type, enabled=False):  # as in the run that wrote it
            if fault := restore(network, source, tensors) or find_invalid_weights(network):
                raise InputError(f"{path} {fault}, so it is not what {method.spec} stores; get the file again")
            network.aids = nn.ModuleDict()
            network.eval()  # no more: torch.matmul takes another path, to other bits, where nothing requires gradients
            if merge:
                network = merged(network)
            else:
                hold_stored(network, tensors)
        return LoadedDomain(head, network, source)

    @property
    def name(self) -> str:
        """The domain in use: what this thread chose last, or where it chose none what any thread did; "" for none."""
        name = self._last if self._used.name is None else self._used.name
        return name if name in self.held else ""

    def use(self, name: str) -> None:
        """The domain that is computed from now on. Raises InputError where none is held under this name."""
        self._held(name)
        self._used.name = self._last = name

    def drop(self, name: str) -> None:
        """Release this domain and what it alone shared. Raises InputError where none of this name is loaded."""
        with _LOADING:
            self._held(name, "name one of those")
            del self.held[name]
            if self._used.name == name:
                self._used.name = ""
            if self._last == name:
                self._last = ""
            joint = {held.head.joint for held in self.held.values()}
            self._trunks = {file: trunk for file, trunk in self._trunks.items() if file in joint}
        give_back()

    def classes(self, name: str = "") -> tuple[str, ...] | None:
        """The class names of this domain, or of the one in use, in the order of the logits; None in older files."""
        return self._held(name or self._in_use()).head.names

    def predict(self, images: InHand | Iterable[InHand], name: str = "") -> Prediction | list[Prediction]:
        """What the domain of this name, or the one in use, takes an image for, or each of several.

        An image is a path, an image file's bytes or an open one, a PIL image, an array or a tensor, see
        `datasets.in_hand.rgb`; several are an iterable of those, or an array or a tensor of four dimensions. Each is
        resized, cropped and normalised as the run's evaluation did it, and computed in fp32 where the caller does not
        compute under autocast. A judge of domains is not asked: the caller names the domain. Raises InputError for what
        is no image.
        """
        held = self._held(name or self._in_use())
        found = several(images)
        out = predictions(held.network, [images] if found is None else found, held.head, self.device, self.layout)
        return out[0] if found is None else out

    @torch.no_grad()
    def __call__(self, x: Tensor, name: str = "") -> Tensor:
        """(N, 3, H, W) float32 images, shown as the domain's head says -> (N, classes) logits.

        Of the domain of this name, or the one in use. Raises InputError where there is none, or x is no such batch.
        """
        held = self._held(name or self._in_use())
        check_batch(x, held.head.crop, self.device)
        try:
            return held.network(x.to(self.device))
        except RuntimeError as error:
            check_size(x, held.head.crop, error)
            raise

    def _held(self, name: str, mend: str = "load its adapters first") -> LoadedDomain:
        try:
            return self.held[name]  # read once: another thread may drop or replace it
        except KeyError:
            raise InputError(f"no domain is held as {name!r} (held: {self._names}); {mend}") from None

    def _in_use(self) -> str:
        if not (name := self.name):
            raise InputError(f"no domain is in use (held: {self._names}); choose one with use()")
        return name

    @property
    def _names(self) -> str:
        return ", ".join([*self.held]) or "none"

    @contextlib.contextmanager
    def _aside(self) -> Iterator[None]:
        """Numbers as a run has them whatever torch's defaults are, and the caller's random numbers stay as they are."""
        default = torch.get_default_dtype()
        with keeping_random_numbers(self.device), self.device:
            torch.set_default_dtype(torch.float32)
            try:
                yield
            finally:
                torch.set_default_dtype(default)

    def _method(self, head: AdapterMetadata, tensors: dict[str, Tensor], path: Path) -> Method:
        """The method of a file whose tensors may be its; nothing large is made for one whose are not."""
        says, shapes = self._says, dataclasses.replace(self._shapes, size=head.crop)
        try:
            found = select(head.method)
            if len(found) != 1:
                raise InputError(f"{len(found)} methods are named")
            (method,) = found
            if sentence := method.unsupported_reason(says.network):
                raise InputError(sentence)
            if method.backbone_structure != says.structure:
                raise InputError(
                    f"{method.spec} needs a {method.backbone_structure} backbone, this one is {says.structure}"
                )
            method.check(shapes)
        except InputError as error:
            told = " ".join(str(error).split())
            raise InputError(f"{path} cannot be loaded by the method that it names: {told}") from None
        weight = tensors.get("head.weight", torch.empty(0))
        if weight.shape != (head.classes, shapes.dim):
            raise InputError(
                f"{path} says that it has {head.classes} classes, its head.weight is of shape {tuple(weight.shape)}; "
                "get the file again"
            )
        if method.floats(shapes) + method.bits(shapes) // 8 > sum(t.numel() for t in tensors.values()):
            raise InputError(f"{path} holds fewer numbers than {method.spec} stores; get the file again")
        return method

    def _together(self, method: Method, head: AdapterMetadata, path: Path) -> nn.Module:
        """The joint training's shared weights, read once for all of its domains."""
        if head.joint is None:
            raise InputError(
                f"{path} does not say of which joint training it is, as {method.name} needs it; get it again"
            )
        file = self.path.with_name(f"{head.joint}.safetensors")
        if head.joint not in self._trunks:
            if not file.is_file():
                raise InputError(
                    f"{path} stands on weights that {method.name} trained over all domains; put their file "
                    f"{file.name} beside {self.path}"
                )
            tensors, _ = read_weights(file)
            theirs = {name: t for name, t in tensors.items() if name.startswith("trunk.")}
            together = method.build_joint(self.source, {})
            if fault := restore(together, self.source, theirs) or find_invalid_weights(together):
                raise InputError(f"{file} {fault}; get the file again")
            self._trunks[head.joint] = together, trunk_digest(theirs)
        together, weights = self._trunks[head.joint]
        if head.joint_weights not in (None, weights):
            raise InputError(f"{path} {_OTHERS.format(file)}; give the file from where it was trained")
        return together


class _Backbone(msgspec.Struct, frozen=True):
    """What the metadata of a backbone's file must say."""

    hash: Hash
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
