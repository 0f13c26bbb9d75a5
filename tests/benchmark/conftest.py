"""A tiny release of ten domains that a slim network can learn, and one finished run on it, shared by all tests."""

import contextlib
import fcntl
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.benchmark.shop import Shop
from tests.processes import Processes
from visual_decathlon.benchmark.cli.main import main
from visual_decathlon.benchmark.config.profiles import profile
from visual_decathlon.benchmark.config.specs import Run
from visual_decathlon.benchmark.runs.data import open_data
from visual_decathlon.benchmark.runs.engines import JobEnded, JobProgress
from visual_decathlon.benchmark.runs.engines.in_process import JobReport, execute_job
from visual_decathlon.benchmark.runs.job import Job
from visual_decathlon.benchmark.runs.plan import plan_runs
from visual_decathlon.benchmark.runs.request import Request
from visual_decathlon.benchmark.serving.multi_domain import MultiDomain
from visual_decathlon.datasets.annotations import write_annotations
from visual_decathlon.datasets.catalogue import DOMAINS
from visual_decathlon.methods.registry import select

ROOT = Path(__file__).parents[2]
EACH = {"train": 8, "val": 4, "test": 2}  # images of each of the three classes
TINY = "width=0.125 epochs=2 pretrain.epochs=6 batch=8 pretrain.batch=8"
METHODS = "res_adapter,feature,finetune"
QUIET = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}  # no thread spins where others wait for the core


