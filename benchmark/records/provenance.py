"""Where a record comes from: commit, versions, machine, command."""

import contextlib
import importlib.metadata
import json
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from visual_decathlon.benchmark.config.folders import HOME
from visual_decathlon.benchmark.runtime.devices import on_cpu


class Opened(Protocol):
    """What of opened data stands in a record."""

    name: str
    id: str
    standin: bool


@dataclass(frozen=True)
class Provenance:
    """What is the same for all records of one command."""

    data: str
    data_id: str
    standin: bool
    workers: int
    command: str
    commit: str
    versions: str
    machine: str

    @classmethod
    def here(cls, data: Opened, workers: int, command: str) -> "Provenance":
        return cls(data.name, data.id, data.standin, workers, command, commit(), versions(), machine())


def commit() -> str:
    """The checkout's commit, `+` behind it where tracked files differ; empty outside git."""
    try:
        run = lambda *words: subprocess.run(("git", "-C", str(HOME), *words), capture_output=True, check=True).stdout
        changed = run("status", "--porcelain", "--untracked-files=no").strip()
        return run("rev-parse", "--short=12", "HEAD").decode("ascii", "replace").strip() + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def versions() -> str:
    """Python, what computes and decodes, and packages outside that register methods: name -> version, JSON."""
    packages = dict.fromkeys(("torch", "torchvision", "timm", "numpy", "pyarrow", "pillow"))
    points = importlib.metadata.entry_points(group="visual_decathlon.methods")
    packages |= dict.fromkeys(sorted(point.dist.name for point in points if point.dist and point.dist.name))
    return json.dumps({"python": platform.python_version(), **{name: _version(name) for name in packages}})


def _version(package: str) -> str:
    """Of an installed package; one without metadata, as built from source, says it itself where it is loaded."""
    try:
        found = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        found = None
    return str(found or getattr(sys.modules.get(package), "__version__", None) or "unknown")


def machine() -> str:
    """Processor and system, no host name."""
    model = platform.processor() or platform.machine() or "unknown processor"
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration, IndexError):
        pass
    return f"{model}, {platform.system()} {platform.machine()}".strip()


def kernels(device: str) -> dict[str, str]:
    """Which of torch's kernels compute: the version of CUDA or ROCm and of cuDNN, of Intel's compiler or of macOS, or
    the CPU's instruction set.

    cuDNN's is a number (91002 is 9.10.2), and None in a build without it; as all versions it is a text here, or not
    there.
    """
    import torch

    if on_cpu(device):
        return {"cpu": torch.backends.cpu.get_cpu_capability()}
    if device.startswith("mps"):
        return {"macos": platform.mac_ver()[0]}
    if device.startswith("xpu"):
        return {"xpu": str(torch.version.xpu)}
    said = {"cuda": torch.version.cuda, "hip": getattr(torch.version, "hip", None)}
    with contextlib.suppress(RuntimeError):  # a cuDNN that this torch does not fit
        said["cudnn"] = torch.backends.cudnn.version()
    return {name: str(version) for name, version in said.items() if version is not None}
