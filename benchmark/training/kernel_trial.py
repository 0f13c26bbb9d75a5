"""Times training steps with several memory layouts and batch norm kernels on the device."""

import contextlib
import math
import statistics
from collections.abc import Callable, Collection
from typing import NamedTuple

import torch
import torch.nn.functional as F

from visual_decathlon.benchmark.backbones.build import build
from visual_decathlon.benchmark.config.kernels import KernelChoice
from visual_decathlon.benchmark.config.profiles import Profile
from visual_decathlon.benchmark.runtime import devices
from visual_decathlon.benchmark.runtime.precision import autocast
from visual_decathlon.benchmark.training.apply_kernels import kernels_applied
from visual_decathlon.benchmark.training.graph import Replays, own_stream
from visual_decathlon.methods.registry import select


class Trial(NamedTuple):
    """The measurement of one choice."""

    ms: float  # of a training step
    loss: float
    gradient: float  # its L2 norm over all trained parameters


Measure = Callable[[Profile, str, Collection[KernelChoice]], dict[KernelChoice, Trial]]
"""measure(profile, device, choices): a trial of each choice that can be computed there."""

CLASSES = 100
WARM_UP, ROUNDS, STEPS = 5, 5, 5  # steps before the first round; rounds; steps of each choice in a round


def measure(profile: Profile, device: str, choices: Collection[KernelChoice]) -> dict[KernelChoice, Trial]:
    """Measures each choice that can be computed here: median ms of a step, loss and gradient.

    Images and weights are random, and the weights do not change. The state of the random generators is kept.
    """
    where, trials = torch.device(device), {}
    for choice in choices:
        # A choice is left out after any error: no memory, no compiler, no such kernel, no capture.
        with contextlib.suppress(Exception), devices.keeping_random_numbers(where), _stream(where):
            trial = _trial(profile, choice, where)
            if math.isfinite(trial.loss):
                trials[choice] = trial
        devices.free_cached(where)  # a small GPU has no memory for all of them at once
    return trials


def _trial(profile: Profile, choice: KernelChoice, device: torch.device) -> Trial:
    with contextlib.ExitStack() as stack:
        step = _Step(profile, choice, device, stack)
        for _ in range(WARM_UP):
            step()
        ms = statistics.median(_ms(step, device) for _ in range(ROUNDS))
        return Trial(ms, step.loss.item(), step.gradient.item())


def _refused(why: str) -> None:
    raise RuntimeError(why)


def _stream(device: torch.device) -> contextlib.AbstractContextManager:
    """The context of this process's own stream, which a capture needs."""
    return torch.cuda.stream(own_stream(device)) if device.type == "cuda" else contextlib.nullcontext()


def _ms(step: "_Step", device: torch.device) -> float:
    """Mean ms of a step, over STEPS steps."""
    devices.synchronize(device)
    start = devices.mark(device)
    for _ in range(STEPS):
        step()
    end = devices.mark(device)
    devices.synchronize(device)
    return devices.between(start, end) / STEPS


class _Step:
    """A training step of the parallel adapters on one batch, at a learning rate of 0, as a CUDA graph on a GPU.

    Where the network does not support the adapters, the step is fine-tuning's. `stack` holds the kernels' context.
    """

    def __init__(self, profile: Profile, choice: KernelChoice, device: torch.device, stack: contextlib.ExitStack):
        torch.manual_seed(0)
        to = {"device": device, "memory_format": choice.memory_format}
        (self._method,) = select("par_adapter")
        if self._method.unsupported_reason(profile.network):
            (self._method,) = select("finetune")
        source = build(profile, self._method.backbone_structure, CLASSES).requires_grad_(False).eval().to(**to)
        self._network = self._method.place(source.for_size(profile.crop), CLASSES).to(**to).train()
        stack.enter_context(kernels_applied(choice, self._network))
        recipe, shape = profile.adapt, (profile.adapt.batch, 3, profile.crop, profile.crop)
        groups = self._method.groups(self._network, recipe.weight_decay, recipe.batch)
        self._optimiser = self._method.optimiser(groups, 0.0, recipe.momentum, recipe.nesterov)
        self._x = torch.randn(shape).to(**to)
        self._y = torch.randint(CLASSES, shape[:1]).to(device)
        self._device, self._precision = device, profile.precision
        self.loss, self.gradient = (torch.zeros((), device=device) for _ in range(2))
        self._replays = None
        if device.type == "cuda":
            self._replays = Replays(_refused)

    def __call__(self) -> None:
        if self._replays is None:
            self._work(len(self._y))
        else:
            self._replays(self._work, len(self._y), lambda: None)

    def _work(self, images: int) -> None:
        with autocast(self._device, self._precision):
            value, _ = self._method.loss(self._network, self._x, self._y, F.cross_entropy)
        self._optimiser.zero_grad(set_to_none=True)
        value.backward()
        self._optimiser.step()
        self.loss.copy_(value.detach())
        gradients = [p.grad.norm() for group in self._optimiser.param_groups for p in group["params"]]
        self.gradient.copy_(torch.stack(gradients).norm())
