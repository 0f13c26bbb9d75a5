"""Serves trained domains: one shared backbone with the adapters of any number of domains on it."""

import contextlib
import dataclasses
import threading
import weakref
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
from visual_decathlon.benchmark.config.profiles import PROFILES, checked
from visual_decathlon.benchmark.runtime.devices import keeping_random_numbers
from visual_decathlon.benchmark.runtime.memory import give_back
from visual_decathlon.benchmark.serving.inputs import check_batch, check_size, parse_device
from visual_decathlon.benchmark.serving.metadata import AdapterMetadata, Hash
from visual_decathlon.benchmark.serving.predict import Prediction, predict_images
from visual_decathlon.benchmark.training.kernel_choice import default_kernels
from visual_decathlon.datasets.errors import InputError, option
from visual_decathlon.datasets.user_images import UserImage, list_images
from visual_decathlon.methods.layers.network import Network, merge_for_inference, own_tensors, restore
from visual_decathlon.methods.layers.packed import hold_stored
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import select

_OTHER_WEIGHTS = (
    "was trained on other weights than {} holds, which were made by the same recipe on another machine or anew"
)
_LOADING = threading.RLock()
"""Only one network is placed at a time, because its random start comes from the one generator of the process."""


class _ThreadChoice(threading.local):
    """The name of the domain that each thread chose; None where a thread chose none."""

    name: str | None = None

    def __reduce__(self):  # in a copy nothing is chosen
        return _ThreadChoice, ()


class _Made(weakref.WeakValueDictionary):
    """Tensors that the methods of loaded domains computed, until the last of these domains is dropped."""

    def __reduce__(self):  # a copy has tensors of its own
        return _Made, ()

    def __deepcopy__(self, memo):
        return _Made()


