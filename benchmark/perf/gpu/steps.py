"""Training steps on a device: the suite's own loop against an eager loop and the reference's way, in one process.

Ours is a training on random pixels with the suite's loop: its times include making the batches. The baselines have one
batch on the device. "eager" is the step of commit f0db49d: channels_last, autocast, the learning rate as a number, a
loop in Python, kernels that are not deterministic. "The reference's way" is NCHW, adapters in parallel to the
convolutions, float32, in the same loop.
"""

import dataclasses
import time
from collections.abc import Callable

import torch

from visual_decathlon.benchmark.config.profiles import Profile
from visual_decathlon.benchmark.perf import network as net
from visual_decathlon.benchmark.perf.decathlon import Trained, free, train_drawn
from visual_decathlon.benchmark.perf.gpu.effort import Effort, Size
from visual_decathlon.benchmark.perf.gpu.rows import Keep, Row, row
from visual_decathlon.benchmark.runtime.devices import synchronize
from visual_decathlon.benchmark.runtime.numerics import configure_torch
from visual_decathlon.benchmark.training.timing import Peak
from visual_decathlon.datasets.catalogue import DOMAINS
from visual_decathlon.methods.registry import select

EAGER, REFERENCE, OURS, COMPILED = "eager of f0db49d", "reference's way", "the loop", "the loop, compiled"
_DOMAIN = DOMAINS["aircraft"]  # 100 classes, cropped, flipped
_WARM = 5  # steps before the clock


def step(effort: Effort, keep: Keep) -> None:
    """The first goal: par_adapter in bf16 against both baselines; and the peak memory of a step."""
    _against_eager(effort, keep, "step", "par_adapter", "bf16", reference=True)
    _peak(effort, keep)


def methods(effort: Effort, keep: Keep) -> None:
    """The other three methods in bf16."""
    for name in ("finetune", "bn_adapt", "res_adapter"):
        _against_eager(effort, keep, "methods", name, "bf16")


def fp32(effort: Effort, keep: Keep) -> None:
    """Four methods in float32 against the reference's way."""
    for name in ("par_adapter", "finetune", "bn_adapt", "res_adapter"):
        baseline = eager(name, effort.paper.profile(), effort, reference=True)
        speeds = ours(name, effort.paper.profile(), effort).speeds()
        keep(row("fp32", f"{name} step, fp32", OURS, speeds, REFERENCE, baseline, goal=f"{name} fp32 / reference"))


def precisions(effort: Effort, keep: Keep) -> None:
    """Four methods in tf32 against eager tf32, and in fp16, which f0db49d did not have, against eager bf16."""
    for precision, before in (("tf32", "tf32"), ("fp16", "bf16")):
        for name in ("par_adapter", "finetune", "bn_adapt", "res_adapter"):
            baseline = eager(name, effort.paper.profile(f"precision={before}"), effort)
            speeds = ours(name, effort.paper.profile(f"precision={precision}"), effort).speeds()
            keep(row("precisions", f"{name} step, {precision}", OURS, speeds, f"{EAGER}, {before}", baseline))


def small(effort: Effort, keep: Keep) -> None:
    """A step at the stand-ins' size, in ms, in fp32 as their profile has it, and in bf16."""
    for precision in ("fp32", "bf16"):
        chosen = effort.standin.profile(f"precision={precision}")
        baseline = _ms(eager("par_adapter", chosen, effort), chosen)
        speeds = _ms(ours("par_adapter", chosen, effort).speeds(), chosen)
        goal = "small step" if precision == "fp32" else None
        what = f"par_adapter step at the stand-ins' size, {precision}"
        keep(row("small", what, OURS, speeds, EAGER, baseline, unit="ms", goal=goal))


def compiled(effort: Effort, keep: Keep) -> None:
    """par_adapter with torch.compile and the graph, at both sizes, and the time of the compilation."""
    for size, precision in ((effort.paper, "bf16"), (effort.standin, "fp32")):
        plain = size.profile(f"precision={precision}")
        chosen = dataclasses.replace(plain, compile=True)
        what = f"par_adapter step, {_named(size, effort)}, {precision}"
        baseline = eager("par_adapter", plain, effort)
        trained = ours("par_adapter", chosen, effort)
        keep(row("compiled", what, COMPILED, trained.speeds(), EAGER, baseline))
        keep(row("compiled", f"{what}: before a steady step", COMPILED, [trained.start()], unit="s"))


