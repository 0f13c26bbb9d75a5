"""Chooses a run's memory layout and batch norm kernels: the fastest on its device, measured once.

On an H100 the ResNet-26 is faster in channels_last with bf16 and tf32 and slower in fp32, so no rule holds for all. The
choice changes the rounding: it is recorded, and a rerun takes the recorded one. On a CPU nothing is measured:
channels_last was faster in every measurement (results/perf.md).
"""

import contextlib
import fcntl
import hashlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from visual_decathlon.benchmark.config.kernels import LAYOUTS, NORMS, KernelChoice
from visual_decathlon.benchmark.config.profiles import Profile
from visual_decathlon.benchmark.runtime import devices
from visual_decathlon.datasets.errors import InputError, option
from visual_decathlon.datasets.io import write_bytes

if TYPE_CHECKING:
    from visual_decathlon.benchmark.training.kernel_trial import Measure, Trial

FILE, LOCK = "layouts.json", "layouts.lock"  # in the cache's folder of backbones
MARGIN = 1.03  # speed-up below which the default stays: a smaller one may be noise
NEAR = {"fp32": 1e-3, "tf32": 1e-2, "bf16": 5e-2, "fp16": 1e-2}  # how far two losses differ by rounding, relative

_PROCESS_CHOICES: dict[tuple[Path, str], KernelChoice] = {}
"""Choices of this process alone, where not all could be measured: a run asks several times."""


def default_kernels(network: str, device: str) -> KernelChoice:
    """channels_last, except with strided 1x1 convolutions on a CPU, whose weight gradient can crash there."""
    safe = network == "resnet26" or not devices.on_cpu(device)
    return KernelChoice("channels_last" if safe else "contiguous", "plain")


def choose_kernels(
    profile: Profile, device: str, cache: Path, given: KernelChoice | None, measure: "Measure | None" = None
) -> KernelChoice:
    """The choice for a training with the profile's `adapt` recipe; `given` is the recorded one of a rerun.

    Where several processes ask at once, one measures. The result is kept in `cache`; a file there that cannot be read
    is overwritten. Raises InputError where `cache` cannot be written.
    """
    plain = default_kernels(profile.network, device)
    if devices.on_cpu(device):
        return plain
    fused = not profile.compile and _fused_norms(device)  # torch.compile fuses norms by itself
    if given is not None:
        return given if fused else KernelChoice(given.layout, "plain")
    choices = [KernelChoice(layout, norm) for layout in LAYOUTS for norm in (NORMS if fused else NORMS[:1])]
    path, key = cache / FILE, _key(profile, device)
    with _lock(cache):
        kept = _read(path)
        if (known := _choice(kept.get(key))) in choices:
            return known
        if measure is None:
            from visual_decathlon.benchmark.training.kernel_trial import measure
        if (path, key) in _PROCESS_CHOICES:
            return _PROCESS_CHOICES[path, key]
        trials = measure(profile, device, choices)
        best = fastest(trials, plain, NEAR[profile.precision]) if plain in trials else plain
        if len(trials) < len(choices):  # perhaps out of memory: it says nothing about another process
            _PROCESS_CHOICES[path, key] = best
            return best
        measured = {f"{choice.layout}, {choice.norm}": trial._asdict() for choice, trial in trials.items()}
        kept[key] = {"layout": best.layout, "norm": best.norm, "trials": measured}
        write_bytes(json.dumps(kept, indent=1).encode(), path, "CACHE")
    return best


@contextlib.contextmanager
def _lock(cache: Path) -> Iterator[None]:
    """Context in which no other process measures for this cache. Raises InputError where it cannot be written."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        lock = open(cache / LOCK, "w")  # noqa: SIM115  closed below
    except OSError as error:
        raise InputError(
            f"{cache} cannot be written ({error.strerror}); name another folder with {option('cache')}"
        ) from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def fastest(trials: "dict[KernelChoice, Trial]", plain: KernelChoice, near: float) -> KernelChoice:
    """The fastest choice with the loss and gradient of `plain`; `plain` where none is faster by MARGIN."""
    wanted = trials[plain]
    sound = {
        choice: trial.ms
        for choice, trial in trials.items()
        if math.isclose(trial.loss, wanted.loss, rel_tol=near)
        and math.isclose(trial.gradient, wanted.gradient, rel_tol=10 * near)
    }
    best = min(sound, key=sound.get, default=plain)
    return best if sound.get(best, trials[plain].ms) * MARGIN < trials[plain].ms else plain


def _fused_norms(device: str) -> bool:
    import torch

    from visual_decathlon.benchmark.training.fused_norm import available

    return available(torch.device(device))


def _key(profile: Profile, device: str) -> str:
    """The key of a measurement: everything that decides which choice is fastest."""
    import torch

    size = f"width {profile.width:g}, {profile.crop} px, batch {profile.adapt.batch}"
    how = [profile.precision, "deterministic" if profile.deterministic else "not deterministic"]
    how += ["compiled"] * profile.compile
    kernels = hashlib.sha256(Path(__file__).with_name("norm_kernels.py").read_bytes()).hexdigest()[:8]
    how.append(f"kernels {kernels}")
    return ", ".join([devices.name(device), f"torch {torch.__version__}", profile.network, size, *how])


def _read(path: Path) -> dict:
    """Earlier measurements by key; {} where there is no readable file."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _choice(entry) -> KernelChoice | None:
    try:
        return KernelChoice(entry["layout"], entry["norm"])
    except (TypeError, LookupError):
        return None
