"""A tiny release of ten domains that a slim network can learn, and one finished run on it, shared by all tests."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.annotations import write_annotations
from datasets.catalogue import DOMAINS

ROOT = Path(__file__).parents[2]
EACH = {"train": 8, "val": 4, "test": 2}  # images of each of the three classes
TINY = ("width=0.125", "epochs=2", "pretrain.epochs=2", "batch=8", "pretrain.batch=8")
METHODS = "res_adapter,feature,finetune"


def stripes(label: int, seed: int, side: int = 72) -> Image.Image:
    """Stripes in the class's direction and colour, at a random phase, under noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    wave = np.sin((x, y, x + y)[label] / 3 + rng.uniform(0, 6.3))
    pixels = 128 + 60 * wave[..., None] * np.roll([1.0, 0.5, 0.2], label) + rng.normal(0, 8, (side, side, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def write_release(root: Path, names: Sequence[str] = tuple(DOMAINS)) -> Path:
    """Three classes a domain; the test split with its labels kept back, as released."""
    for name in names:
        number = 1
        for split, each in EACH.items():
            rows = []
            for i in range(3 * each):
                file = f"data/{name}/{split}/{number + i:06}.png"
                path = root / file
                path.parent.mkdir(parents=True, exist_ok=True)
                stripes(i % 3, seed=DOMAINS[name].k * 1000 + number + i).save(path, compress_level=1)
                rows.append((file, 72, 72, i % 3))
            write_annotations(root, DOMAINS[name], split, rows, "abc", "tiny", number, stripped=split == "test")
            number += len(rows)
    return root


@dataclass(frozen=True)
class Done:
    """A command that ended."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """What stands on stderr, which must be one line."""
        assert self.code == 2, self
        assert "Traceback" not in self.err and self.err.count("\n") == 1 and self.err.strip(), self.err
        return self.err.strip()


@dataclass(frozen=True)
class Bench:
    """`python -m benchmark run` on the tiny release, with a cache of its own that all tests share."""

    data: Path
    cache: Path

    def words(self, *words: str, results: Path, method: str = METHODS, tiny: Sequence[str] = TINY) -> list[str]:
        command = [sys.executable, "-m", "benchmark", "run", "--method", method, "--results", str(results)]
        if "--data" not in words:
            command += ["--data", str(self.data)]
        if "--cache" not in words:
            command += ["--cache", str(self.cache)]
        return [*command, "--device", "cpu", "--set", " ".join(tiny), *words]

    def __call__(self, *words: str, **more) -> Done:
        return ended(self.words(*words, **more))


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", **more}


def ended(command: Sequence[str], cwd: Path = ROOT, **more: str) -> Done:
    done = subprocess.run(command, cwd=cwd, env=environment(**more), capture_output=True, text=True, timeout=300)
    return Done(done.returncode, done.stdout, done.stderr)


def below(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below `folder`: (time of change in ns, content) by name."""
    files = (p for p in sorted(folder.rglob("*")) if p.is_file())
    return {p.relative_to(folder).as_posix(): (p.stat().st_mtime_ns, p.read_bytes()) for p in files}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The release; nobody writes into it."""
    return write_release(tmp_path_factory.mktemp("data") / "tiny")


@pytest.fixture(scope="session")
def bench(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tiny, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def finished(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results folder of a finished run of three methods on ten domains; nobody writes into it."""
    results = tmp_path_factory.mktemp("finished")
    done = bench(results=results)
    assert done.code == 0, done.err
    return results
