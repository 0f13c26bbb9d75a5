"""One training step: loss, backward, optimiser and counters, in two ways that give the same numbers.

Eager: the host makes each batch, sets the learning rate and launches every kernel. Static: batches, learning rates and
counters are on the device, and the host reads and sets nothing within an epoch, so that the step can be captured in a
CUDA graph, one for each batch shape, and replayed. On a CPU the static step runs without a capture, so that everything
else is tested there.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from visual_decathlon.benchmark.training.graph import Replays
from visual_decathlon.benchmark.training.scaling import Scaling
from visual_decathlon.datasets.static_batches import BatchShape, StaticBatches
from visual_decathlon.methods.method import Method


class Counts(NamedTuple):
    """Counters of the current epoch, on the device: sum of the images' losses, number of correct predictions."""

    loss: Tensor
    right: Tensor


class Step:
    """Trains `network` batch by batch.

    `autocast()` gives the context of a forward pass; `scaling` is the loss scale of fp16.
    """

    def __init__(
        self,
        network: nn.Module,
        method: Method,
        optimiser: torch.optim.Optimizer,
        criterion: Callable[[Tensor, Tensor], Tensor],
        device: torch.device,
        autocast: Callable,
        scaling: Scaling | None,
    ):
        self.network, self.method, self.optimiser = network, method, optimiser
        self.criterion, self.autocast, self.scaling = criterion, autocast, scaling
        self.counts = Counts(torch.zeros((), device=device), torch.zeros((), dtype=torch.int64, device=device))

    def begin(self) -> None:
        """Begins an epoch: all counters are 0."""
        for count in self.counts:
            count.zero_()
        if self.scaling:
            self.scaling.begin()

    def epoch_row(self, images: int) -> dict:
        """The epoch's row of the history: mean loss, top-1 in %; with fp16 also skipped steps and the loss scale.

        Waits for the device.
        """
        row = {"loss": self.counts.loss.item() / images, "train_top1": 100 * self.counts.right.item() / images}
        if self.scaling:
            row |= {"skipped": self.scaling.skipped(), "loss_scale": self.scaling.state()}
        return row

    def recover(self) -> None:
        """Restores the state after a step that failed on the host before the device did anything."""
        if self.scaling:
            self.scaling.recover(self.optimiser)

    def restart(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sets the optimiser's state of these parameters to 0, in place, since a captured step keeps its tensors."""
        for p in parameters:
            for t in self.optimiser.state[p].values():
                t.zero_()

    def train_on(self, x, y: Tensor) -> None:
        """Runs one step. It only launches work: nothing waits for the device."""
        with self.autocast():
            value, logits = self.method.loss(self.network, x, y, self.criterion)
        self.optimiser.zero_grad(set_to_none=True)
        if self.scaling is None:
            value.backward()
            self.optimiser.step()
        else:
            self.scaling.step(value, self.optimiser)
        self.counts.loss.add_(value.detach() * len(y))
        self.counts.right.add_((logits.detach().argmax(1) == y).sum())


class Eager:
    """Runs epochs in which the host makes each batch and sets each learning rate."""

    kind = "eager"

    def __init__(self, step: Step, batches):
        self._step, self._batches = step, batches

    def epoch(self, seed: int, epoch: int, rates: Tensor) -> Iterator[int]:
        """Yields the number of images after each step; `rates` (steps, groups) are the learning rates."""
        self._step.begin()
        for row, (x, y) in zip(rates.tolist(), self._batches.train(seed, epoch), strict=True):
            for group, rate in zip(self._step.optimiser.param_groups, row, strict=True):
                group["lr"] = rate
            self._step.train_on(x, y)
            yield len(y)


class Static:
    """Runs epochs on tensors with fixed addresses: the optimiser's learning rates are views of one tensor."""

    def __init__(
        self,
        step: Step,
        batches: StaticBatches,
        device: torch.device,
        capture: bool,
        refused: Callable[[str], None] = lambda why: None,
    ):
        self._step, self._batches, self._device = step, batches, device
        groups = step.optimiser.param_groups
        self._rate = torch.zeros(len(groups), device=device)
        for group, rate in zip(groups, self._rate, strict=True):
            group["lr"] = rate
        self._rates = self._at = torch.empty(0)
        self._keeps_gradients = type(step.method).after_step is not Method.after_step
        self._gradients: dict[BatchShape, list[Tensor | None]] = {}
        self._replays = Replays(refused) if capture else None

    @property
    def kind(self) -> str:
        """The step's name in a record."""
        return "graph" if self._replays is not None and self._replays.able else "eager"

    def epoch(self, seed: int, epoch: int, rates: Tensor) -> Iterator[int]:
        """Yields the number of images after each step; `rates` (steps, groups) are the learning rates."""
        self._step.begin()
        if not len(self._rates):
            self._rates = torch.empty_like(rates, dtype=torch.float32, device=self._device)
            self._at = torch.zeros(1, dtype=torch.int64, device=self._device)
        self._rates.copy_(rates)
        self._at.zero_()
        for shape in self._batches.epoch(seed, epoch):
            if self._replays is None:
                self._once(shape)
            else:
                self._replays(self._once, shape, self._step.recover)
            if self._keeps_gradients:
                self._show_gradients(shape)
            yield shape.images

    def _once(self, shape: BatchShape) -> None:
        self._rate.copy_(self._rates.index_select(0, self._at)[0])
        self._at.add_(1)
        self._step.train_on(*self._batches.take(shape))
        if self._keeps_gradients:
            self._gradients[shape] = [p.grad for p in self._parameters()]

    def _show_gradients(self, shape: BatchShape) -> None:
        """Gives `after_step` the gradients: a replay writes them to the tensors of its capture."""
        for p, gradient in zip(self._parameters(), self._gradients[shape], strict=True):
            p.grad = gradient

    def _parameters(self) -> list[nn.Parameter]:
        return [p for group in self._step.optimiser.param_groups for p in group["params"]]


def takes_tensors(optimiser: torch.optim.Optimizer) -> bool:
    """Whether its step takes a tensor as learning rate, so that it can be captured: fused SGD and capturable ones."""
    fused = isinstance(optimiser, torch.optim.SGD)
    return all((fused and group["fused"]) or group.get("capturable") for group in optimiser.param_groups)


def prepare_momentum(optimiser: torch.optim.Optimizer) -> None:
    """Fills the momentum of fused SGD with 0, which gives the same bits as its own start.

    Fused SGD allocates momentum without values and fills it in its first step: where GradScaler skips that step, the
    next one reads the unset memory (seen in torch 2.15). And it allocates none for tensors that get their first
    gradient later.
    """
    for group in optimiser.param_groups:
        if isinstance(optimiser, torch.optim.SGD) and group["fused"] and group["momentum"] != 0:
            for p in group["params"]:
                optimiser.state[p].setdefault("momentum_buffer", torch.zeros_like(p))