@dataclass(frozen=True)
class LoadedDomain:
    """One loaded domain: `metadata` is that of its file, `source` the network whose tensors `network` shares."""

    metadata: AdapterMetadata
    network: Network
    source: Network

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors of the domain itself, without the shared ones."""
        return own_tensors(self.network, self.source)


class MultiDomain:
    """One frozen backbone with the adapters of several domains, switched by name.

        net = MultiDomain(".cache/backbones/0123456789abcdef.safetensors")
        name = net.load("results/runs/adapters/fedcba9876543210.safetensors")
        print(net.predict("a picture.jpg", name).name)
        logits = net(x, name)

    A domain keeps no more tensors than its file holds (and 8 bytes for each counter of noise that its method draws in
    training): packed bits and factors are unpacked for every batch. What a method computes again from a seed or from
    the shared weights, as VeRA's random matrices, is held too, once for all domains of this method with these options.
    Shared tensors exist once and are never written. Nothing in a file is executed.
    `held` has the loaded domains by name; the `metadata` of each states how its images are preprocessed.

    Threads may share one object: each call computes on one domain from beginning to end, even if other threads load,
    use or drop domains meanwhile, and `use` chooses for the calling thread. One exception: random numbers that other
    threads draw from torch's default generator while a file is loaded may occur twice.
    """

    def __init__(self, backbone: Path | str, device: str = "cpu"):
        """Load a backbone out of the suite's cache.

        Raises InputError for any other file, for a damaged file, and for a device that torch does not see.
        """
        self.path, self.device = Path(backbone), parse_device(device)
        self.held: dict[str, LoadedDomain] = {}
        self._used, self._last = _ThreadChoice(), ""
        self._trunks: dict[str, tuple[nn.Module, str]] = {}
        self._made = _Made()  # (method, path, name, shape) -> tensor
        tensors, metadata = read_weights(self.path)
        try:
            stated = msgspec.convert(metadata, _BackboneMetadata, strict=False)
            chosen = checked(dataclasses.replace(PROFILES["standin"], network=stated.network, width=stated.width))
        except (msgspec.ValidationError, InputError) as error:
            raise InputError(
                f"{self.path} is no backbone of this suite ({error}); give one that this version wrote to "
                f"{option('cache')}"
            ) from None
        self._stated, problem = stated, _head_problem(stated, tensors)
        self._weights = network_digest(tensors)
        if not problem:
            with _LOADING, self._isolated():
                self._shapes = shapes_named(stated.network, stated.width)
                self.source = build(chosen, stated.structure, len(tensors["head.weight"]))
            problem = load_strict(self.source, tensors) or find_invalid_weights(self.source)
        if problem:
            raise InputError(f"the backbone {self.path} {problem}; get the file again")
        self.layout = default_kernels(chosen.network, str(self.device)).memory_format
        self.source.to(device=self.device, memory_format=self.layout).requires_grad_(False).eval()
        give_back()

    def load(self, adapters: Path | str, name: str = "", merge: bool = False) -> str:
        """Load the domain of this file under its own name, or under `name`; returns that name.

        A domain that was loaded under this name is replaced. With `merge` the adapters are merged into the
        convolutions: as fast as the backbone alone, but with convolutions of its own in memory. Raises InputError for
        adapters of another backbone, for a damaged or foreign file, and for one that contradicts its metadata.
        """
        path = Path(adapters)
        tensors, about = read_weights(path)
        metadata = AdapterMetadata.parse(about, path)
        with _LOADING:
            loaded = self._place(metadata, tensors, path, merge)
            name = name or metadata.domain
            self.held[name] = loaded
        give_back()  # the random start that the file replaced: up to ten times the memory of the file
        return name

    def _place(self, metadata: AdapterMetadata, tensors: dict[str, Tensor], path: Path, merge: bool) -> LoadedDomain:
        """The domain's network with the tensors of its file. Raises InputError where these do not fit."""
        if metadata.backbone != self._stated.hash:
            raise InputError(
                f"{path} holds adapters of the backbone {metadata.backbone}, and {self.path} is {self._stated.hash}; "
                "load each on its own"
            )
        if metadata.weights not in (None, self._weights):
            raise InputError(f"{path} {_OTHER_WEIGHTS.format(self.path)}; give the file from where it was trained")
        method = self._method(metadata, tensors, path)
        if metadata.joint is not None and not (method.has_joint_stage or method.joint_method):
            raise InputError(f"{path} says that it is of a joint training, and {method.spec} has none; get it again")
        if merge and not method.mergeable:
            raise InputError(f"{path}: {method.spec} does not merge; load it without merging")
        with self._isolated():  # the random start of `place` is overwritten
            if method.trains_per_domain:
                source = self.source.for_size(metadata.crop)
                network = method.place(source, metadata.classes)
            else:
                joint_module = self._joint_module(method, metadata, path)
                source, network = joint_module.trunk, joint_module.place(metadata.classes)
        with torch.autocast(self.device.type, enabled=False):  # as in the run that wrote it
            if problem := restore(network, source, tensors) or find_invalid_weights(network):
                raise InputError(f"{path} {problem}, so it is not what {method.spec} stores; get the file again")
            network.aids = nn.ModuleDict()
            network.eval()  # keep requires_grad: without gradients torch.matmul takes another path, with other bits
            if merge:
                network = merge_for_inference(network)
            else:
                self._share_made(network, method.full_spec)
                hold_stored(network, tensors)
        return LoadedDomain(metadata, network, source)

    def _share_made(self, network: Network, spec: str) -> None:
        """Replaces what the method computed and no file stores by equal tensors of a loaded domain of this method."""
        for path, module in network.named_modules():
            for name in module._non_persistent_buffers_set & module._buffers.keys():
                if (mine := module._buffers[name]) is None:
                    continue
                made = self._made.setdefault((spec, path, name, mine.shape), mine)
                if torch.equal(made, mine):
                    module._buffers[name] = made

    @property
    def name(self) -> str:
        """The domain in use: the last choice of this thread, else the last choice of any thread; "" for none."""
        name = self._last if self._used.name is None else self._used.name
        return name if name in self.held else ""

    def use(self, name: str) -> None:
        """Choose the domain for the next calls. Raises InputError where no domain is loaded under this name."""
        self._held(name)
        self._used.name = self._last = name

    def drop(self, name: str) -> None:
        """Release this domain, and shared weights that no other domain uses. Raises InputError for an unknown name."""
        with _LOADING:
            self._held(name, "name one of those")
            del self.held[name]
            if self._used.name == name:
                self._used.name = ""
            if self._last == name:
                self._last = ""
            joint = {loaded.metadata.joint for loaded in self.held.values()}
            self._trunks = {file: trunk for file, trunk in self._trunks.items() if file in joint}
        give_back()

    def classes(self, name: str = "") -> tuple[str, ...] | None:
        """The class names of this domain, or of the one in use, in the order of the logits; None for older files."""
        return self._held(name or self._in_use()).metadata.names

    def predict(self, images: UserImage | Iterable[UserImage], name: str = "") -> Prediction | list[Prediction]:
        """Classify one image, or each of several, by the domain of this name or the one in use.

        An image is a path, the bytes of an image file or an open file, a PIL image, an array or a tensor, see
        `datasets.user_images.rgb`; several images are an iterable of those, or an array or a tensor of four dimensions.
        Each is resized, cropped and normalised as in the run's evaluation, and computed in fp32 unless the caller
        computes under autocast. A domain classifier is not used, because the caller names the domain. Raises InputError
        for anything that is no image.
        """
        loaded = self._held(name or self._in_use())
        batch = list_images(images)
        one = batch is None
        out = predict_images(loaded.network, [images] if one else batch, loaded.metadata, self.device, self.layout)
        return out[0] if one else out

    @torch.no_grad()
    def __call__(self, x: Tensor, name: str = "") -> Tensor:
        """Compute (N, classes) logits of (N, 3, H, W) float32 images, preprocessed as the domain's `head` states.

        By the domain of this name, or the one in use. Raises InputError where there is none, or x is no such batch.
        """
        loaded = self._held(name or self._in_use())
        check_batch(x, loaded.metadata.crop, self.device)
        try:
            return loaded.network(x.to(self.device))
        except RuntimeError as error:
            check_size(x, loaded.metadata.crop, error)
            raise

    def _held(self, name: str, remedy: str = "load its adapters first") -> LoadedDomain:
        try:
            return self.held[name]  # read once: another thread may drop or replace it
        except KeyError:
            raise InputError(f"no domain is loaded as {name!r} (loaded: {self._names}); {remedy}") from None

    def _in_use(self) -> str:
        if not (name := self.name):
            raise InputError(f"no domain is in use (loaded: {self._names}); choose one with use()")
        return name

    @property
    def _names(self) -> str:
        return ", ".join([*self.held]) or "none"

    @contextlib.contextmanager
    def _isolated(self) -> Iterator[None]:
        """Compute with dtype and device of a run, whatever torch's defaults are; keep the caller's random numbers."""
        default = torch.get_default_dtype()
        with keeping_random_numbers(self.device), self.device:
            torch.set_default_dtype(torch.float32)
            try:
                yield
            finally:
                torch.set_default_dtype(default)

    def _method(self, metadata: AdapterMetadata, tensors: dict[str, Tensor], path: Path) -> Method:
        """The method of a file, after checks on its tensors: for a file of other tensors nothing large is allocated."""
        stated, shapes = self._stated, dataclasses.replace(self._shapes, size=metadata.crop)
        try:
            methods = select(metadata.method)
            if len(methods) != 1:
                raise InputError(f"{len(methods)} methods are named")
            (method,) = methods
            if sentence := method.unsupported_reason(stated.network):
                raise InputError(sentence)
            if method.backbone_structure != stated.structure:
                raise InputError(
                    f"{method.spec} needs a {method.backbone_structure} backbone, this one is {stated.structure}"
                )
            method.check(shapes)
        except InputError as error:
            sentence = " ".join(str(error).split())
            raise InputError(f"{path} cannot be loaded by the method that it names: {sentence}") from None
        weight = tensors.get("head.weight", torch.empty(0))
        if weight.shape != (metadata.classes, shapes.dim):
            raise InputError(
                f"{path} says that it has {metadata.classes} classes, its head.weight is of shape "
                f"{tuple(weight.shape)}; get the file again"
            )
        if method.least_floats(shapes) + method.bits(shapes) // 8 > sum(t.numel() for t in tensors.values()):
            raise InputError(f"{path} holds fewer numbers than {method.spec} stores; get the file again")
        return method

    def _joint_module(self, method: Method, metadata: AdapterMetadata, path: Path) -> nn.Module:
        """The shared weights of a joint training, read once for all of its domains."""
        joint = metadata.joint
        if joint is None:
            raise InputError(
                f"{path} does not say of which joint training it is, as {method.name} needs it; get it again"
            )
        file = self.path.with_name(f"{joint}.safetensors")
        if joint not in self._trunks:
            if not file.is_file():
                raise InputError(
                    f"{path} needs weights that {method.name} trained over all domains; put their file "
                    f"{file.name} next to {self.path}"
                )
            tensors, _ = read_weights(file)
            trunk = {name: t for name, t in tensors.items() if name.startswith("trunk.")}
            module = method.build_joint(self.source, {})
            if problem := restore(module, self.source, trunk) or find_invalid_weights(module):
                raise InputError(f"{file} {problem}; get the file again")
            self._trunks[joint] = module, trunk_digest(trunk)
        module, weights = self._trunks[joint]
        if metadata.joint_weights not in (None, weights):
            raise InputError(f"{path} {_OTHER_WEIGHTS.format(file)}; give the file from where it was trained")
        return module


class _BackboneMetadata(msgspec.Struct, frozen=True):
    """The metadata that a backbone's file must have."""

    hash: Hash
    network: str
    width: float
    structure: Literal["plain", "series"]


def _head_problem(stated: _BackboneMetadata, tensors: dict[str, Tensor]) -> str:
    """A problem of a backbone's head, before a network of its width is built; "" where there is none."""
    head = tensors.get("head.weight")
    if head is None or head.ndim != 2 or not len(head):
        return "has no head.weight of classes x features"
    if stated.network == "resnet26" and head.shape[1] != (dim := stage_channels(stated.width)[-1]):
        return f"says width {stated.width:g}, which has {dim} features, and its head reads {head.shape[1]}"
    return ""
