"""Batches: indices, crops and flips are drawn on the host from (seed, epoch); pixels go to the device.

On a CPU each image's crop is one slice of the memory-mapped pack into a buffer, which is faster than
any vectorised gather (benchmark `perf`); on a GPU the packed pixels live there, where they fit, and one
gather crops and flips the whole batch. Both give the same bytes. Where they do not fit, the host slices the next
batch into pinned memory while the GPU trains on the last one.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from visual_decathlon.datasets.accelerator import memory, pins
from visual_decathlon.datasets.catalogue import Domain
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.datasets.pack import Pack
from visual_decathlon.datasets.static_batches import ColumnBatches, HostBatches, StaticBatches

_CHUNK = 1024  # images copied to a GPU together: some 20 MB of 72 x 96 pixels


def whole_pack(pack: Pack) -> tuple[Pack, np.ndarray]:
    """The part that is the whole pack."""
    return pack, np.arange(len(pack))


class CropPlan(NamedTuple):
    """What one pass over a split shows: (N,) arrays, in order."""

    index: np.ndarray
    top: np.ndarray
    left: np.ndarray
    flip: np.ndarray

    def parts(self, count: int) -> "Iterator[CropPlan]":
        """`count` of them, as even as they can be."""
        return (CropPlan(*fields) for fields in zip(*(np.array_split(field, count) for field in self), strict=True))


class Batches:
    """Parts of splits of one domain, joined, as normalised batches on a device.

    Each part is a pack and the indices (n,) of the images taken from it, see `whole_pack`. `crop` is the
    side of the square that is shown, in pixels. Yields x (n, 3, crop, crop) float32 in the memory order `layout`
    and y (n,) int64: an epoch is cut evenly into batches of about `batch`, so every image is seen
    and no batch is too small for batch norm. Raises InputError for no image, or one smaller than the crop.
    """

    def __init__(
        self,
        parts: Sequence[tuple[Pack, np.ndarray]],
        domain: Domain,
        crop: int,
        batch: int,
        *,
        random: bool = True,
        device: torch.device | str = "cpu",
        layout: torch.memory_format = torch.channels_last,
    ):
        self.packs, self.domain, self.crop, self.batch = tuple(p for p, _ in parts), domain, crop, batch
        self.random, self.layout = random, layout
        self.device = torch.device(device)
        self.sizes = np.concatenate([p.sizes[keep] for p, keep in parts])
        if not len(self.sizes):
            raise InputError(f"{domain.name}: not one image is left to show; raise LIMIT= or take another SPLIT=")
        if (smallest := self.sizes.min()) < crop:
            raise InputError(
                f"{domain.name}: an image of {smallest} pixels on its shorter side cannot show {crop}; "
                "lower the crop or raise the shorter side with SET="
            )
        self._centre = np.rint((self.sizes - crop) / 2).astype(np.int64)  # torchvision's CenterCrop to the pixel
        self.ids = np.concatenate([p.ids[keep] for p, keep in parts])
        self.labels = None
        if all(p.labels is not None for p in self.packs):
            self.labels = np.concatenate([p.labels[keep] for p, keep in parts])
        self._which = np.repeat(np.arange(len(parts)), [len(keep) for _, keep in parts])
        self._within = np.concatenate([keep for _, keep in parts])
        like = {"dtype": torch.float32, "device": self.device}
        std = torch.tensor(domain.std, **like)
        # Repeated over a whole image: with nothing to broadcast within it, the pass is five times as fast.
        self._scale = (1 / (255 * std)).repeat(crop * crop)
        self._shift = (-torch.tensor(domain.mean, **like) / std).repeat(crop * crop)
        need = 3 * int(self.sizes.astype(np.int64).prod(axis=1).sum())
        self._resident = _Resident(self) if need <= _room(self.device) else None

    def __len__(self) -> int:
        """Images."""
        return len(self.sizes)

    def files(self) -> list[str]:
        """The source file of every image, in order, as a path below the release or the own folder."""
        found = [""] * len(self)
        for number, pack in enumerate(self.packs):
            places = np.flatnonzero(self._which == number)
            for place, file in zip(places.tolist(), pack.files(self._within[places]), strict=True):
                found[place] = file
        return found

    @property
    def steps(self) -> int:
        """Batches an epoch."""
        return max(1, round(len(self) / self.batch))

    def plan(self, seed: int, epoch: int) -> CropPlan:
        """A training epoch: shuffled, random crops and flips as the domain allows."""
        rng = np.random.default_rng([seed, epoch, self.domain.k])
        index = rng.permutation(len(self))
        offset = self._centre[index]
        if self.random:
            # Inside the centre square, from which test crops come too: the far ends of a long image are
            # never tested. (Random crops of the whole image cost `feature` points on wide real images.)
            square = self.sizes[index].min(axis=1, keepdims=True)
            slack = square - self.crop + 1
            start = np.rint((self.sizes[index] - square) / 2).astype(np.int64)
            offset = start + np.floor(rng.random(start.shape) * slack).astype(np.int64)
        flip = rng.random(len(index)) < 0.5 if self.domain.flip else np.zeros(len(index), bool)
        return CropPlan(index, offset[:, 0], offset[:, 1], flip)

    def centre(self) -> CropPlan:
        """An evaluation pass: in order, centre crops, no flip."""
        return CropPlan(np.arange(len(self)), *self._centre.T, np.zeros(len(self), bool))

    def train(self, seed: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        yield from self.show(self._training_plan(seed, epoch), self.steps)

    def _training_plan(self, seed: int, epoch: int) -> CropPlan:
        if len(self) < 2:  # batch norm would see one value a channel
            raise InputError(f"{self.domain.name}: training needs at least 2 training images; raise LIMIT= or add some")
        return self.plan(seed, epoch)

    def static(self) -> StaticBatches:
        """The batches of `train`, for a step that is captured."""
        if self._resident is None:

            def host(seed: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
                for some in self._training_plan(seed, epoch).parts(self.steps):
                    yield self.slices(some), torch.from_numpy(self.labels[some.index])

            return HostBatches(self.device, host, lambda pixels, labels: (self.normalise(pixels), labels))

        def columns(seed: int, epoch: int) -> list[np.ndarray]:
            plan = self._training_plan(seed, epoch)
            return [*self._resident.places(plan), self.labels[plan.index]]

        def make(first: Tensor, row: Tensor, flip: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
            return self.normalise(self._resident.crops(first, row, flip)), labels

        return ColumnBatches(self.steps, self.device, columns, make)

    def evaluate(self, batch: int = 256) -> Iterator[tuple[Tensor, Tensor]]:
        yield from self.show(self.centre(), -(-len(self) // batch))

    def show(self, plan: CropPlan, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
        for some in plan.parts(steps):
            labels = torch.from_numpy(self.labels[some.index]) if self.labels is not None else torch.empty(0)
            yield self.normalise(self.pixels(some)), labels.to(self.device, non_blocking=True)

    def pixels(self, plan: CropPlan) -> Tensor:
        """(n, crop, crop, 3) uint8 on the device."""
        if self._resident is not None:
            return self._resident.gather(plan)
        return self.slices(plan).to(self.device, non_blocking=True)

    def slices(self, plan: CropPlan) -> Tensor:
        """The same on the host; in pinned memory where it goes to a GPU, which then copies while the host goes on."""
        size = self.crop
        pixels = torch.empty(len(plan.index), size, size, 3, dtype=torch.uint8, pin_memory=pins(self.device))
        out = pixels.numpy()
        for shown, image, top, left in zip(
            out, self._images(plan.index), plan.top.tolist(), plan.left.tolist(), strict=True
        ):
            shown[...] = image[top : top + size, left : left + size]
        if len(turned := np.flatnonzero(plan.flip)):  # together: torch has a kernel for it, numpy moves three bytes
            out[turned] = pixels[turned].permute(0, 3, 1, 2).flip(3).permute(0, 2, 3, 1).numpy()
        return pixels

    def _images(self, index: np.ndarray) -> Iterator[np.ndarray]:
        """(H, W, 3) views of the images of these indices, in that order."""
        which, within = self._which[index], self._within[index]
        of = [pack.images(within[which == number]) for number, pack in enumerate(self.packs)]
        return (next(of[number]) for number in which.tolist())

    def normalise(self, pixels: Tensor) -> Tensor:
        shown = torch.mul(pixels.flatten(1), self._scale).add_(self._shift)
        return shown.view(pixels.shape).permute(0, 3, 1, 2).contiguous(memory_format=self.layout)


def _room(device: torch.device) -> int:
    """Bytes that pixels may take on a device: half of what is free there; none on a CPU, which maps them from disk."""
    told = memory(device)
    return -1 if told is None else told[0] // 2


class _Resident:
    """The packed pixels on the device, and one gather for a whole batch of crops."""

    def __init__(self, batches: Batches):
        area = batches.sizes.astype(np.int64).prod(axis=1) * 3
        ends = np.cumsum(area)
        self.start = ends - area
        self.flat = torch.empty(int(ends[-1]), dtype=torch.uint8, device=batches.device)
        for first in range(0, len(area), _CHUNK):  # the host never holds all pixels: imagenet12's are 27 GB
            last = min(first + _CHUNK, len(area))
            some = np.concatenate([image.reshape(-1) for image in batches._images(np.arange(first, last))])
            self.flat[self.start[first] : ends[last - 1]] = torch.from_numpy(some)
        self.width, self.size = batches.sizes[:, 1].astype(np.int64), batches.crop

    def places(self, plan: CropPlan) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of each image, (N,): where its crop's first value is, how many values a row has, whether it is flipped."""
        row = 3 * self.width[plan.index]
        return self.start[plan.index] + plan.top * row + 3 * plan.left, row, plan.flip

    def crops(self, first: Tensor, row: Tensor, flip: Tensor) -> Tensor:
        """(n, size, size, 3) of what `places` gives, (n,) each, on the device."""
        steps = torch.arange(self.size, device=self.flat.device)
        column = torch.where(flip[:, None], self.size - 1 - steps, steps)
        start = first[:, None, None] + steps[None, :, None] * row[:, None, None] + 3 * column[:, None, :]
        return self.flat[start[..., None] + torch.arange(3, device=self.flat.device)]

    def gather(self, plan: CropPlan) -> Tensor:
        there = (torch.from_numpy(np.ascontiguousarray(column)) for column in self.places(plan))
        return self.crops(*(column.to(self.flat.device, non_blocking=True) for column in there))
