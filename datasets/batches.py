"""Batches: the host draws indices, crops and flips from (seed, epoch); pixels are moved to the device.

On a CPU each crop is one slice of the memory-mapped pack, copied into a buffer; this is faster than any vectorised
gather (measured by `make perf`). On a GPU all packed pixels are kept in its memory if they fit, and one gather crops
and flips the whole batch. Both give the same bytes. If they do not fit, the host slices the next batch into pinned
memory while the GPU trains on the current one.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from visual_decathlon.datasets.accelerator import memory, pins
from visual_decathlon.datasets.catalogue import Domain
from visual_decathlon.datasets.errors import InputError, option
from visual_decathlon.datasets.pack import Pack
from visual_decathlon.datasets.static_batches import ColumnBatches, HostBatches, StaticBatches

_CHUNK = 1024  # images copied to a GPU at once: about 20 MB for 72 x 96 pixels


def whole_pack(pack: Pack) -> tuple[Pack, np.ndarray]:
    """The pack with the indices of all its images, as a part for `Batches`."""
    return pack, np.arange(len(pack))


class CropPlan(NamedTuple):
    """The crops of one pass over a split, in order: (N,) arrays of image index, top, left and whether to flip."""

    index: np.ndarray
    top: np.ndarray
    left: np.ndarray
    flip: np.ndarray

    def parts(self, count: int) -> "Iterator[CropPlan]":
        """Splits the plan into `count` consecutive parts of nearly equal length."""
        return (CropPlan(*fields) for fields in zip(*(np.array_split(field, count) for field in self), strict=True))


class Batches:
    """Normalised batches on a device, from one or more parts of splits of one domain.

    Each part is a pack and the indices (n,) of the images taken from it, see `whole_pack`. `crop` is the side of the
    square crop in pixels; without `random` training uses centre crops. Yields x (n, 3, crop, crop) float32 in the
    memory format `layout` and y (n,) int64. An epoch is divided evenly into batches of about `batch` images, so every
    image is used and no batch is too small for batch norm. Raises InputError if there is no image, or one smaller than
    the crop.
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
            raise InputError(
                f"{domain.name}: no image is left; raise {option('limit')} or choose another {option('split')}"
            )
        if (smallest := self.sizes.min()) < crop:
            raise InputError(
                f"{domain.name}: an image of {smallest} pixels on its shorter side cannot show {crop}; "
                f"lower the crop or raise the shorter side with {option('settings')}"
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
        # Repeated for every pixel of an image: without broadcasting inside an image the pass is five times as fast.
        self._scale = (1 / (255 * std)).repeat(crop * crop)
        self._shift = (-torch.tensor(domain.mean, **like) / std).repeat(crop * crop)
        need = 3 * int(self.sizes.astype(np.int64).prod(axis=1).sum())
        self._resident = _Resident(self) if need <= _room(self.device) else None

    def __len__(self) -> int:
        """Number of images."""
        return len(self.sizes)

    def files(self) -> list[str]:
        """The source file of every image, in order, as a path below the release or the user's folder."""
        files = [""] * len(self)
        for number, pack in enumerate(self.packs):
            places = np.flatnonzero(self._which == number)
            for place, file in zip(places.tolist(), pack.files(self._within[places]), strict=True):
                files[place] = file
        return files

    @property
    def steps(self) -> int:
        """Number of batches per epoch."""
        return max(1, round(len(self) / self.batch))

    def plan(self, seed: int, epoch: int) -> CropPlan:
        """The plan of a training epoch: shuffled, with random crops and flips as the domain allows."""
        rng = np.random.default_rng([seed, epoch, self.domain.k])
        index = rng.permutation(len(self))
        offset = self._centre[index]
        if self.random:
            # Crops stay inside the centre square because test crops come from there: the far ends of a long image
            # are never tested. (Random crops of the whole image cost `feature` accuracy on wide real images.)
            square = self.sizes[index].min(axis=1, keepdims=True)
            slack = square - self.crop + 1
            start = np.rint((self.sizes[index] - square) / 2).astype(np.int64)
            offset = start + np.floor(rng.random(start.shape) * slack).astype(np.int64)
        flip = rng.random(len(index)) < 0.5 if self.domain.flip else np.zeros(len(index), bool)
        return CropPlan(index, offset[:, 0], offset[:, 1], flip)

    def centre(self) -> CropPlan:
        """The plan of an evaluation pass: images in order, centre crops, no flips."""
        return CropPlan(np.arange(len(self)), *self._centre.T, np.zeros(len(self), bool))

    def train(self, seed: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields (x, y) of a training epoch. Raises InputError if there are fewer than two images."""
        yield from self.show(self._training_plan(seed, epoch), self.steps)

    def _training_plan(self, seed: int, epoch: int) -> CropPlan:
        if len(self) < 2:  # batch norm would see one value per channel
            raise InputError(
                f"{self.domain.name}: training needs at least 2 training images; raise {option('limit')} or add some"
            )
        return self.plan(seed, epoch)

    def static(self) -> StaticBatches:
        """The batches of `train`, for a training step that is captured as a CUDA graph."""
        if self._resident is None:

            def host(seed: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
                for part in self._training_plan(seed, epoch).parts(self.steps):
                    yield self.slices(part), torch.from_numpy(self.labels[part.index])

            return HostBatches(self.device, host, lambda pixels, labels: (self.normalise(pixels), labels))

        def columns(seed: int, epoch: int) -> list[np.ndarray]:
            plan = self._training_plan(seed, epoch)
            return [*self._resident.places(plan), self.labels[plan.index]]

        def make(first: Tensor, row: Tensor, flip: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
            return self.normalise(self._resident.crops(first, row, flip)), labels

        return ColumnBatches(self.steps, self.device, columns, make)

    def evaluate(self, batch: int = 256) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields (x, y) of an evaluation pass, in batches of at most `batch` images."""
        yield from self.show(self.centre(), -(-len(self) // batch))

    def show(self, plan: CropPlan, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields (x, y) of a plan in `steps` batches; y is empty if the images have no labels."""
        for part in plan.parts(steps):
            labels = torch.from_numpy(self.labels[part.index]) if self.labels is not None else torch.empty(0)
            yield self.normalise(self.pixels(part)), labels.to(self.device, non_blocking=True)

    def pixels(self, plan: CropPlan) -> Tensor:
        """The crops of a plan, (n, crop, crop, 3) uint8 on the device."""
        if self._resident is not None:
            return self._resident.gather(plan)
        return self.slices(plan).to(self.device, non_blocking=True)

    def slices(self, plan: CropPlan) -> Tensor:
        """The crops of a plan on the host; in pinned memory if a GPU will copy them, while the host continues."""
        size = self.crop
        pixels = torch.empty(len(plan.index), size, size, 3, dtype=torch.uint8, pin_memory=pins(self.device))
        out = pixels.numpy()
        for crop, image, top, left in zip(
            out, self._images(plan.index), plan.top.tolist(), plan.left.tolist(), strict=True
        ):
            crop[...] = image[top : top + size, left : left + size]
        if len(flipped := np.flatnonzero(plan.flip)):  # all at once: torch has a kernel, numpy moves 3 bytes at a time
            out[flipped] = pixels[flipped].permute(0, 3, 1, 2).flip(3).permute(0, 2, 3, 1).numpy()
        return pixels

    def _images(self, index: np.ndarray) -> Iterator[np.ndarray]:
        """Yields (H, W, 3) views of the images with these indices, in that order."""
        which, within = self._which[index], self._within[index]
        images_of = [pack.images(within[which == number]) for number, pack in enumerate(self.packs)]
        return (next(images_of[number]) for number in which.tolist())

    def normalise(self, pixels: Tensor) -> Tensor:
        """(n, crop, crop, 3) uint8 to (n, 3, crop, crop) float32 with the domain's mean and std."""
        x = torch.mul(pixels.flatten(1), self._scale).add_(self._shift)
        return x.view(pixels.shape).permute(0, 3, 1, 2).contiguous(memory_format=self.layout)


def _room(device: torch.device) -> int:
    """Bytes that pixels may occupy on a device: half of its free memory; -1 on a CPU, which maps them from disk."""
    free_and_total = memory(device)
    return -1 if free_and_total is None else free_and_total[0] // 2


class _Resident:
    """Keeps all packed pixels on the device and gathers the crops of a whole batch at once."""

    def __init__(self, batches: Batches):
        area = batches.sizes.astype(np.int64).prod(axis=1) * 3
        ends = np.cumsum(area)
        self.start = ends - area
        self.flat = torch.empty(int(ends[-1]), dtype=torch.uint8, device=batches.device)
        for first in range(0, len(area), _CHUNK):  # the host never holds all pixels: imagenet12 has 27 GB
            last = min(first + _CHUNK, len(area))
            chunk = np.concatenate([image.reshape(-1) for image in batches._images(np.arange(first, last))])
            self.flat[self.start[first] : ends[last - 1]] = torch.from_numpy(chunk)
        self.width, self.size = batches.sizes[:, 1].astype(np.int64), batches.crop

    def places(self, plan: CropPlan) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(N,) each: position of the crop's first value in `flat`, values per image row, whether to flip."""
        row = 3 * self.width[plan.index]
        return self.start[plan.index] + plan.top * row + 3 * plan.left, row, plan.flip

    def crops(self, first: Tensor, row: Tensor, flip: Tensor) -> Tensor:
        """The crops (n, size, size, 3) at the given `places`, (n,) each, all on the device."""
        steps = torch.arange(self.size, device=self.flat.device)
        column = torch.where(flip[:, None], self.size - 1 - steps, steps)
        start = first[:, None, None] + steps[None, :, None] * row[:, None, None] + 3 * column[:, None, :]
        return self.flat[start[..., None] + torch.arange(3, device=self.flat.device)]

    def gather(self, plan: CropPlan) -> Tensor:
        """The crops of a plan, (n, size, size, 3) uint8 on the device."""
        columns = (torch.from_numpy(np.ascontiguousarray(column)) for column in self.places(plan))
        return self.crops(*(column.to(self.flat.device, non_blocking=True) for column in columns))
