"""Speed, measured as ratios in one process: ours and another way take turns, round by round."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from benchmark.backbones.resnet26 import resnet26
from datasets.annotations import Split
from datasets.batches import Batches, everything
from datasets.pack import pack
from methods.layers.parallel import ParallelConv
from methods.registry import select


@dataclass(frozen=True)
class Ratio:
    """How many times faster ours is than the other way: median, least and largest of the rounds."""

    part: str
    ours: str
    other: str
    ours_img_s: float
    other_img_s: float
    ratio: float
    least: float
    largest: float
    rounds: int


def compare(part: str, ours: tuple[str, Callable[[], int]], other: tuple[str, Callable[[], int]], rounds: int) -> Ratio:
    """Run the two in turn; each call returns the images it handled. The first round warms up."""

    def speed(work: Callable[[], int]) -> float:
        start = time.perf_counter()
        images = work()
        return images / (time.perf_counter() - start)

    speed(ours[1]), speed(other[1])
    pairs = [(speed(ours[1]), speed(other[1])) for _ in range(rounds)]
    ratios = [a / b for a, b in pairs]
    return Ratio(
        part,
        ours[0],
        other[0],
        statistics.median(a for a, _ in pairs),
        statistics.median(b for _, b in pairs),
        statistics.median(ratios),
        min(ratios),
        max(ratios),
        rounds,
    )


def batches(split: Split, cache: Path, rounds: int = 5) -> Ratio:
    """Training batches of 64: random crop 64 of 72, flip, normalise; against PIL and a DataLoader without workers."""
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset
    from torchvision import transforms

    domain = split.domain
    ours = Batches([everything(pack(split, cache / "packs", 72))], domain, crop=64, batch=64)
    change = [transforms.RandomCrop(64)] + [transforms.RandomHorizontalFlip()] * domain.flip
    change = transforms.Compose([*change, transforms.ToTensor(), transforms.Normalize(domain.mean, domain.std)])

    class Files(Dataset):
        def __len__(self):
            return len(split)

        def __getitem__(self, i):
            return change(Image.open(split.root / split.files[i]).convert("RGB")), int(split.labels[i])

    loader = DataLoader(Files(), batch_size=64, shuffle=True)
    epochs = iter(range(10**9))

    def fast() -> int:
        return sum(len(y) for _ in range(10) for _, y in ours.train(0, next(epochs)))

    def slow() -> int:
        return sum(len(y) for _, y in loader)

    name = "PIL DataLoader, no workers, same transforms"
    return compare("batches", ("packed pixels", fast), (name, slow), rounds)


def reference_way(network: nn.Module) -> nn.Module:
    """The released code's way of the same step: NCHW, adapters beside the convolutions, one SGD loop."""
    for module in network.modules():
        if isinstance(module, ParallelConv):
            module.fused = False
    return network.to(memory_format=torch.contiguous_format)


def step(rounds: int = 7, batch: int = 64, size: int = 64, classes: int = 100, steps: int = 2) -> Ratio:
    """A training step of par_adapter on the ResNet-26 of width 1, float32."""
    (method,) = select("par_adapter")
    generator = np.random.default_rng(0)
    x = torch.from_numpy(generator.standard_normal((batch, 3, size, size), np.float32))
    y = torch.from_numpy(generator.integers(classes, size=batch))

    def worker(memory_format: torch.memory_format, reference: bool) -> Callable[[], int]:
        torch.manual_seed(0)
        network = method.place(resnet26(classes).to(memory_format=memory_format), classes).train()
        if reference:
            network = reference_way(network)
        trained = [p for p in network.parameters() if p.requires_grad]
        optimiser = torch.optim.SGD(trained, 0.01, 0.9, weight_decay=1e-4, fused=not reference)
        images = x.contiguous(memory_format=memory_format)

        def work() -> int:
            for _ in range(steps):
                optimiser.zero_grad()
                F.cross_entropy(network(images), y).backward()
                optimiser.step()
            return steps * batch

        return work

    ours = ("centre tap, channels_last", worker(torch.channels_last, False))
    other = ("reference's way: beside the conv, NCHW", worker(torch.contiguous_format, True))
    return compare("par_adapter step", ours, other, rounds)
