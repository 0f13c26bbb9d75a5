"""The fused batch norm: its cases in their own process, and its kernels compiled for GPUs that are not present."""

import os
import sys
from pathlib import Path

import pytest
import torch

from visual_decathlon.benchmark.training.fused_norm import available, fused_norms

HERE = Path(__file__).parent


def environment(tmp_path, **more) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ".", "TRITON_CACHE_DIR": str(tmp_path), **more}


@pytest.mark.slow  # by construction: Triton's interpreter
def test_cases(processes, tmp_path):
    """On the GPU where there is one, else in Triton's interpreter."""
    pytest.importorskip("triton")
    interpreted = {} if torch.cuda.is_available() else {"TRITON_INTERPRET": "1"}
    command = [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:randomly", str(HERE / "fused_norm_cases.py")]
    done = processes.run(command, cwd=HERE.parents[2], env=environment(tmp_path, **interpreted))
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "skipped" not in done.stdout


@pytest.mark.parametrize(
    "target",
    [pytest.param(t, marks=pytest.mark.slow) for t in ("cuda 75", "cuda 80", "cuda 90", "hip gfx942")],
)
def test_every_launch_compiles_for_a_gpu(target, processes, tmp_path):
    """Without a GPU: arguments are bound and kernels compiled as for a launch, but not launched."""
    pytest.importorskip("triton")
    command = [sys.executable, "-W", "error", str(HERE / "compiled_norm.py"), *target.split()]
    done = processes.run(command, cwd=HERE.parents[2], env=environment(tmp_path))
    assert done.returncode == 0, done.stderr[-4000:]
    kernels = {line.split()[0]: int(line.split()[1]) for line in done.stdout.splitlines()}
    assert kernels.keys() == {
        "_partial_moments", "_combine_moments", "_normalise", "_partial_sums", "_combine_sums", "_input_gradient"
    }  # fmt: skip


def test_a_cpu_has_no_fused_norm():
    assert not available(torch.device("cpu"))


@pytest.mark.parametrize(("capability", "there"), [((9, 0), True), ((7, 0), True), ((6, 1), False)])
def test_from_compute_capability_7_on(capability, there, monkeypatch):
    pytest.importorskip("triton")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert available(torch.device("cuda", 0)) == there


def test_without_triton(monkeypatch):
    monkeypatch.setattr("visual_decathlon.benchmark.training.fused_norm.find_spec", lambda name: None)
    assert not available(torch.device("cuda", 0))


def test_on_a_cpu_the_fused_norm_is_torchs_to_the_bit():
    pytest.importorskip("triton")
    torch.manual_seed(0)
    norm, plain = torch.nn.BatchNorm2d(4), torch.nn.BatchNorm2d(4)
    x = torch.randn(2, 4, 5, 5).contiguous(memory_format=torch.channels_last)
    with fused_norms(norm):
        assert torch.equal(norm(x, relu=True), torch.relu(plain(x)))
    assert torch.equal(norm.running_var, plain.running_var)
