"""Features of a frozen network, computed once: batches for methods that train what stands behind it."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.evaluate import outputs
from datasets.batches import Batches


class FeatureBatches:
    """As Batches, but x are the (n, dim) outputs of a frozen `body` for `views` passes over the images.

    Each pass draws its own crops and flips (the first shows the centre); every training epoch then
    shows each image once, in one of its views.
    """

    def __init__(self, body: nn.Module, batches: Batches, views: int, seed: int):
        self.batch, self.steps, self.device = batches.batch, batches.steps, batches.device
        seen = []
        body.eval()
        with torch.no_grad():
            for view in range(views):
                plan = batches.centre() if view == 0 else batches.plan(seed, -view % 2**32)
                parts = [(outputs(body, x), y) for x, y in batches.show(plan, -(-len(batches) // 256))]
                order = torch.from_numpy(np.argsort(plan.index))
                x, y = (torch.cat(part).cpu()[order].to(self.device) for part in zip(*parts, strict=True))
                seen.append(x)
        self.x, self.y = torch.stack(seen), y

    def __len__(self) -> int:
        return len(self.y)

    def train(self, seed: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        rng = np.random.default_rng([seed, epoch])
        order = rng.permutation(len(self))
        view = rng.integers(len(self.x), size=len(self))
        for part in np.array_split(np.arange(len(self)), self.steps):
            yield self.x[view[part], order[part]], self.y[order[part]]
