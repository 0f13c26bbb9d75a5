"""`python -m benchmark gpu`: tests and measures on a GPU within eight minutes; without a GPU it does nothing."""

import sys
import time
from argparse import ArgumentParser, Namespace
from importlib import import_module
from importlib.util import find_spec

from visual_decathlon.benchmark.cli import arguments
from visual_decathlon.benchmark.config.folders import WORK
from visual_decathlon.benchmark.perf.gpu.plan import BUDGET, PLAN
from visual_decathlon.datasets.errors import InputError

# The packages that the suite and its tests import. fvcore is imported to check it: its own imports may be missing.
_NEEDED = ("torchvision", "numpy", "PIL", "pandas", "pyarrow", "timm", "rich", "matplotlib", "scipy") + (
    *("safetensors", "msgspec", "pynvml", "pytest"),
)


def add_arguments(parser: ArgumentParser) -> None:
    """Add the folders and the steps to run."""
    arguments.add_folders(parser, WORK / "results" / "perf")
    arguments.add_only(parser, "STEP", "steps; all by default")


def run(args: Namespace) -> int:
    """0: no GPU, or every step that was started succeeded; 1: a step or a test failed; 2: a package is missing."""
    begin = time.monotonic()  # imports from here on are part of the eight minutes
    names = list(dict.fromkeys(args.only)) or [step.name for step in PLAN]
    if unknown := [name for name in names if name not in {step.name for step in PLAN}]:
        raise InputError(
            f"ONLY={unknown[0]}: there is no step of this name; choose from {', '.join(s.name for s in PLAN)}"
        )
    _check_installed("torch")
    import torch

    if not torch.cuda.is_available():
        print("torch sees no GPU here, so nothing was tested, measured or written")
        return 0
    for package in _NEEDED:
        _check_installed(package)
    _check_import("fvcore.nn")
    from visual_decathlon.benchmark.perf.gpu.session import run_steps

    steps = [step for step in PLAN if step.name in names]
    return 0 if run_steps(steps, args.results, args.cache, end_by=begin + BUDGET) else 1


def _check_installed(package: str) -> None:
    if find_spec(package) is None:
        raise InputError(_missing(package))


def _check_import(module: str) -> None:
    try:
        import_module(module)
    except ModuleNotFoundError as error:
        raise InputError(_missing(error.name or module)) from None


def _missing(package: str) -> str:
    return (
        f"this Python ({sys.executable}) has no package {package.partition('.')[0]}; install it, or put a folder that "
        "holds it on PYTHONPATH"
    )
