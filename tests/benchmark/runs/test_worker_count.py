"""The default number of workers, and the estimate of a step's memory compared with a CPU's."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes
from visual_decathlon.benchmark.config.profiles import profile
from visual_decathlon.benchmark.config.specs import Backbone, ImageSet, Run
from visual_decathlon.benchmark.runs import worker_count
from visual_decathlon.benchmark.runs.worker_count import PROCESS_BYTES, default_workers, run_bytes, step_bytes
from visual_decathlon.benchmark.runtime import nvml
from visual_decathlon.datasets.catalogue import DOMAINS
from visual_decathlon.methods.shapes import ConvShape, NormShape, Shapes

GB = 2**30


def run(settings: str = "", name: str = "standin", count: int = 100, width_multiplier: float = 1.0) -> Run:
    images = ImageSet(DOMAINS["dtd"], (), "all", "manifest", 3, None, count)
    backbone = Backbone(profile(name, settings.split()), "plain", "pretrained", Path("cache"), width_multiplier, images)
    return Run("finetune", backbone, images, images, 0, "val", 0.1, False)


@pytest.fixture
def machine(monkeypatch) -> SimpleNamespace:
    made = SimpleNamespace(cores=16, free=80 * GB)
    monkeypatch.setattr(worker_count, "cores", lambda: made.cores)
    monkeypatch.setattr(worker_count, "free_memory", lambda device: made.free)
    return made


def test_a_cpu_has_a_process_for_each_core(machine):
    machine.free = None
    assert default_workers("cpu", [run()]) == 16


def test_a_gpu_has_up_to_eight_processes(machine):
    assert default_workers("cuda:0", [run()] * 10) == 8
    assert default_workers("cuda:0", [run()] * 3) == 3
    machine.cores = 2
    assert default_workers("cuda:0", [run()] * 10) == 2


def test_a_gpu_has_no_more_than_its_memory_holds(machine):
    todo = [run(name="decathlon")] * 10
    one = run_bytes(todo[0], 80 * GB)
    machine.free = 3 * one + 1
    assert default_workers("cuda:0", todo) == 3
    machine.free = one // 2
    assert default_workers("cuda:0", todo) == 1
    machine.free = 3 * one + 1
    larger = run(name="decathlon", width_multiplier=2.0)
    assert default_workers("cuda:0", [*todo, larger]) < 3, "the largest run counts"


@pytest.mark.parametrize("device", ["cuda:0", "mps:0", "xpu:0"])
def test_one_process_where_the_free_memory_is_unknown(device: str, machine):
    machine.free = None
    assert default_workers(device, [run()] * 10) == 1


def test_pixels_count_where_they_fit():
    few, many = run(count=1000), run(count=10**7)
    step = step_bytes(resnet26_shapes(0.25, 32), 16, "fp32")
    assert run_bytes(few, 80 * GB) == PROCESS_BYTES + step + 3 * 36 * 36 * 2000
    assert run_bytes(many, 80 * GB) == PROCESS_BYTES + step, "streamed"


def test_a_step_by_hand():
    convs = (ConvShape(3, 8, (3, 3)), ConvShape(8, 4, (3, 3), stride=(2, 2)))
    shapes = Shapes(convs, (NormShape(8),), 4, size=5)
    maps = 3 * 25 + 2 * 8 * 25 + 8 * 25 + 2 * 4 * 9
    assert step_bytes(shapes, 10, "fp32") == 4 * 10 * maps + 12 * (8 * 27 + 4 * 72 + 16)
    assert step_bytes(shapes, 10, "bf16") == 2 * 10 * maps + 12 * (8 * 27 + 4 * 72 + 16)


_STEP = """
import gc, torch, torch.nn.functional as F
from visual_decathlon.benchmark.perf.network import pixels, placed
from visual_decathlon.benchmark.training.timing import Peak
from visual_decathlon.methods.registry import select

def rss():
    lines = open("/proc/self/status").read()
    return int(next(line for line in lines.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024

torch.set_num_threads(1)
(method,) = select("METHOD")
network = placed(method, 0.5, 32).train()
x, y = pixels(64, 32)
x = x.contiguous(memory_format=torch.channels_last)
optimiser = method.optimiser(method.groups(network, 1e-4, 100), 0.01, 0.9, False)

def step(images):
    value, _ = method.loss(network, x[:images], y[:images], F.cross_entropy)
    optimiser.zero_grad(set_to_none=True)
    value.backward()
    optimiser.step()

step(2)
gc.collect()
peak, before = Peak(torch.device("cpu")), rss()
step(64)
print(None if peak.mb() is None else peak.mb() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", ["finetune", "par_adapter"])
def test_the_estimate_is_within_a_factor_of_two(method: str, command):
    done = command([sys.executable, "-c", _STEP.replace("METHOD", method)])
    assert done.code == 0, done
    if done.out.strip() == "None":
        pytest.skip("this kernel does not report a process's peak memory")
    estimate = step_bytes(resnet26_shapes(0.5, 32), 64, "fp32") / 2**20
    assert 0.5 < float(done.out) / estimate < 2


def test_free_memory_is_nvmls_and_null_without(monkeypatch):
    pynvml = SimpleNamespace(nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(free=7 * GB, total=80 * GB))
    monkeypatch.setattr(nvml, "_handle", lambda device: (pynvml, "handle"))
    assert nvml.free_memory("cuda:0") == 7 * GB
    del pynvml.nvmlDeviceGetMemoryInfo
    assert nvml.free_memory("cuda:0") is None
    monkeypatch.undo()
    assert nvml.free_memory("cpu") is nvml.free_memory("mps:0") is None
