"""Batches out of tensors that stay where they are, for a training step that is captured once and replayed.

A replayed CUDA graph reads the same memory each time. So what decides an epoch (order, crops, flips, labels) is copied
to the device once, a counter there moves on with every batch, and a batch is made from both without the host. Both
give the batches that `train` of the same object gives.
"""

from collections.abc import Callable, Hashable, Iterator
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor


class BatchShape(NamedTuple):
    """What a captured step depends on: how many images it shows, and which of several kinds of batches they are."""

    images: int
    kind: Hashable = None


class StaticBatches(Protocol):
    """An epoch is iterated by shape; while a shape is at hand, `take` makes its batch."""

    def epoch(self, seed: int, epoch: int) -> Iterator[BatchShape]:
        """The shape of each batch, in order."""

    def take(self, shape: BatchShape) -> tuple:
        """(x, y) on the device. Reads no value on the host, so that it can be captured."""


class ColumnBatches:
    """Batches that a function makes from the rows of a few columns, (N,) each, which are copied over once an epoch.

    `columns(seed, epoch)` gives them in the order of the epoch, `make` maps (n,) of each to (x, y) on the device.
    """

    def __init__(
        self,
        steps: int,
        device: torch.device,
        columns: Callable[[int, int], list[np.ndarray]],
        make: Callable[..., tuple[Tensor, Tensor]],
    ):
        self._steps, self._device, self._columns, self._make = steps, device, columns, make
        self._there: list[Tensor] = []
        self._at = torch.zeros((), dtype=torch.int64, device=device)

    def epoch(self, seed: int, epoch: int) -> Iterator[BatchShape]:
        given = [torch.from_numpy(np.ascontiguousarray(column)) for column in self._columns(seed, epoch)]
        if not self._there:
            self._there = [torch.empty_like(column, device=self._device) for column in given]
        for there, column in zip(self._there, given, strict=True):
            there.copy_(column)
        self._at.zero_()
        for part in np.array_split(np.empty(len(given[0]), bool), self._steps):
            yield BatchShape(len(part))

    def take(self, shape: BatchShape) -> tuple[Tensor, Tensor]:
        rows = self._at + torch.arange(shape.images, device=self._device)
        self._at += shape.images
        return self._make(*(column[rows] for column in self._there))


class HostBatches:
    """Batches that the host makes, one while the device trains on the last: copied to where a captured step reads them.

    `host(seed, epoch)` yields tuples of tensors, anywhere; `make` maps them, on the device, to (x, y).
    """

    def __init__(
        self,
        device: torch.device,
        host: Callable[[int, int], Iterator[tuple[Tensor, ...]]],
        make: Callable[..., tuple[Tensor, Tensor]] = lambda x, y: (x, y),
    ):
        self._device, self._host, self._make = device, host, make
        self._there: dict[BatchShape, list[Tensor]] = {}

    def epoch(self, seed: int, epoch: int) -> Iterator[BatchShape]:
        for given in self._host(seed, epoch):
            shape = BatchShape(len(given[-1]), tuple(given[0].shape))
            if shape not in self._there:
                self._there[shape] = [torch.empty_like(tensor, device=self._device) for tensor in given]
            for there, tensor in zip(self._there[shape], given, strict=True):
                there.copy_(tensor, non_blocking=True)
            yield shape

    def take(self, shape: BatchShape) -> tuple[Tensor, Tensor]:
        return self._make(*self._there[shape])
