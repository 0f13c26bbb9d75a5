"""Batches from tensors at fixed addresses, for a training step that is captured once as a CUDA graph and replayed.

A replayed graph reads the same memory every time. `ColumnBatches` copies the plan of an epoch (order, crops, flips,
labels) to the device once; a counter on the device advances with every batch, and the batch is made without the host.
`HostBatches` copies each batch from the host into fixed tensors. Both give the same batches as `train` of the object
that made them.
"""

from collections.abc import Callable, Hashable, Iterator
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor


class BatchShape(NamedTuple):
    """The properties of a batch that a captured step depends on: its number of images and, optionally, its kind."""

    images: int
    kind: Hashable = None


class StaticBatches(Protocol):
    """Iterate over `epoch` to get the shape of each batch, and call `take` with it before the next one."""

    def epoch(self, seed: int, epoch: int) -> Iterator[BatchShape]:
        """Yields the shape of each batch, in order."""

    def take(self, shape: BatchShape) -> tuple:
        """(x, y) of the current batch, on the device. It reads no value on the host, so it can be captured."""


class ColumnBatches:
    """Batches that a function makes on the device from a few columns, (N,) each, which are copied there once per epoch.

    `columns(seed, epoch)` returns them in the order of the epoch; `make` maps (n,) rows of each to (x, y).
    """

    def __init__(
        self,
        steps: int,
        device: torch.device,
        columns: Callable[[int, int], list[np.ndarray]],
        make: Callable[..., tuple[Tensor, Tensor]],
    ):
        self._steps, self._device, self._columns, self._make = steps, device, columns, make
        self._on_device: list[Tensor] = []
        self._position = torch.zeros((), dtype=torch.int64, device=device)

    def epoch(self, seed: int, epoch: int) -> Iterator[BatchShape]:
        """Copies the columns of the epoch to the device and yields the shape of each batch."""
        columns = [torch.from_numpy(np.ascontiguousarray(column)) for column in self._columns(seed, epoch)]
        if not self._on_device:
            self._on_device = [torch.empty_like(column, device=self._device) for column in columns]
        for fixed, column in zip(self._on_device, columns, strict=True):
            fixed.copy_(column)
        self._position.zero_()
        for part in np.array_split(np.empty(len(columns[0]), bool), self._steps):
            yield BatchShape(len(part))

    def take(self, shape: BatchShape) -> tuple[Tensor, Tensor]:
        """(x, y) of the next `shape.images` rows."""
        rows = self._position + torch.arange(shape.images, device=self._device)
        self._position += shape.images
        return self._make(*(column[rows] for column in self._on_device))


class HostBatches:
    """Batches that the host makes while the device trains on the previous one, copied into fixed device tensors.

    `host(seed, epoch)` yields tuples of tensors on any device; `make` maps their copies on the device to (x, y).
    """

    def __init__(
        self,
        device: torch.device,
        host: Callable[[int, int], Iterator[tuple[Tensor, ...]]],
        make: Callable[..., tuple[Tensor, Tensor]] = lambda x, y: (x, y),
    ):
        self._device, self._host, self._make = device, host, make
        self._on_device: dict[BatchShape, list[Tensor]] = {}

    def epoch(self, seed: int, epoch: int) -> Iterator[BatchShape]:
        """Copies each batch of the host to the device and yields its shape."""
        for tensors in self._host(seed, epoch):
            shape = BatchShape(len(tensors[-1]), tuple(tensors[0].shape))
            if shape not in self._on_device:
                self._on_device[shape] = [torch.empty_like(tensor, device=self._device) for tensor in tensors]
            for fixed, tensor in zip(self._on_device[shape], tensors, strict=True):
                fixed.copy_(tensor, non_blocking=True)
            yield shape

    def take(self, shape: BatchShape) -> tuple[Tensor, Tensor]:
        """(x, y) of the batch that was copied last with this shape."""
        return self._make(*self._on_device[shape])
