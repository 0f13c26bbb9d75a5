"""The size and the device of the measurements: full size on a GPU, tiny where a test runs the same code."""

from dataclasses import dataclass
from pathlib import Path

from visual_decathlon.benchmark.config.kernels import KernelChoice
from visual_decathlon.benchmark.config.profiles import Profile, profile
from visual_decathlon.benchmark.runtime.numerics import configure_torch
from visual_decathlon.benchmark.training.kernel_choice import choose_kernels


@dataclass(frozen=True)
class Size:
    """A profile with settings, as PROFILE= and SET= name them."""

    name: str
    settings: tuple[str, ...] = ()

    def profile(self, *settings: str) -> Profile:
        """The profile with further settings, such as "precision=bf16"."""
        return profile(self.name, (*self.settings, *settings))


@dataclass(frozen=True)
class Effort:
    """Device, folder and sizes of every step."""

    device: str  # "cuda:0"; tests take "cpu"
    work: Path  # an empty folder, removed after the step
    paper: Size = Size("decathlon")  # width 1, 64 px, batch 128
    standin: Size = Size("standin")  # width 0.25, 32 px, batch 16
    steps: int = 40  # in a round
    rounds: int = 3
    share: float = 1.0  # of the official images of the nine domains
    pretraining: int = 50_000  # drawn images, of imagenet12's 1.2 million
    processes: tuple[int, ...] = (1, 2, 4, 8)  # side by side
    epochs: tuple[int, int] = (20, 4)  # of a run of these processes, at the stand-ins' size and at the paper's

    def choice(self, profile: Profile) -> KernelChoice:
        """Layout and batch norm as in a run; the measurements for the choice are kept for the other steps."""
        configure_torch(profile, self.device)
        return choose_kernels(profile, self.device, self.work.parent / "layouts", None)
