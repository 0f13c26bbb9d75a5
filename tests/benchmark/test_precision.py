"""A precision that is emulated is told before a run begins, and finding out takes no longer than a moment."""

import sys

import pytest
import torch

from benchmark import precision
from benchmark.precision import LONG, times_slower, warning


class Machine:
    """In the place of the timer: a fp32 convolution takes 1 µs per 1,000 multiply-adds, in bf16 `ratio` times that."""

    def __init__(self, ratio: float):
        self.ratio, self.total = ratio, 0.0

    def seconds(self, device: str, size: tuple[int, int, int], bf16: bool) -> float:
        channels, side, batch = size
        one = 1e-9 * channels**2 * side**2 * batch * (self.ratio if bf16 else 1.0)
        self.total += one
        return one


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.5, 12.0, 100.0, 10_000.0])
def test_the_ratio_is_found_and_a_slow_machine_is_not_waited_for(ratio: float, device: str, monkeypatch):
    machine = Machine(ratio)
    monkeypatch.setattr(precision, "_seconds", machine.seconds)
    assert times_slower(device) == pytest.approx(ratio)
    assert machine.total < 30, "however slow it is"
    if ratio == 10_000:
        assert machine.total < 10 * LONG * ratio / 100


def test_a_warning_has_the_ratio_and_which_processors_gain(monkeypatch):
    monkeypatch.setattr(precision, "_seconds", Machine(12.34).seconds)
    said = warning("bf16", "cpu")
    assert said.startswith("SET=precision=bf16: a convolution is 12.3 times as slow as in fp32 here")
    assert "AVX-512 BF16" in said and "AMX" in said and "8.0" in said
    monkeypatch.setattr(precision, "_seconds", Machine(0.5).seconds)
    assert warning("bf16", "cpu") == ""


def test_a_gpu_without_the_kernel_has_it_not(monkeypatch):
    def seconds(device, size, bf16):
        if bf16:
            raise RuntimeError("no kernel image is available")
        return 1e-3

    monkeypatch.setattr(precision, "_seconds", seconds)
    assert times_slower("cuda:0") == float("inf")
    monkeypatch.setattr(precision, "_seconds", lambda *_: pytest.fail("a command that computes holds memory there"))
    for capability, told in (((7, 5), True), ((8, 0), False), ((9, 0), False)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, c=capability: c)
        assert ("not in the hardware" in warning("bf16", "cuda:0")) == told


def test_tf32_where_there_is_none_is_told(monkeypatch):
    assert "computes in fp32 and is recorded as tf32" in warning("tf32", "cpu")
    for capability, told in (((7, 5), True), ((8, 0), False), ((9, 0), False)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, c=capability: c)
        assert bool(warning("tf32", "cuda:0")) == told


def test_fp32_is_never_asked_about(monkeypatch):
    monkeypatch.setattr(precision, "_seconds", lambda *_: pytest.fail("a convolution"))
    assert warning("fp32", "cpu") == warning("fp32", "cuda:0") == ""


def test_asking_changes_neither_random_numbers_nor_threads():
    torch.manual_seed(3)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    assert times_slower("cpu") > 0
    assert torch.equal(torch.get_rng_state(), state) and torch.get_num_threads() == threads


@pytest.mark.slow
@pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() != "AVX512", reason="an x86 processor to be slowed down")
def test_a_processor_without_bf16_is_seen(command):
    code = "from benchmark.precision import times_slower; print(times_slower('cpu'))"
    done = command([sys.executable, "-c", code], ONEDNN_MAX_CPU_ISA="AVX2")
    assert done.code == 0 and float(done.out) > 1.5, done
