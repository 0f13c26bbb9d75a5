"""Tests that need a GPU; `make gpu` runs them. Without one they are skipped, with the reason.

`GPU_TESTS_DEVICE=cpu` runs them on a CPU, without the checks that only a GPU allows: so the tests themselves are tested
everywhere.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from tests.processes import Processes
from visual_decathlon.benchmark.config.profiles import profile
from visual_decathlon.benchmark.perf.decathlon import Trained, train_drawn
from visual_decathlon.datasets.catalogue import DOMAINS
from visual_decathlon.methods.registry import select

ROOT = Path(__file__).parents[2]
DEVICE = os.environ.get("GPU_TESTS_DEVICE", "cuda:0")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks this folder's tests as `gpu`, and skips them where there is no GPU."""
    absent = DEVICE.startswith("cuda") and not torch.cuda.is_available()
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            if absent:
                item.add_marker(pytest.mark.skip(reason="torch sees no GPU here; make gpu runs it where there is one"))


@pytest.fixture(scope="session")
def device() -> str:
    return DEVICE


@pytest.fixture(scope="session")
def on_gpu() -> bool:
    """False where the tests run on a CPU."""
    return DEVICE.startswith("cuda")


@pytest.fixture(scope="session")
def trained() -> Callable[..., Trained]:
    """`trained(method, *settings, graphs=None, choice=None)`: two epochs of the stand-ins' recipe from the same start.

    330 images are 21 batches of 15 or 16: of two sizes.
    """

    def run(name: str, *settings: str, images: int = 330, **how) -> Trained:
        (method,) = select(name)
        return train_drawn(method, DOMAINS["dtd"], images, profile("standin", settings), DEVICE, **how)

    return run


@dataclass(frozen=True)
class Done:
    """A command that ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Bench:
    """The command line on the stand-ins, with one cache for all tests of the session."""

    cache: Path
    processes: Processes

    def words(self, command: str, *words: str, results: Path) -> list[str]:
        """The words of a command that takes a device; files bundled with the suite are used as usual."""
        device = DEVICE.partition(":")[0]
        folders = ["--results", str(results), "--cache", str(self.cache), "--device", device]
        return [sys.executable, "-m", "benchmark", command, *words, *folders]

    def __call__(self, command: str, *words: str, results: Path) -> Done:
        """Runs a command to its end."""
        done = self.processes.run(self.words(command, *words, results=results), cwd=ROOT)
        print(done.stdout, done.stderr)  # pytest shows it where the test fails
        return Done(done.returncode, done.stdout, done.stderr)

    def start(self, command: str, *words: str, results: Path) -> subprocess.Popen:
        """Starts a command in the background, in its own process group, which ends with the test."""
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return self.processes.start(self.words(command, *words, results=results), cwd=ROOT, **streams)


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory, processes: Processes) -> Callable[..., Done]:
    return Bench(tmp_path_factory.mktemp("cache"), processes)
