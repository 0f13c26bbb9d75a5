"""On a device: the kernels of the fused batch norm against torch's own, forward, gradients and statistics."""

import os
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).parents[1] / "benchmark" / "training" / "fused_norm_cases.py"
WANTED = "float64 or low_precision or same_bits_twice or step_of_a_method"


def test_the_kernels_are_as_near_to_float64_as_torch(processes, on_gpu: bool):
    if not on_gpu:
        pytest.skip("tests/benchmark/training runs them in Triton's interpreter")
    command = [sys.executable, "-m", "pytest", "-n", "0", "-x", str(CASES), "-k", WANTED]
    done = processes.run(command, cwd=CASES.parents[3], env={**os.environ, "PYTHONPATH": path()})
    assert done.returncode == 0, done.stdout[-4000:]
    assert "skipped" not in done.stdout and "passed" in done.stdout


def path() -> str:
    """PYTHONPATH with the checkout in front of the user's entries."""
    return os.pathsep.join(filter(None, [str(CASES.parents[3]), os.environ.get("PYTHONPATH")]))
