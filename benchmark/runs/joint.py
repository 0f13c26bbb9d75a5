"""Joint training: what a method trains once over all domains; its batches, the training and its file."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from visual_decathlon.benchmark.backbones.build import find_invalid_weights
from visual_decathlon.benchmark.backbones.safetensors_file import read_safetensors, write_safetensors
from visual_decathlon.benchmark.config.specs import JointTraining
from visual_decathlon.benchmark.runtime.device_sharing import Shared, sharing
from visual_decathlon.benchmark.runtime.progress import Report, Watched
from visual_decathlon.benchmark.training import pretrain
from visual_decathlon.benchmark.training.apply_kernels import kernels_applied
from visual_decathlon.benchmark.training.loader import open_images
from visual_decathlon.benchmark.training.train import train
from visual_decathlon.datasets.batches import Batches, CropPlan
from visual_decathlon.datasets.errors import InputError, reason
from visual_decathlon.datasets.static_batches import BatchShape, HostBatches, StaticBatches
from visual_decathlon.methods.layers.network import own_tensors, restore, stored_tensors
from visual_decathlon.methods.registry import select


class InterleavedBatches:
    """Batches of several domains in random order, each from one domain; an epoch has one epoch of every domain."""

    def __init__(self, domains: dict[str, Batches]):
        self.domains = domains
        self.device = next(iter(domains.values())).device
        self.steps = sum(b.steps for b in domains.values())

    def __len__(self) -> int:
        return sum(map(len, self.domains.values()))

    def _names(self, seed: int, epoch: int) -> list[str]:
        """The domain of each batch of an epoch."""
        names = [name for name, batches in self.domains.items() for _ in range(batches.steps)]
        np.random.default_rng([seed, epoch]).shuffle(names)
        return names

    def train(self, seed: int, epoch: int) -> Iterator[tuple[tuple[str, Tensor], Tensor]]:
        """Yield ((name, x), y) of an epoch: x (n, 3, H, W) float32 images and y (n,) labels of domain `name`."""
        running = {name: batches.train(seed, epoch) for name, batches in self.domains.items()}
        for name in self._names(seed, epoch):
            x, y = next(running[name])
            yield (name, x), y

    def static(self) -> StaticBatches:
        """The batches of `train` for a captured step, which reads them from fixed memory."""
        return _InterleavedStatic({name: batches.static() for name, batches in self.domains.items()}, self._names)


class _InterleavedStatic:
    """The static batches of each domain, in the order of `names(seed, epoch)`."""

    def __init__(self, domains: dict[str, StaticBatches], names: Callable[[int, int], list[str]]):
        self._domains, self._names = domains, names

    def epoch(self, seed: int, epoch: int) -> Iterator[BatchShape]:
        """Yield the shape of each batch of an epoch; `take` gives its tensors."""
        running = {name: batches.epoch(seed, epoch) for name, batches in self._domains.items()}
        for name in self._names(seed, epoch):
            shape = next(running[name])
            yield BatchShape(shape.images, (name, shape))

    def take(self, shape: BatchShape) -> tuple[tuple[str, Tensor], Tensor]:
        """The batch ((name, x), y) of this shape."""
        name, own = shape.kind
        x, y = self._domains[name].take(own)
        return (name, x), y


class DomainLabelledBatches:
    """Batches with images of all domains, labelled by their domain.

    An epoch shows about as many images as all domains have; a domain's share of them goes by the square root of its
    number of images, so that neither the largest domain nor the smallest gives way to the others. A domain that has
    fewer images than its share is shown several times, with other crops.
    """

    def __init__(self, domains: dict[str, Batches]):
        self.parts = list(domains.values())
        self.device, self.batch = self.parts[0].device, self.parts[0].batch
        images = np.array([len(part) for part in self.parts])
        self.shown = np.rint(images.sum() * np.sqrt(images) / np.sqrt(images).sum()).astype(np.int64).clip(1)
        self.steps = max(1, round(len(self) / self.batch))

    def __len__(self) -> int:
        return int(self.shown.sum())

    def _plan(self, part: Batches, images: int, seed: int, epoch: int) -> CropPlan:
        """The crops of so many images: as many passes over the part as are needed, the last one in part."""
        passes = -(-images // len(part))
        plans = [part.plan(seed, epoch * passes + i) for i in range(passes)]
        return CropPlan(*(np.concatenate(fields)[:images] for fields in zip(*plans, strict=True)))

    def train(self, seed: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (x, index) of an epoch: x (n, 3, H, W) float32 in 0 to 1, not normalised; index (n,) of the domain."""
        plans = [self._plan(part, int(n), seed, epoch) for part, n in zip(self.parts, self.shown, strict=True)]
        domain = np.repeat(np.arange(len(self.parts)), self.shown)
        place = np.concatenate([np.arange(n) for n in self.shown])  # of each image in its domain's plan
        order = np.random.default_rng([seed, epoch]).permutation(len(self))
        for some in np.array_split(order, self.steps):
            some.sort()
            which, within = domain[some], place[some]
            pixels = []
            for index, part in enumerate(self.parts):
                rows = within[which == index]
                if len(rows):
                    pixels.append(part.pixels(CropPlan(*(field[rows] for field in plans[index]))))
            x = torch.cat(pixels).permute(0, 3, 1, 2).to(torch.float32).div_(255)
            x = x.contiguous(memory_format=self.parts[0].layout)
            yield x, torch.from_numpy(which).to(self.device)

    def static(self) -> StaticBatches:
        """The batches of `train` for a captured step, which reads them from fixed memory."""
        return HostBatches(self.device, self.train)


