"""Trains on random pixels of the official numbers and sizes, and estimates the time of a whole run."""

import dataclasses
import gc
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from visual_decathlon.benchmark.backbones.build import build
from visual_decathlon.benchmark.config.kernels import KernelChoice
from visual_decathlon.benchmark.config.profiles import Profile
from visual_decathlon.benchmark.perf.network import inference_module
from visual_decathlon.benchmark.runtime import devices
from visual_decathlon.benchmark.runtime.numerics import configure_torch
from visual_decathlon.benchmark.training.apply_kernels import kernels_applied
from visual_decathlon.benchmark.training.evaluate import evaluate
from visual_decathlon.benchmark.training.kernel_choice import default_kernels
from visual_decathlon.benchmark.training.train import train
from visual_decathlon.datasets.batches import Batches, whole_pack
from visual_decathlon.datasets.catalogue import BACKBONE_DOMAIN, DOMAINS, Domain
from visual_decathlon.methods.layers.network import own_tensors
from visual_decathlon.methods.method import Method

NINE = [domain for name, domain in DOMAINS.items() if name != BACKBONE_DOMAIN]
_POOL = 64  # different images of a synthetic pack
_LONGER = 86 / 72  # the longer side over the shorter one: the official images' mean


class DrawnPack:
    """Replaces a Pack of `n` images: a few random ones, repeated.

    `shorter` is their shorter side in pixels.
    """

    def __init__(self, n: int, classes: int, shorter: int = 72):
        rng = np.random.default_rng(0)
        size = (shorter, round(shorter * _LONGER))
        self.ids, self.labels = np.arange(n), rng.integers(classes, size=n)
        self.sizes = np.tile(size, (n, 1))
        self._pixels = rng.integers(256, size=(_POOL, *size, 3), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self.ids)

    def images(self, index: np.ndarray) -> Iterator[np.ndarray]:
        """(H, W, 3) uint8, as a Pack gives them."""
        return (self._pixels[i % _POOL] for i in index.tolist())


@dataclasses.dataclass(frozen=True)
class Trained:
    """A finished training. `walls` are wall seconds of each epoch; the first includes everything before it."""

    network: nn.Module
    state: dict[str, torch.Tensor]
    history: list[dict]
    images: int  # in an epoch
    walls: list[float]

    def speeds(self) -> list[float]:
        """Images per second of every epoch but the first, in which kernels are chosen, captured or compiled."""
        return [self.images / row["seconds"] for row in self.history[1:]]

    def start(self) -> float:
        """Seconds by which the first epoch was longer than a steady one: preparation and the first step."""
        return max(0.0, self.walls[0] - sorted(self.walls[1:])[len(self.walls[1:]) // 2])


def drawn(
    domain: Domain,
    images: int,
    profile: Profile,
    device: str,
    batch: int,
    layout: torch.memory_format = torch.channels_last,
) -> Batches:
    """Batches of `images` random images of a domain, cropped and resized as in the profile."""
    uncropped = profile.uncropped_size > 0 and not domain.crop
    pack = DrawnPack(images, domain.classes, profile.resize)
    crop = profile.uncropped_size if uncropped else profile.crop
    return Batches([whole_pack(pack)], domain, crop, batch, random=not uncropped, device=device, layout=layout)


def train_drawn(
    method: Method | None,
    domain: Domain,
    images: int,
    profile: Profile,
    device: str,
    *,
    epochs: int = 2,
    graphs: bool | None = None,
    choice: KernelChoice | None = None,
) -> Trained:
    """Train a method on `images` random images of a domain for a few epochs; None pretrains the backbone.

    Loop, batches and initial weights are those of a run. `graphs` is passed to the loop; `choice` has the layout and
    the norm, the usual ones where it is None. Two calls start from the same weights and show the same images.
    """
    choice = choice or default_kernels(profile.network, device)
    free(device)
    marks = [time.perf_counter()]
    configure_torch(profile, device)
    recipe = dataclasses.replace(profile.adapt if method else profile.pretrain, epochs=epochs)
    batches = drawn(domain, images, profile, device, recipe.batch, choice.memory_format)
    torch.manual_seed(0)
    network = build(profile, method.backbone_structure if method else "plain", domain.classes)
    network.to(device=device, memory_format=choice.memory_format)
    state = dict(network.state_dict(keep_vars=True))
    if method:
        source = network.requires_grad_(False).eval().for_size(batches.crop)
        network = method.place(source, domain.classes)
        state = own_tensors(network, source)
    with tempfile.TemporaryDirectory() as folder, kernels_applied(choice, network):
        history, _ = train(
            network,
            method or Method(),
            batches,
            recipe,
            lr=1e-3,
            seed=0,
            state=state,
            checkpoint=Path(folder, "checkpoint"),
            precision=profile.precision,
            compile=profile.compile,
            graphs=graphs,
            report=lambda row: marks.append(time.perf_counter()),
        )
    return Trained(network, state, history, images, np.diff(marks).tolist())


def run_seconds(
    method: Method, domain: Domain, profile: Profile, device: str, choice: KernelChoice, share: float = 1.0
) -> float:
    """Estimated seconds of a run on this domain: the first epoch, the steady ones at the second's pace, the evaluation.

    `share` is the fraction of the official number of images. Reading packs and writing the record and the adapters
    are not included.
    """
    images, tested = (max(2, round(share * count)) for count in domain.counts[:2])
    trained = train_drawn(method, domain, images, profile, device, choice=choice)
    begin = time.perf_counter()
    network = inference_module(trained.network) if method.mergeable else trained.network
    shown = drawn(domain, tested, profile, device, profile.adapt.batch, choice.memory_format)
    evaluate(network, shown, profile.precision)
    return trained.walls[0] + (profile.adapt.epochs - 1) * trained.walls[1] + time.perf_counter() - begin


def free(device: str) -> None:
    """Free GPU memory that earlier trainings of this process left, so that the next peak is measured from zero."""
    gc.collect()
    devices.free_cached(device)
    devices.reset_peak(device)
