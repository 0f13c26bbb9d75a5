"""Where a record comes from: commit, versions, machine, command."""

import importlib.metadata
import json
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


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


def commit() -> str:
    """The checkout's commit, `+` behind it where tracked files differ; empty outside git."""
    try:
        run = lambda *words: subprocess.run(
            ("git", "-C", str(ROOT), *words), capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = run("status", "--porcelain", "--untracked-files=no")
        return run("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def versions() -> str:
    """Python, what computes and decodes, and packages outside that register methods: name -> version, JSON."""
    packages = dict.fromkeys(("torch", "torchvision", "timm", "numpy", "pyarrow", "pillow"))
    points = importlib.metadata.entry_points(group="visual_decathlon.methods")
    packages |= dict.fromkeys(sorted(point.dist.name for point in points if point.dist))
    return json.dumps({"python": platform.python_version(), **{p: importlib.metadata.version(p) for p in packages}})


def machine() -> str:
    """Processor and system, no host name."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{model}, {platform.system()} {platform.machine()}"


def kernels(device: str) -> dict[str, str | int]:
    """Which of torch's kernels computed: CUDA's and cuDNN's version, or the instruction set of the CPU's."""
    import torch

    if device.startswith("cuda"):
        return {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    return {"cpu": torch.backends.cpu.get_cpu_capability()}


def device_name(device: str) -> str:
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    return "cpu"
