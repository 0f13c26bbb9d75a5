"""What a domain in use takes images for."""

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
    """The classes that an image is likeliest of, the likeliest first: five, or as many as the domain has.

    `labels` are class indices from 0, `names` the classes' names, None where the adapters' file is of a version that
    kept none, `probabilities` those of the softmax over all classes.
    """

    labels: tuple[int, ...]
    names: tuple[str, ...] | None
    probabilities: tuple[float, ...]

    @property
    def label(self) -> int:
        return self.labels[0]

    @property
    def name(self) -> str | None:
        return None if self.names is None else self.names[0]

    @property
    def probability(self) -> float:
        return self.probabilities[0]


def shown(
    images: Sequence[UserImage], head: AdapterMetadata, device: torch.device, layout: torch.memory_format
) -> Iterable[Tensor]:
    """Batches (n, 3, crop, crop) of the images as the run's evaluation showed them: resized, cropped, normalised."""
    domain = Domain(head.domain, head.domain, 0, head.classes, (0, 0, 0), head.mean, head.std, False, False, "")
    part = whole_pack(ImagesInMemory(images, head.shorter, head.domain))
    batches = Batches([part], domain, head.crop, 1, device=device, layout=layout)
    return (x for x, _ in batches.evaluate())


@torch.no_grad()
def predictions(
    network: nn.Module,
    images: Sequence[UserImage],
    head: AdapterMetadata,
    device: torch.device,
    layout: torch.memory_format,
) -> list[Prediction]:
    """Of each image, in order; `layout` is the network's."""
    if not images:
        return []
    logits = torch.cat([network(x).float() for x in shown(images, head, device, layout)])
    top = likeliest(logits)
    probabilities = logits.softmax(1).gather(1, top)
    names = head.names
    return [
        Prediction(tuple(labels), None if names is None else tuple(names[i] for i in labels), tuple(values))
        for labels, values in zip(top.tolist(), probabilities.tolist(), strict=True)
    ]
