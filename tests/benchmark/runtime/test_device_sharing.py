"""The number of runs that share a device, and the measurements that belong to one run alone."""

import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch

from visual_decathlon.benchmark.records.build import max_or_none, sum_or_none
from visual_decathlon.benchmark.runtime import device_sharing
from visual_decathlon.benchmark.runtime.numerics import nondeterministic_operation
from visual_decathlon.benchmark.runtime.nvml import computing, millijoules
from visual_decathlon.benchmark.training.timing import Clock, Energy

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch):
    """Gives the test a folder for notes of its own."""
    monkeypatch.setattr(device_sharing.tempfile, "gettempdir", lambda: str(tmp_path))


def test_every_run_knows_the_largest_number_of_runs_in_its_time():
    with device_sharing.sharing("cpu") as first:
        assert first.most() == 1
        with device_sharing.sharing("cpu") as second, device_sharing.sharing("cpu") as third:
            assert [run.most() for run in (first, second, third)] == [3, 3, 3]
        with device_sharing.sharing("cpu") as later:
            assert [first.most(), later.most()] == [3, 2]
        with device_sharing.sharing("mps:0") as elsewhere:
            assert elsewhere.most() == 1
    with device_sharing.sharing("cpu") as last:
        assert last.most() == 1


def test_a_killed_run_is_not_counted(tmp_path: Path):
    script = (
        "import os, signal, tempfile\nfrom visual_decathlon.benchmark.runtime.device_sharing import sharing\n"
        f"tempfile.gettempdir = lambda: {str(tmp_path)!r}\n"
        "with sharing('cpu') as shared:\n    print(shared.most(), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    with device_sharing.sharing("cpu") as shared:
        done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
        assert done.stdout == "2\n" and shared.most() == 2, done.stderr
        folder = next(tmp_path.iterdir()) / "cpu"
        assert len(list(folder.glob("[!.]*"))) == 2
        device_sharing.sweep_notes("cpu")
        assert len(list(folder.glob("[!.]*"))) == 1, "those of the killed one are gone"
    with device_sharing.sharing("cpu") as after:
        assert after.most() == 1


def test_an_unknown_number_is_null(tmp_path: Path):
    (tmp_path / f"visual-decathlon-{os.getuid()}").write_text("in the way")
    with device_sharing.sharing("cpu") as shared:
        assert shared.most() is None


def test_other_programs_on_a_gpu_are_counted(monkeypatch):
    """NVML counts them. Waiting processes of a command with noted runs have a context, but are not counted."""
    parents = {10: 1, 11: 1, 12: 1, 20: 2, 30: 3}
    monkeypatch.setattr(device_sharing, "_parent", parents.get)
    assert device_sharing._others({10, 11, 12}, {10, 11}) == 0
    assert device_sharing._others({10, 11, 20, 30}, {10, 20}) == 1
    assert device_sharing._others({10, 20, 30}, {10}) == 2
    assert device_sharing._others(set(), {10}) == 0, "no NVML"
    assert device_sharing._others({1, 10, 11}, {10, 11}) == 0, "the command itself, which may have looked at the GPU"
    assert device_sharing._others({901, 902}, {10, 11}) == 0, "another namespace's numbers"
    assert device_sharing._others({901, 902, 903}, {10, 11}) is None, "an idle worker, or another program"
    seen = iter([{os.getpid()}, {os.getpid(), 30}, {os.getpid()}])
    monkeypatch.setattr(device_sharing, "computing", lambda device: next(seen))
    with device_sharing.sharing("cpu") as shared:
        shared.look()
        assert shared.most() == 2, "the one that has gone again too"


def test_more_processes_than_notes_in_another_namespace_are_unknown(monkeypatch):
    monkeypatch.setattr(device_sharing, "computing", lambda device: {10**9, 10**9 + 1})
    with device_sharing.sharing("cpu") as shared:
        assert shared.most() is None


@pytest.mark.parametrize("fault", [OSError("no driver"), TypeError("bytes wanted"), ValueError("odd")])
def test_an_error_of_nvml_ends_no_run(fault: Exception, monkeypatch):
    nvml = types.SimpleNamespace(nvmlInit=raising(fault), NVMLError=RuntimeError)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert millijoules("cuda:0") is None and computing("cuda:0") == set()


def raising(fault: Exception):
    def raise_it(*_):
        raise fault

    return raise_it


def test_a_sum_or_maximum_with_an_unknown_part_is_unknown():
    assert sum_or_none([1.0, 2.5]) == 3.5 and sum_or_none([1.0, None]) is None and sum_or_none([]) == 0
    assert max_or_none([1, 8, 2]) == 8 and max_or_none([1, None]) is None and max_or_none([]) is None


def test_processor_time_is_measured_on_a_cpu_only():
    clock = Clock(torch.device("cpu"))
    clock.start()
    clock.step(1)
    seconds, processor = clock.stop()
    assert seconds > 0 and processor >= 0
    clock._processor = type(clock._processor)(torch.device("cuda"))
    assert clock._processor.seconds() is None


def test_energy_is_the_difference_of_the_counter(monkeypatch):
    counter = iter([1_000, 8_500])
    monkeypatch.setattr("visual_decathlon.benchmark.training.timing.millijoules", lambda device: next(counter))
    assert Energy(torch.device("cuda:0")).joules() == 7.5


def test_a_nondeterministic_operation_is_named():
    torch.use_deterministic_algorithms(True)
    try:
        with pytest.raises(RuntimeError) as caught:
            torch.zeros(3).put_(torch.tensor([0]), torch.ones(1))
    finally:
        torch.use_deterministic_algorithms(False)
    assert nondeterministic_operation(caught.value) == "put_"
    blas = "Deterministic behavior was enabled with either `torch.use_deterministic_algorithms(True)` or ..., but this "
    assert (
        nondeterministic_operation(RuntimeError(f"{blas}operation is not deterministic because it uses CuBLAS and ..."))
        == "CuBLAS"
    )
    assert nondeterministic_operation(RuntimeError("shapes differ")) is None


PEAKS = """
import torch
from visual_decathlon.benchmark.training.timing import Peak
device = torch.device("cpu")
def run(megabytes):
    peak = Peak(device)
    x = torch.ones(megabytes * 2**18)
    return peak.mb(), x.sum()
small, large, again = run(4)[0], run(400)[0], run(4)[0]
print(small, large, again)
"""


@pytest.mark.slow
def test_the_peak_is_that_of_one_run_even_after_a_larger_one_in_the_same_process():
    from visual_decathlon.benchmark.runs.engines.worker import ENVIRONMENT

    environment = {**os.environ, **ENVIRONMENT}
    done = subprocess.run([sys.executable, "-c", PEAKS], cwd=ROOT, env=environment, capture_output=True, text=True)
    small, large, again = map(float, done.stdout.split())
    assert large > small + 350, done
    assert again < small + 100