def train_joint(joint: JointTraining, device: str, report: Report) -> None:
    """Train the shared parameters over all domains and write them to `joint.path`; continues from a checkpoint."""
    with sharing(device) as shared:
        _train(joint, device, shared, report)


def _train(joint: JointTraining, device: str, shared: Shared, report: Report) -> None:
    (method,) = select(joint.method)
    profile, recipe = joint.backbone.profile, joint.backbone.profile.adapt
    choice = pretrain.choice_of(joint.backbone, device)
    opened = partial(open_images, profile=profile, batch=recipe.batch, device=device, layout=choice.memory_format)
    if joint.classifier:  # one image size for all: the size would give the domain away
        cropped = [dataclasses.replace(i, domain=dataclasses.replace(i.domain, crop=True)) for i in joint.images]
        batches = DomainLabelledBatches({i.domain.name: opened(i) for i in cropped})
    else:
        batches = InterleavedBatches({i.domain.name: opened(i) for i in joint.images})
    backbone, module = _build(joint, device)
    checkpoint = joint.checkpoint
    with kernels_applied(choice, module):
        history, clock = train(
            module,
            method,
            Watched(batches, report),
            recipe,
            lr=joint.lr,
            seed=joint.seed,
            state=own_tensors(module, backbone),
            checkpoint=checkpoint,
            precision=profile.precision,
            shared=shared,
            report=report,
        )
    times = {"history": json.dumps(history), "clock": json.dumps(clock.summary())}
    about = {**times, "method": joint.method, "hash": joint.hash}
    write_safetensors(joint.path, stored_tensors(module, backbone), about)
    checkpoint.unlink(missing_ok=True)


def load_joint(joint: JointTraining, device: str) -> tuple[nn.Module, list[dict], dict]:
    """Return the trained module, and the equal share of one domain in its history and step times.

    Raises InputError where the file is damaged.
    """
    backbone, module = _build(joint, device)
    try:
        tensors, about = read_safetensors(joint.path)
        history, clock = json.loads(about["history"]), json.loads(about["clock"])
        shares = [_share(row, len(joint.images)) for row in history]
    except (SafetensorError, OSError, LookupError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{joint.path} is damaged ({reason(error)}); remove it, and it is trained again") from None
    other = "is of another training" if about.get("hash", joint.hash) != joint.hash else ""  # older files have no hash
    if problem := other or restore(module, backbone, tensors) or find_invalid_weights(module):
        raise InputError(f"{joint.path} {problem}; remove it, and it is trained again")
    return module, shares, clock


def _share(row: dict, domains: int) -> dict:
    """An epoch's row with one domain's share of the times."""
    parts = {name: row[name] / domains for name in ("seconds", "cpu_seconds") if row.get(name) is not None}
    return row | parts


def _build(joint: JointTraining, device: str) -> tuple[nn.Module, nn.Module]:
    """The backbone, and the joint module on it with its random start."""
    (method,) = select(joint.method)
    backbone, _ = pretrain.load(joint.backbone, device)
    torch.manual_seed(joint.seed)
    if joint.classifier:
        module = method.build_classifier(backbone, len(joint.images))
    else:
        module = method.build_joint(backbone, {i.domain.name: i.classes for i in joint.images})
    layout = pretrain.choice_of(joint.backbone, device).memory_format
    return backbone, module.to(device=device, memory_format=layout)
