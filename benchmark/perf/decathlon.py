"""The decathlon at the paper's sizes on drawn pixels: seconds of a steady epoch, as a run trains it."""

import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmark.networks import build
from benchmark.numerics import settle
from benchmark.profiles import PROFILES
from benchmark.train import train
from benchmark.training.choice import usual
from datasets.batches import Batches, everything
from datasets.catalogue import DOMAINS, SOURCE, Domain
from methods.layers.network import own_tensors
from methods.method import Method

NINE = [domain for name, domain in DOMAINS.items() if name != SOURCE]
PRETRAINING = 50_000  # drawn images, of imagenet12's 1.2 million: an epoch of them is steady after the first
_POOL, _SIZE = 64, (72, 86)  # different images; the official ones' mean size


class DrawnPack:
    """Stands in for a Pack of `n` images: a few drawn ones, over and over."""

    def __init__(self, n: int, classes: int):
        rng = np.random.default_rng(0)
        self.ids, self.labels = np.arange(n), rng.integers(classes, size=n)
        self.sizes = np.tile(_SIZE, (n, 1))
        self._pixels = rng.integers(256, size=(_POOL, *_SIZE, 3), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self.ids)

    def images(self, index: np.ndarray) -> Iterator[np.ndarray]:
        return (self._pixels[i % _POOL] for i in index.tolist())


def epoch(
    method: Method | None,
    domain: Domain,
    images: int,
    device: str,
    precision: str,
    compile: bool = False,
    width: float = 1.0,
) -> float:
    """Seconds of a method's second epoch on so many images of a domain; None pretrains the backbone.

    The first epoch warms up: kernels are chosen or compiled, memory is fetched.
    """
    profile = dataclasses.replace(PROFILES["decathlon"], precision=precision, width=width)
    settle(profile, device)
    recipe = dataclasses.replace(profile.adapt, epochs=2)
    crop = profile.crop if domain.crop else profile.whole
    pack = DrawnPack(images, domain.classes)
    batches = Batches([everything(pack)], domain, crop, recipe.batch, random=domain.crop, device=device)
    network = build(profile, method.source if method else "plain", domain.classes)
    network.to(device=device, memory_format=usual(profile.network, device).memory_format)
    state = dict(network.state_dict(keep_vars=True))
    if method:
        source = network.requires_grad_(False).eval()
        source.size = crop
        network = method.place(source, domain.classes)
        state = own_tensors(network, source)
    with tempfile.TemporaryDirectory() as folder:
        history, _ = train(
            network,
            method or Method(),
            batches,
            recipe,
            lr=1e-3,
            seed=0,
            state=state,
            checkpoint=Path(folder, "checkpoint"),
            precision=precision,
            compile=compile,
        )
    return history[-1]["seconds"]
