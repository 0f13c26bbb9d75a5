"""A warning comes before a run in an emulated precision, and the test for it takes only a moment."""

import sys

import pytest
import torch

from visual_decathlon.benchmark.runtime import precision
from visual_decathlon.benchmark.runtime.precision import LONG, times_slower, warning
from visual_decathlon.benchmark.training.evaluate import evaluate


class Machine:
    """Replaces the timer: fp32 takes 1 µs per 1,000 multiply-adds, half precision `ratio` times that."""

    def __init__(self, ratio: float):
        self.ratio, self.total = ratio, 0.0

    def seconds(self, device: str, size: tuple[int, int, int], precision: str) -> float:
        channels, side, batch = size
        one = 1e-9 * channels**2 * side**2 * batch * (1.0 if precision == "fp32" else self.ratio)
        self.total += one
        return one


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.5, 12.0, 100.0, 10_000.0])
def test_the_ratio_is_measured_soon_on_a_slow_machine_too(ratio: float, device: str, monkeypatch):
    machine = Machine(ratio)
    monkeypatch.setattr(precision, "_seconds", machine.seconds)
    assert times_slower(device) == pytest.approx(ratio)
    assert machine.total < 30, "however slow it is"
    if ratio == 10_000:
        assert machine.total < 10 * LONG * ratio / 100


@pytest.mark.parametrize(
    ("half", "processors"), [("bf16", ("AVX-512 BF16", "AMX", "8.0")), ("fp16", ("AVX-512 FP16", "AMX-FP16", "7.0"))]
)
def test_a_warning_has_the_ratio_and_the_processors_that_gain(half: str, processors: tuple[str, ...], monkeypatch):
    monkeypatch.setattr(precision, "_seconds", Machine(12.34).seconds)
    text = warning(half, "cpu")
    assert text.startswith(f"settings=precision={half}: a convolution is 12.3 times as slow as in fp32 here")
    assert all(name in text for name in processors)
    monkeypatch.setattr(precision, "_seconds", Machine(0.5).seconds)
    assert warning(half, "cpu") == ""


def test_each_precision_is_measured_as_itself(monkeypatch):
    monkeypatch.setattr(precision, "_seconds", lambda device, size, kind: {"fp32": 1, "bf16": 2, "fp16": 5}[kind])
    assert (times_slower("cpu"), times_slower("cpu", "fp16")) == (2, 5)


def test_a_device_without_the_kernel_does_not_have_the_precision(monkeypatch):
    def seconds(device, size, kind):
        if kind != "fp32":
            raise RuntimeError("no kernel image is available")
        return 1e-3

    monkeypatch.setattr(precision, "_seconds", seconds)
    assert times_slower("cuda:0") == times_slower("cpu", "fp16") == float("inf")
    assert "not in the hardware" in warning("fp16", "cpu")


@pytest.mark.parametrize(
    ("half", "slow_at"),
    [("bf16", {(7, 0): True, (7, 5): True, (8, 0): False}), ("fp16", {(6, 1): True, (7, 0): False})],
)
def test_the_capability_of_a_gpu_decides_without_a_trial(half: str, slow_at: dict, monkeypatch):
    monkeypatch.setattr(precision, "_seconds", lambda *_: pytest.fail("a command that computes holds memory there"))
    for capability, slow in slow_at.items():
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, c=capability: c)
        assert ("not in the hardware" in warning(half, "cuda:0")) == slow


@pytest.mark.parametrize("device", ["mps", "xpu:0"])
def test_other_devices_give_no_warning(device: str, monkeypatch):
    monkeypatch.setattr(precision, "_seconds", lambda *_: pytest.fail("a command that computes holds memory there"))
    assert warning("bf16", device) == warning("fp16", device) == warning("fp32", device) == ""
    assert "changes nothing here" in warning("tf32", device)


def test_compute_capability_is_nvidias_alone(monkeypatch):
    monkeypatch.setattr(torch.version, "hip", "7.0")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: pytest.fail("AMD's are other numbers"))
    assert warning("bf16", "cuda:0") == "" and "changes nothing here" in warning("tf32", "cuda:0")


@pytest.mark.parametrize(
    ("name", "product"),
    [("fp32", torch.float32), ("tf32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)],
)
def test_autocast_computes_in_the_precision(name: str, product: torch.dtype):
    x = torch.ones(2, 2)
    with precision.autocast(x.device, name):
        assert (x @ x).dtype == product
    assert (x @ x).dtype == torch.float32


@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_evaluation_is_in_the_precision_of_the_training(name: str):
    class Seen(torch.nn.Linear):
        kinds = set()

        def forward(self, x):
            y = super().forward(x)
            self.kinds.add(y.dtype)
            return y

    class ImageSet:
        device = torch.device("cpu")

        def evaluate(self):
            yield torch.ones(3, 4), torch.zeros(3, dtype=torch.int64)

    network = Seen(4, 2)
    result = evaluate(network, ImageSet(), name)
    assert network.kinds == {{"bf16": torch.bfloat16, "fp16": torch.float16}[name]}
    assert result.logits.dtype == torch.float32


def test_tf32_on_a_device_without_it_gives_a_warning(monkeypatch):
    assert "computes in fp32 and is recorded as tf32" in warning("tf32", "cpu")
    for capability, warned in (((7, 5), True), ((8, 0), False), ((9, 0), False)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, c=capability: c)
        assert bool(warning("tf32", "cuda:0")) == warned


def test_fp32_is_never_tested(monkeypatch):
    monkeypatch.setattr(precision, "_seconds", lambda *_: pytest.fail("a convolution"))
    assert warning("fp32", "cpu") == warning("fp32", "cuda:0") == ""


def test_the_test_changes_neither_random_numbers_nor_threads():
    torch.manual_seed(3)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    assert times_slower("cpu") > 0
    assert torch.equal(torch.get_rng_state(), state) and torch.get_num_threads() == threads


@pytest.mark.slow
@pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() != "AVX512", reason="an x86 processor to be slowed down")
def test_a_processor_without_bf16_gives_a_warning(command):
    code = "from visual_decathlon.benchmark.runtime.precision import times_slower; print(times_slower('cpu'))"
    done = command([sys.executable, "-c", code], ONEDNN_MAX_CPU_ISA="AVX2")
    assert done.code == 0 and float(done.out) > 1.5, done
