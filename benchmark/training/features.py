"""Outputs of a network's frozen part, computed once: batches for methods that train only the layers behind it."""

import os
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from visual_decathlon.benchmark.runtime.progress import Counter, ProgressCallback, silent
from visual_decathlon.datasets.accelerator import memory
from visual_decathlon.datasets.batches import Batches
from visual_decathlon.datasets.errors import InputError, option
from visual_decathlon.datasets.static_batches import ColumnBatches, StaticBatches


class FeatureBatches:
    """Like Batches, but x are the outputs (n, dim) or (n, C, H, W) of a `frozen` part, from `views` passes.

    Each pass over the images draws its own crops and flips (the first takes the centre); every training epoch then
    shows each image once, in one of its views. `progress` is called with (task, done, total). Raises InputError where
    the outputs would not fit in memory.
    """

    def __init__(
        self,
        frozen: nn.Module,
        batches: Batches,
        views: int,
        seed: int,
        progress: ProgressCallback = silent,
    ):
        self.batch, self.steps, self.device = batches.batch, batches.steps, batches.device
        self.x, self.y = None, torch.from_numpy(batches.labels.copy()).to(self.device)
        count, read = Counter(progress, "reading features", views * len(batches)), 0
        frozen.eval()
        with torch.no_grad():
            for view in range(views):
                plan = batches.centre() if view == 0 else batches.plan(seed, -view % 2**32)
                parts = np.array_split(plan.index, -(-len(batches) // 256))
                shown = batches.show(plan, len(parts))
                for index, (x, _) in zip(parts, shown, strict=True):
                    features = frozen(x)
                    if self.x is None:
                        self.x = self._room(features[0], views, batches)
                        last = features.dim() == 4 and features.is_contiguous(memory_format=torch.channels_last)
                        self.layout = torch.channels_last if last else torch.contiguous_format
                    self.x[view, torch.from_numpy(index).to(self.device)] = features
                    read += len(index)
                    count(read)

    def _room(self, one: Tensor, views: int, batches: Batches) -> Tensor:
        """An empty tensor (views, N, ...) for outputs of the shape of `one`."""
        need = views * len(batches) * one.numel() * one.element_size()
        if need > (there := _memory(self.device)):
            raise InputError(
                f"{batches.domain.name}: {views} views of {len(batches)} images take {need / 2**30:.1f} GB behind the "
                f"frozen part, and {there / 2**30:.1f} GB may be used; lower views where that is an "
                f"option, or {option('limit')}"
            )
        return one.new_empty(views, len(batches), *one.shape)

    def __len__(self) -> int:
        return len(self.y)

    def train(self, seed: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields the (x, y) batches of a training epoch."""
        view, order = (torch.from_numpy(column) for column in self._columns(seed, epoch))
        for part in np.array_split(np.arange(len(self)), self.steps):
            yield self._make(view[part].to(self.device), order[part].to(self.device))

    def static(self) -> StaticBatches:
        """The batches of `train`, for a step that is captured."""
        return ColumnBatches(self.steps, self.device, self._columns, self._make)

    def _columns(self, seed: int, epoch: int) -> list[np.ndarray]:
        """View and image indices, (N,) each, in the order of an epoch."""
        rng = np.random.default_rng([seed, epoch])
        order = rng.permutation(len(self))
        return [rng.integers(len(self.x), size=len(self)), order]

    def _make(self, view: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
        return self.x[view, order].contiguous(memory_format=self.layout), self.y[order]


def _memory(device: torch.device) -> int:
    """Half of the device's memory in bytes, or of the machine's where the device reports none."""
    if (free_and_total := memory(device)) is not None:
        return free_and_total[1] // 2
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
