"""Predicts classes of images with a loaded domain."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from visual_decathlon.benchmark.records.predictions import likeliest
from visual_decathlon.benchmark.serving.metadata import AdapterMetadata
from visual_decathlon.datasets.batches import Batches, whole_pack
from visual_decathlon.datasets.catalogue import Domain
from visual_decathlon.datasets.user_images import ImagesInMemory, UserImage


@dataclass(frozen=True)
class Prediction:
    """The five most likely classes of an image, the most likely first; fewer where the domain has fewer.

    `labels`: class indices from 0. `names`: the classes' names; None where the adapter file is too old to have them.
    `probabilities`: of the softmax over all classes.
    """

    labels: tuple[int, ...]
    names: tuple[str, ...] | None
    probabilities: tuple[float, ...]

    @property
    def label(self) -> int:
        """The most likely class, an index from 0."""
        return self.labels[0]

    @property
    def name(self) -> str | None:
        """The name of the most likely class; None where the file has no names."""
        return None if self.names is None else self.names[0]

    @property
    def probability(self) -> float:
        """The probability of the most likely class."""
        return self.probabilities[0]


def preprocess(
    images: Sequence[UserImage], metadata: AdapterMetadata, device: torch.device, layout: torch.memory_format
) -> Iterable[Tensor]:
    """Yield batches (n, 3, crop, crop) float32, resized, cropped and normalised as in the run's evaluation."""
    domain = Domain(
        metadata.domain, metadata.domain, 0, metadata.classes, (0, 0, 0), metadata.mean, metadata.std, False, False, ""
    )
    part = whole_pack(ImagesInMemory(images, metadata.shorter, metadata.domain))
    batches = Batches([part], domain, metadata.crop, 1, device=device, layout=layout)
    return (x for x, _ in batches.evaluate())


@torch.no_grad()
def predict_images(
    network: nn.Module,
    images: Sequence[UserImage],
    metadata: AdapterMetadata,
    device: torch.device,
    layout: torch.memory_format,
) -> list[Prediction]:
    """One prediction per image, in order; `layout` is the memory format of the network."""
    if not images:
        return []
    logits = torch.cat([network(x).float() for x in preprocess(images, metadata, device, layout)])
    top = likeliest(logits)
    probabilities = logits.softmax(1).gather(1, top)
    names = metadata.names
    return [
        Prediction(tuple(labels), None if names is None else tuple(names[i] for i in labels), tuple(values))
        for labels, values in zip(top.tolist(), probabilities.tolist(), strict=True)
    ]
