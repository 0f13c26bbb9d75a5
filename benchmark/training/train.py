"""The one training loop: every method, and the pretraining of the backbone, runs through it."""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visual_decathlon.benchmark.config.profiles import Recipe
from visual_decathlon.benchmark.runtime.device_sharing import Shared
from visual_decathlon.benchmark.runtime.precision import autocast, half_of
from visual_decathlon.benchmark.runtime.progress import Report, notes_of
from visual_decathlon.benchmark.training.checkpoint import Checkpoint
from visual_decathlon.benchmark.training.compile import compiled
from visual_decathlon.benchmark.training.decay import parameter_groups
from visual_decathlon.benchmark.training.frozen_casts import cast_once
from visual_decathlon.benchmark.training.graph import own_stream
from visual_decathlon.benchmark.training.scaling import Scaling
from visual_decathlon.benchmark.training.schedule import learning_rate
from visual_decathlon.benchmark.training.step import Eager, Static, Step, prepare_momentum, takes_tensors
from visual_decathlon.benchmark.training.timing import Clock
from visual_decathlon.datasets.errors import InputError, option
from visual_decathlon.methods.method import Method


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
    graphs: bool | None = None,
    shared: Shared | None = None,
    report: Report = lambda epoch: None,
    setting: str = "lr",
) -> tuple[list[dict], Clock]:
    """Trains the parameters of `network` that require gradients; returns (per-epoch history, step times).

    `batches.train(seed, epoch)` yields (x, y), `batches.static()` gives the same for a captured step. The method gives
    the loss, the optimiser and the work after a step. `state` are the tensors that training changes: a checkpoint holds
    them and the optimiser's. `precision` and `compile` are the profile's; `shared` counts the runs on the device.
    `graphs` replays the step as a CUDA graph, by default on a GPU and where the method allows it; on a CPU True runs
    the same step without the capture. All of them give the same bits. A checkpoint is written after every epoch; where
    it exists, training resumes from it and ends in the same bits as an unbroken run. Raises InputError when the loss is
    not finite; `setting` is the rate's name in its sentence.
    """
    device, clock = batches.device, Clock(batches.device)
    trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
    groups = parameter_groups(network, method, recipe, len(batches))
    optimiser = method.optimiser(groups, lr, recipe.momentum, recipe.nesterov)
    saved = Checkpoint(checkpoint, state, trained, optimiser, aside=device.type != "cpu")
    history = saved.load()
    prepare_momentum(optimiser)
    scaling = Scaling(device) if precision == "fp16" else None
    if scaling and history:
        scaling.load(history[-1]["loss_scale"])
    criterion = partial(F.cross_entropy, label_smoothing=recipe.label_smoothing)
    network.train()
    with saved, _computing(network, device, precision, compile):
        step = Step(network, method, optimiser, criterion, device, partial(autocast, device, precision), scaling)
        way = _way(step, batches, device, graphs, notes_of(report))
        for epoch in range(len(history), recipe.epochs):
            rates = _rates(recipe, lr, optimiser, epoch, batches.steps)
            seconds, processor = _epoch(way, step, rates, seed, epoch, recipe.epochs, clock)
            row = {"epoch": epoch + 1, **step.epoch_row(len(batches)), "seconds": seconds, "cpu_seconds": processor}
            _finite(row, state, lr, setting)
            row["runs_on_device"] = shared and shared.most()
            history.append(row)
            saved.save(history)
            report(row)
    clock.facts["step"] = f"compiled {way.kind}".removesuffix(" eager") if compile else way.kind
    clock.facts["skipped_steps"] = sum(row["skipped"] for row in history) if scaling else None
    return history, clock


def _epoch(
    way: Eager | Static, step: Step, rates: Tensor, seed: int, epoch: int, epochs: int, clock: Clock
) -> tuple[float, float | None]:
    """Trains one epoch; returns its seconds and the processor's, see Clock."""
    clock.start()
    before = epoch * len(rates)
    for done, images in enumerate(way.epoch(seed, epoch, rates), before + 1):
        step.restart(step.method.after_step(step.network, done, epochs * len(rates)) or ())
        clock.step(images)
    return clock.stop()


@contextmanager
def _computing(network: nn.Module, device: torch.device, precision: str, compile: bool) -> Iterator[None]:
    """Context in which frozen weights are cast once and the network's body is compiled, as the profile requires.

    On a GPU it works in its own stream: the default one cannot be captured.
    """
    with ExitStack() as stack:
        if (half := half_of(precision)) is not None and device.type != "cpu":  # on a CPU it saves nothing
            stack.enter_context(cast_once(network, half))
        if compile:
            stack.enter_context(compiled(network, device))
        if device.type == "cuda":
            stream = own_stream(device)
            stream.wait_stream(torch.cuda.current_stream(device))
            stack.callback(torch.cuda.current_stream(device).wait_stream, stream)
            stack.enter_context(torch.cuda.stream(stream))
        yield


def _way(step: Step, batches, device: torch.device, graphs: bool | None, note: Callable[[str], None]) -> Eager | Static:
    """Chooses how steps are run. Where a GPU does not replay them as a CUDA graph, `note` gets the reason."""
    name = step.method.name if hasattr(step.method, "name") else "the pretraining"
    capture = device.type == "cuda"
    able = step.method.captured and takes_tensors(step.optimiser)
    if graphs is None and capture and not able:
        note(f"{name}: its step needs the host, so it is not replayed as a CUDA graph and takes longer")
    if not (capture if graphs is None else graphs) or not able:
        return Eager(step, batches)

    def refused(why: str) -> None:
        note(f"{name}: its step cannot be replayed as a CUDA graph ({why}); it goes on without, and takes longer")

    return Static(step, batches.static(), device, capture, refused)


def _rates(recipe: Recipe, lr: float, optimiser: torch.optim.Optimizer, epoch: int, steps: int) -> Tensor:
    """(steps, groups) float64: the learning rates of an epoch of `steps` steps.

    Rounded to float32 where a captured step uses float32: CUDA's fused SGD would use a plain number in float64.
    """
    scales = [group.get("scale", 1.0) for group in optimiser.param_groups]
    rates = [learning_rate(recipe, lr, epoch * steps + i, recipe.epochs * steps) for i in range(steps)]
    table = torch.tensor([[rate * scale for scale in scales] for rate in rates], dtype=torch.float64)
    return table.float().double() if takes_tensors(optimiser) else table


def _finite(row: dict, state: dict[str, Tensor], lr: float, setting: str) -> None:
    """Raises InputError where the mean loss of an epoch, or a trained tensor, is not finite."""
    lower = f"in epoch {row['epoch']}; lower the rate, as in {option('settings')}{setting}={lr / 4:g}"
    if not math.isfinite(row["loss"]):
        raise InputError(f"the loss became {row['loss']} {lower}")
    if state and not all(torch.stack([tensor.isfinite().all() for tensor in state.values()]).tolist()):
        infinite = next(name for name, tensor in state.items() if not tensor.isfinite().all())
        raise InputError(f"{infinite} became infinite {lower}")
