"""The one training loop: every method, and the pretraining of the backbone, runs through it."""

import math
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.checkpoint import Checkpoint
from benchmark.compiled import compiled
from benchmark.profiles import Recipe
from benchmark.progress import Report
from benchmark.schedule import learning_rate
from benchmark.sharing import Shared
from benchmark.timing import Clock
from datasets.errors import BadInput
from methods.method import Method


def train(
    network: nn.Module,
    method: Method,
    batches,
    recipe: Recipe,
    *,
    lr: float,
    seed: int,
    state: dict[str, Tensor],
    checkpoint: Path,
    precision: str = "fp32",
    compile: bool = False,
    shared: Shared | None = None,
    report: Report = lambda epoch: None,
) -> tuple[list[dict], Clock]:
    """Train what requires gradients in `network` and return (per-epoch history, step times).

    `batches.train(seed, epoch)` yields (x, y); loss, optimiser and what follows a step are the method's.
    `state` are the tensors that a checkpoint must hold beside the optimiser's: all that training changes.
    `precision` and `compile` are the profile's; `shared` tells how many runs are on the device. After every epoch
    `state` and the optimiser's are written to `checkpoint`; where it exists training goes on from it, to the same bits
    as an unbroken run. Raises BadInput when the loss is not finite.
    """
    trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
    groups = method.groups(network, recipe.decay, len(batches))
    optimiser = method.optimiser(groups, lr, recipe.momentum, recipe.nesterov)
    criterion = partial(F.cross_entropy, label_smoothing=recipe.smoothing)
    saved = Checkpoint(checkpoint, state, trained, optimiser)
    history = saved.load()
    device = batches.device
    clock = Clock(device)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
    steps = recipe.epochs * batches.steps
    network.train()
    shown = compiled(network, device) if compile else network
    for epoch in range(len(history), recipe.epochs):
        total = torch.zeros((), device=device)
        right = torch.zeros((), dtype=torch.int64, device=device)
        clock.start()
        for i, (x, y) in enumerate(batches.train(seed, epoch)):
            done = epoch * batches.steps + i
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(recipe, lr, done, steps) * group.get("scale", 1.0)
            with autocast:
                value, logits = method.loss(shown, x, y, criterion)
            optimiser.zero_grad(set_to_none=True)
            value.backward()
            optimiser.step()
            method.after_step(network, done + 1, steps)
            total += value.detach() * len(y)
            right += (logits.detach().argmax(1) == y).sum()
            clock.step(len(y))
        seconds, processor = clock.stop()
        mean = total.item() / len(batches)
        if not math.isfinite(mean):
            raise BadInput(f"the loss became {mean} in epoch {epoch + 1}; lower the rate, as in SET=lr={lr / 4:g}")
        if lost := [name for name, tensor in state.items() if not tensor.isfinite().all()]:
            raise BadInput(f"{lost[0]} became infinite in epoch {epoch + 1}; lower the rate, as in SET=lr={lr / 4:g}")
        row = {"epoch": epoch + 1, "loss": mean, "train_top1": 100 * right.item() / len(batches)}
        row |= {"seconds": seconds, "cpu_seconds": processor, "runs_on_device": shared and shared.most()}
        history.append(row)
        saved.save(history)
        report(row)
    return history, clock
