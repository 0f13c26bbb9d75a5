"""The origin of records: commit, versions, machine, command."""

import contextlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from visual_decathlon.benchmark.config.folders import HOME, IN_CHECKOUT
from visual_decathlon.benchmark.runtime.devices import on_cpu


class Opened(Protocol):
    """The attributes of opened data that a record keeps."""

    name: str
    id: str
    standin: bool


@dataclass(frozen=True)
class Provenance:
    """The fields that all records of one command share, on whatever machine each run is executed."""

    data: str
    data_id: str
    standin: bool
    workers: int
    command: str
    commit: str
    versions: str

    @classmethod
    def here(cls, data: Opened, workers: int, command: str) -> "Provenance":
        """Returns the provenance of this process and checkout."""
        return cls(data.name, data.id, data.standin, workers, command, commit(), versions())


def commit() -> str:
    """Returns the checkout's commit, followed by `+` where tracked files differ; "" outside git or if installed."""
    if not IN_CHECKOUT:  # another repository may hold the environment that the suite is installed in
        return ""
    try:
        quiet = os.environ | {"GIT_OPTIONAL_LOCKS": "0"}  # status would refresh the index, and lock it
        command = ("git", "-C", str(HOME))
        run = lambda *words: subprocess.run((*command, *words), capture_output=True, check=True, env=quiet).stdout
        changed = run("status", "--porcelain", "--untracked-files=no").strip()
        return run("rev-parse", "--short=12", "HEAD").decode("ascii", "replace").strip() + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def versions() -> str:
    """Returns JSON, name -> version: of Python, of the libraries, and of packages that register methods."""
    packages = dict.fromkeys(("torch", "torchvision", "timm", "numpy", "pyarrow", "pillow"))
    points = importlib.metadata.entry_points(group="visual_decathlon.methods")
    packages |= dict.fromkeys(sorted(point.dist.name for point in points if point.dist and point.dist.name))
    return json.dumps({"python": platform.python_version(), **{name: _version(name) for name in packages}})


def _version(package: str) -> str:
    """Returns a package's version: from its metadata, or, as of one built from source, from the loaded module."""
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        version = None
    return str(version or getattr(sys.modules.get(package), "__version__", None) or "unknown")


def machine() -> str:
    """Returns processor and system, without the name of the host."""
    model = platform.processor() or platform.machine() or "unknown processor"
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration, IndexError):
        pass
    return f"{model}, {platform.system()} {platform.machine()}".strip()


def kernels(device: str) -> dict[str, str]:
    """Returns the versions that decide torch's kernels on the device: name -> version.

    They are those of CUDA or ROCm and cuDNN, of Intel's compiler or of macOS, or the instruction set of the CPU. That
    of cuDNN is a number in torch (91002 is 9.10.2), and None in a build without it: here it is a string, or absent.
    """
    import torch

    if on_cpu(device):
        return {"cpu": torch.backends.cpu.get_cpu_capability()}
    if device.startswith("mps"):
        return {"macos": platform.mac_ver()[0]}
    if device.startswith("xpu"):
        return {"xpu": str(torch.version.xpu)}
    known = {"cuda": torch.version.cuda, "hip": getattr(torch.version, "hip", None)}
    with contextlib.suppress(RuntimeError):  # a cuDNN that this torch does not fit
        known["cudnn"] = torch.backends.cudnn.version()
    return {name: str(version) for name, version in known.items() if version is not None}