def deterministic(effort: Effort, keep: Keep) -> None:
    """The deterministic step, which is the default, against the one that is not."""
    chosen = effort.paper.profile("precision=bf16")
    free_speeds = ours("par_adapter", dataclasses.replace(chosen, deterministic=False), effort).speeds()
    speeds = ours("par_adapter", chosen, effort).speeds()
    keep(row("deterministic", "par_adapter step, bf16", "deterministic", speeds, "not deterministic", free_speeds))


def _against_eager(effort: Effort, keep: Keep, part: str, name: str, precision: str, reference: bool = False) -> None:
    """A line against the eager loop at the same precision, and one against the reference's way in fp32 if wanted."""
    chosen = effort.paper.profile(f"precision={precision}")
    baseline = eager(name, chosen, effort)
    speeds = ours(name, chosen, effort).speeds()
    what = f"{name} step, {precision}"
    keep(row(part, what, OURS, speeds, EAGER, baseline, goal=f"{name} {precision} / eager {precision}"))
    if reference:
        baseline = eager(name, effort.paper.profile(), effort, reference=True)
        keep(row(part, what, OURS, speeds, f"{REFERENCE}, fp32", baseline, goal=f"{name} {precision} / reference"))


def _peak(effort: Effort, keep: Keep) -> None:
    """Peak memory of the same training with the default step and in the eager loop."""
    chosen, peaks = effort.paper.profile("precision=bf16"), []
    for graphs in (None, False):
        free(effort.device)
        peak = Peak(torch.device(effort.device))
        ours("par_adapter", chosen, effort, graphs=graphs)
        peaks.append(peak.mb())
    what = "par_adapter training, bf16: peak memory"
    if None in peaks:
        keep(Row("step", what, note="this system does not tell a process's peak"))
    else:
        keep(row("step", what, OURS, peaks[:1], "its eager loop", peaks[1:], unit="MB", goal="peak"))


def ours(name: str, chosen: Profile, effort: Effort, graphs: bool | None = None) -> Trained:
    """A training of `rounds` epochs of `steps` steps each, after an epoch that warms up."""
    (method,) = select(name)
    images = effort.steps * chosen.adapt.batch
    how = {"epochs": 1 + effort.rounds, "graphs": graphs, "choice": effort.choice(chosen)}
    return train_drawn(method, _DOMAIN, images, chosen, effort.device, **how)


def eager(name: str, chosen: Profile, effort: Effort, reference: bool = False) -> list[float]:
    """Images per second of the eager loop, for each round of `steps` steps."""
    (method,) = select(name)
    free(effort.device)
    configure_torch(dataclasses.replace(chosen, deterministic=False), effort.device)
    torch.backends.cudnn.benchmark = True  # as when the goals were set: whichever kernel is fastest
    network = net.placed(method, chosen.width, chosen.crop)
    if reference:
        network = net.reference_way(network)
    inputs = net.pixels(chosen.adapt.batch, chosen.crop)
    variant = net.training("", method, network.to(effort.device), inputs, bf16=chosen.precision == "bf16")
    for _ in range(_WARM):
        variant.work()
    return [_speed(variant.work, effort) for _ in range(effort.rounds)]


def _speed(work: Callable[[], int], effort: Effort) -> float:
    """Images per second of one round."""
    synchronize(effort.device)
    begin = time.perf_counter()
    images = sum(work() for _ in range(effort.steps))
    synchronize(effort.device)
    return images / (time.perf_counter() - begin)


def _ms(speeds: list[float], chosen: Profile) -> list[float]:
    """Milliseconds of a step, from images per second."""
    return [1e3 * chosen.adapt.batch / speed for speed in speeds]


def _named(size: Size, effort: Effort) -> str:
    return "the stand-ins' size" if size == effort.standin else "width 1, 64 px, batch 128"