def stripes(kind: int, seed: int, side: int = 72) -> Image.Image:
    """Stripes in the direction and colour of class `kind`, at a random phase, under noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    wave = np.sin((x, y, x + y)[kind] / 3 + rng.uniform(0, 6.3))
    pixels = 128 + 60 * wave[..., None] * np.roll([1.0, 0.5, 0.2], kind) + rng.normal(0, 8, (side, side, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def write_release(root: Path, names: Sequence[str] = tuple(DOMAINS), test_labels: bool = False) -> Path:
    """Three classes a domain; the first image of val and test shows another class, so that nobody is perfect."""
    for name in names:
        number = 1
        for split, each in EACH.items():
            rows = []
            for i in range(3 * each):
                path = root / (file := f"data/{name}/{split}/{number + i:06}.png")
                path.parent.mkdir(parents=True, exist_ok=True)
                kind = 1 if i == 0 and split != "train" else i % 3
                stripes(kind, seed=DOMAINS[name].k * 1000 + number + i).save(path, compress_level=1)
                rows.append((file, 72, 72, i % 3))
            kept = split == "test" and not test_labels
            write_annotations(root, DOMAINS[name], split, rows, "abc", "tiny", number, stripped=kept)
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
        """The one line on stderr of a command that ended with 2."""
        assert self.code == 2, self
        assert "Traceback" not in self.err
        assert self.err.count("\n") == 1 and self.err.endswith("\n") and len(self.err) > 20, self.err
        return self.err.strip()


@dataclass(frozen=True)
class Bench:
    """`python -m benchmark run` on the tiny release, with a cache that all tests share."""

    data: Path
    cache: Path
    processes: Processes

    def words(self, *words: str, results: Path, method: str = METHODS, settings: str = TINY) -> list[str]:
        """The command; an option in `words` takes the place of the usual one."""
        usual = {"--data": self.data, "--cache": self.cache, "--set": settings, "--workers": 2, "--device": "cpu"}
        given = {"--method": method, "--results": results} | {k: v for k, v in usual.items() if k not in words}
        return [sys.executable, "-m", "benchmark", "run", *(str(w) for pair in given.items() for w in pair), *words]

    def __call__(self, *words: str, **more) -> Done:
        done = self.processes.run(self.words(*words, **more), cwd=ROOT, env={**os.environ, **QUIET})
        return Done(done.returncode, done.stdout, done.stderr)

    def start(self, *words: str, **more) -> subprocess.Popen:
        """In the background, in a process group of its own, which ends with the test."""
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        words = self.words(*words, **more)
        return self.processes.start(words, cwd=ROOT, env={**os.environ, **QUIET}, **streams)


def files_below(folder: Path) -> dict[str, tuple[int, bytes]]:
    files = (p for p in sorted(folder.rglob("*")) if p.is_file())
    return {p.relative_to(folder).as_posix(): (p.stat().st_mtime_ns, p.read_bytes()) for p in files}


@pytest.fixture(scope="session")
def command(processes: Processes) -> Callable[..., Done]:
    """`command(words, cwd, **environment)` runs it to its end."""

    def ended(command: Sequence[str], cwd: Path = ROOT, **environment: str) -> Done:
        done = processes.run(command, cwd=cwd, env={**os.environ, **QUIET, **environment})
        return Done(done.returncode, done.stdout, done.stderr)

    return ended


@pytest.fixture(scope="session")
def below() -> Callable[[Path], dict[str, tuple[int, bytes]]]:
    """Every file below a folder: (time of change in ns, content) by name."""
    return files_below


@pytest.fixture(scope="session")
def release() -> Callable[..., Path]:
    """`release(root, names, test_labels)` writes a tiny release of its own."""
    return write_release


@pytest.fixture(scope="session")
def picture() -> Callable[..., Image.Image]:
    """`picture(kind, seed)`: a 72-pixel image of class 0, 1 or 2."""
    return stripes


@pytest.fixture(scope="session")
def together(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], None]], Path]:
    """`together(name, make)`: a folder that the first of all test processes makes, and the others wait for."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def once(name: str, make: Callable[[Path], None]) -> Path:
        folder, made = base / name, base / f"{name}.made"
        with open(base / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of one that failed
                folder.mkdir()
                make(folder)
                made.touch()
        return folder

    return once


@pytest.fixture(scope="session")
def tiny(together) -> Path:
    """The release of all ten domains; nobody writes into it."""
    return together("data", lambda folder: write_release(folder / "tiny")) / "tiny"


@pytest.fixture(scope="session")
def bench(tiny: Path, tmp_path_factory: pytest.TempPathFactory, processes: Processes) -> Bench:
    return Bench(tiny, tmp_path_factory.mktemp("cache"), processes)


@pytest.fixture(scope="session")
def finished(bench: Bench, together) -> Path:
    """The results folder of a finished run of three methods on ten domains; nobody writes into it.

    What it left in the cache is in this process's cache, too.
    """

    def make(folder: Path) -> None:
        done = replace(bench, cache=folder / "cache")(results=folder / "results")
        assert done.code == 0, done.err

    folder = together("finished", make)
    shutil.copytree(folder / "cache", bench.cache, dirs_exist_ok=True)
    return folder / "results"


class Inline:
    """In place of the worker processes: every job is done in this one, when its turn comes."""

    def __init__(self, count: int | None, device: str):
        self.count, self.device, self.queue = count or 2, device, []

    def __enter__(self) -> "Inline":
        return self

    def __exit__(self, *_) -> None:
        pass

    def prepare(self, most: int) -> None:
        pass

    def begin(self, todo: Collection[Run]) -> None:
        pass

    def end(self, now: bool) -> None:
        pass

    def submit(self, job: Job) -> None:
        self.queue.append(job)

    def events(self) -> Iterator[JobProgress | JobEnded]:
        while self.queue:
            job, heard = self.queue.pop(0), []
            end = execute_job(job, self.device, JobReport(heard.append))
            yield from (JobProgress(job, row) for row in heard)
            yield end


@pytest.fixture
def here(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """As `bench`, but in this process and without workers: torch is loaded once."""
    for module in ("engines.names", "rerun", "sweep"):
        monkeypatch.setattr(f"visual_decathlon.benchmark.runs.{module}.LocalEngine", Inline)

    def run(*words: str, **more) -> Done:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = main(bench.words(*words, **more)[3:])
            except SystemExit as end:
                code = end.code
        return Done(code, out.getvalue(), err.getvalue())

    return run


@pytest.fixture
def planned(bench: Bench) -> Callable[..., tuple]:
    """`planned(method, settings, **request)` gives (request, data, runs) on the tiny release, nothing trained."""

    def make(method: str = METHODS, settings: str = TINY, **more) -> tuple:
        chosen = profile("standin", settings.split())
        wanted = {"data": bench.data, "cache": bench.cache} | more
        request = Request(methods=select(method), profile=chosen, **wanted)
        data = open_data(request, lambda *_: None)
        return request, data, plan_runs(request, data, request.methods, request.seeds)

    return make


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Makes backbones and files of domains on them, nothing trained."""
    return Shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def lora(shop: Shop) -> Path:
    """The file of a domain; nobody writes into it."""
    return shop.written("lora(rank=2)")[0]


@pytest.fixture
def multi(shop: Shop) -> MultiDomain:
    """The plain backbone, with no domain yet."""
    return MultiDomain(shop.backbone("plain").path)
