"""Kernel choice of a run: fixed on a CPU, measured once on a GPU, cached, and taken from the record in a rerun."""

import contextlib
import dataclasses
import json
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from visual_decathlon.benchmark.config.kernels import KernelChoice
from visual_decathlon.benchmark.config.profiles import Profile, profile
from visual_decathlon.benchmark.config.specs import Backbone, ImageSet, JointTraining, Run
from visual_decathlon.benchmark.runs import execute
from visual_decathlon.benchmark.runs.rerun import as_computed
from visual_decathlon.benchmark.runtime import devices
from visual_decathlon.benchmark.training import kernel_choice
from visual_decathlon.benchmark.training.kernel_choice import FILE, choose_kernels, default_kernels, fastest
from visual_decathlon.benchmark.training.kernel_trial import Trial, measure
from visual_decathlon.datasets.catalogue import DOMAINS
from visual_decathlon.datasets.errors import InputError

LAST, NCHW = KernelChoice("channels_last", "plain"), KernelChoice("contiguous", "plain")
FUSED, NCHW_FUSED = KernelChoice("channels_last", "fused"), KernelChoice("contiguous", "fused")
FUSED_NORM = "visual_decathlon.benchmark.training.fused_norm"
SLIM = profile("standin", ["width=0.125", "batch=4"])


@pytest.fixture
def gpu(monkeypatch) -> SimpleNamespace:
    """A simulated GPU for `choose_kernels`; `there` is whether it has fused norms."""
    made = SimpleNamespace(name="a card", there=True)
    monkeypatch.setattr(devices, "name", lambda device: made.name)
    module = SimpleNamespace(available=lambda device: made.there and device.type == "cuda")
    monkeypatch.setitem(sys.modules, FUSED_NORM, module)
    return made


class Measured:
    """Replaces the measurement: gives these ms, all with one loss, and records the requests."""

    def __init__(self, ms: dict[KernelChoice, float]):
        self.trials = {choice: Trial(value, 4.0, 2.0) for choice, value in ms.items()}
        self.asked: list[set[KernelChoice]] = []

    def __call__(self, profile: Profile, device: str, choices) -> dict[KernelChoice, Trial]:
        self.asked.append(set(choices))
        return {choice: trial for choice, trial in self.trials.items() if choice in choices}


@pytest.mark.parametrize(
    ("network", "device", "wanted"),
    [
        ("resnet26", "cpu", LAST),
        ("resnet18", "cpu", NCHW),
        ("timm:resnet10t", "cpu", NCHW),
        ("resnet18", "cuda:0", LAST),
        ("resnet18", "mps:0", LAST),
    ],
)
def test_the_usual_layout(network: str, device: str, wanted: KernelChoice):
    assert default_kernels(network, device) == wanted
    assert wanted.memory_format == (torch.channels_last if wanted == LAST else torch.contiguous_format)


def test_a_cpu_measures_and_writes_nothing(tmp_path: Path):
    assert choose_kernels(SLIM, "cpu", tmp_path / "c", None, lambda *_: pytest.fail("measured")) == LAST
    assert choose_kernels(SLIM, "cpu", tmp_path / "c", FUSED, lambda *_: pytest.fail("measured")) == LAST
    assert not (tmp_path / "c").exists()


def test_a_gpu_measures_once(gpu, tmp_path: Path):
    ask = Measured({LAST: 4.0, NCHW: 3.0, FUSED: 5.0, NCHW_FUSED: 2.0})
    cache = tmp_path / "not" / "there yet"
    for _ in range(2):
        assert choose_kernels(SLIM, "cuda:0", cache, None, ask) == NCHW_FUSED
    assert ask.asked == [{LAST, NCHW, FUSED, NCHW_FUSED}]
    ((key, kept),) = json.loads((cache / FILE).read_text()).items()
    assert key.startswith(
        f"a card, torch {torch.__version__}, resnet26, width 0.125, 32 px, batch 4, fp32, deterministic, kernels "
    )
    assert (kept["layout"], kept["norm"]) == ("contiguous", "fused")
    assert kept["trials"]["contiguous, plain"] == {"ms": 3.0, "loss": 4.0, "gradient": 2.0}


def test_a_compiled_step_fuses_its_norms_by_itself(gpu, tmp_path: Path):
    ask = Measured({LAST: 4.0, NCHW: 3.0, FUSED: 5.0, NCHW_FUSED: 2.0})
    compiled = dataclasses.replace(SLIM, compile=True)
    assert choose_kernels(compiled, "cuda:0", tmp_path, None, ask) == NCHW and ask.asked == [{LAST, NCHW}]
    assert choose_kernels(compiled, "cuda:0", tmp_path, NCHW_FUSED, ask) == NCHW


@pytest.mark.parametrize(
    "other",
    [
        {"width": 0.25},
        {"precision": "bf16"},
        {"crop": 24},
        {"network": "resnet18"},
        {"deterministic": False},
        {"compile": True},
        {"adapt": dataclasses.replace(SLIM.adapt, batch=8)},
        "another card",
    ],
)
def test_a_changed_setting_is_measured_again(gpu, other: dict | str, tmp_path: Path):
    ask = Measured({LAST: 1.0, NCHW: 2.0, FUSED: 2.0, NCHW_FUSED: 2.0})
    choose_kernels(SLIM, "cuda:0", tmp_path, None, ask)
    gpu.name = other if isinstance(other, str) else gpu.name
    changed = SLIM if isinstance(other, str) else dataclasses.replace(SLIM, **other)
    for _ in range(2):
        choose_kernels(changed, "cuda:0", tmp_path, None, ask)
    assert len(ask.asked) == 2 and len(json.loads((tmp_path / FILE).read_text())) == 2


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[1]", b"\xff", b'{"KEY": 3}', b'{"KEY": {"layout": "x", "norm": "y"}}']
)
def test_a_damaged_file_is_measured_again(gpu, damage: bytes, tmp_path: Path):
    (tmp_path / FILE).write_bytes(damage.replace(b"KEY", kernel_choice._key(SLIM, "cuda:0").encode()))
    ask = Measured({LAST: 3.0, NCHW: 1.0, FUSED: 2.0, NCHW_FUSED: 2.0})
    for _ in range(2):
        assert choose_kernels(SLIM, "cuda:0", tmp_path, None, ask) == NCHW
    assert len(ask.asked) == 1


def test_processes_that_ask_at_once_measure_once(gpu, tmp_path: Path):
    begun, ask = threading.Event(), Measured({LAST: 3.0, NCHW: 1.0, FUSED: 2.0, NCHW_FUSED: 2.0})

    def slowly(*given):
        begun.wait(0.2)  # the others reach the lock meanwhile
        return ask(*given)

    answers = []
    several = [
        threading.Thread(target=lambda: answers.append(choose_kernels(SLIM, "cuda:0", tmp_path, None, slowly)))
        for _ in range(4)
    ]
    for one in several:
        one.start()
    for one in several:
        one.join()
    assert answers == [NCHW] * 4 and len(ask.asked) == 1


@pytest.mark.parametrize(
    ("trials", "wanted"),
    [
        ({LAST: (3.0, 4.0), NCHW: (2.95, 4.0)}, LAST),  # within 3 %
        ({LAST: (3.0, 4.0), NCHW: (2.8, 4.0)}, NCHW),
        ({LAST: (3.0, 4.0), NCHW: (2.0, 4.1), FUSED: (2.5, 4.0)}, FUSED),  # computes something else
        ({LAST: (3.0, 4.0), NCHW: (2.0, float("nan"))}, LAST),
        ({LAST: (3.0, 4.0, 2.0), NCHW: (2.0, 4.0, 1.9), FUSED: (2.5, 4.0, 2.01)}, FUSED),  # has another gradient
        ({LAST: (3.0, 4.0, 2.0), NCHW: (2.0, 4.0, float("nan"))}, LAST),
        ({LAST: (3.0, 4.0)}, LAST),
    ],
)
def test_the_fastest_that_computes_the_same(trials: dict, wanted: KernelChoice):
    made = {choice: Trial(*values, *[2.0] * (3 - len(values))) for choice, values in trials.items()}
    assert fastest(made, LAST, 1e-3) == wanted


def test_without_fused_norms_there_are_two_choices(gpu, tmp_path: Path):
    gpu.there = False
    ask = Measured({LAST: 2.0, NCHW: 1.0, FUSED: 2.0, NCHW_FUSED: 0.5})
    assert choose_kernels(SLIM, "cuda:0", tmp_path, None, ask) == NCHW and ask.asked == [{LAST, NCHW}]
    gpu.there = True
    choose_kernels(SLIM, "cuda:0", tmp_path, None, ask)
    assert len(ask.asked) == 1, "what was chosen then can be computed"


def test_fused_norms_that_went_are_not_taken_from_the_file(gpu, tmp_path: Path):
    ask = Measured({LAST: 2.0, NCHW: 1.0, FUSED: 2.0, NCHW_FUSED: 0.5})
    assert choose_kernels(SLIM, "cuda:0", tmp_path, None, ask) == NCHW_FUSED
    gpu.there = False
    assert choose_kernels(SLIM, "cuda:0", tmp_path, None, ask) == NCHW


@pytest.mark.parametrize(("ms", "wanted"), [({NCHW: 1.0}, LAST), ({LAST: 2.0, NCHW: 1.0}, NCHW)])
def test_an_incomplete_measurement_is_for_this_process_alone(gpu, ms: dict, wanted: KernelChoice, tmp_path: Path):
    """A run asks several times: the answer stays the same, even if more can be measured later."""
    assert choose_kernels(SLIM, "cuda:0", tmp_path, None, Measured(ms)) == wanted
    assert not (tmp_path / FILE).exists()
    all_of_them = Measured({LAST: 2.0, NCHW: 9.0, FUSED: 0.1, NCHW_FUSED: 9.0})
    assert choose_kernels(SLIM, "cuda:0", tmp_path, None, all_of_them) == wanted and all_of_them.asked == []


def test_a_repeated_run_takes_its_own(gpu, tmp_path: Path):
    never = lambda *_: pytest.fail("measured")
    assert choose_kernels(SLIM, "cuda:0", tmp_path, NCHW_FUSED, never) == NCHW_FUSED
    gpu.there = False
    assert choose_kernels(SLIM, "cuda:0", tmp_path, NCHW_FUSED, never) == NCHW


def test_a_rerun_takes_the_kernels_of_its_record(tmp_path: Path):
    images = ImageSet(DOMAINS["dtd"], (), "all", "manifest", 3, None, 10)
    backbone = Backbone(SLIM, "plain", "pretrained", tmp_path, 1.0, images)
    joint = JointTraining("finetune_all", backbone, (images,), 0, 0.1)
    run = Run("finetune_all", backbone, images, images, 0, "val", 0.1, False, joint)
    again = as_computed(run, {"layout": "contiguous", "norm": "fused"})
    assert again.backbone.choice == again.joint.backbone.choice == NCHW_FUSED and again.hash == run.hash
    for older in ({"layout": None, "norm": None}, {"layout": "contiguous", "norm": None}):
        assert as_computed(run, older) is run
    alone = dataclasses.replace(run, joint=None)
    assert as_computed(alone, {"layout": "channels_last", "norm": "plain"}).backbone.choice == LAST


def test_both_layouts_are_timed_on_real_steps_and_compute_the_same():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    trials = measure(SLIM, "cpu", [LAST, NCHW])
    assert torch.equal(torch.get_rng_state(), before)
    assert set(trials) == {LAST, NCHW} and all(trial.ms > 0 for trial in trials.values())
    assert trials[LAST].loss == pytest.approx(trials[NCHW].loss, rel=1e-4) and 3 < trials[LAST].loss < 8


def test_a_choice_that_cannot_be_computed_is_left_out(monkeypatch):
    def fused(network):
        raise ValueError("no compiler")

    monkeypatch.setitem(sys.modules, FUSED_NORM, SimpleNamespace(fused_norms=fused))
    assert set(measure(SLIM, "cpu", [LAST, FUSED])) == {LAST}


def test_fused_norms_are_in_place_for_all_steps_and_gone_afterwards(monkeypatch):
    events = []

    @contextlib.contextmanager
    def fused(network):
        hook = network.register_forward_hook(lambda *_: events.append("step"))
        events.append("in")
        yield
        hook.remove()
        events.append("out")

    monkeypatch.setitem(sys.modules, FUSED_NORM, SimpleNamespace(fused_norms=fused))
    measure(SLIM, "cpu", [LAST, FUSED])
    assert events == ["in", *["step"] * 30, "out"]


def test_a_cache_that_cannot_be_written_is_one_sentence(gpu, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file cannot be written .*cache="):
        choose_kernels(SLIM, "cuda:0", tmp_path / "file", None, Measured({LAST: 1.0}))


def test_a_record_has_its_kernels(monkeypatch):
    monkeypatch.setattr(execute.pretrain, "choice_of", lambda backbone, device: NCHW_FUSED)
    run = SimpleNamespace(source_cell=False, backbone=None)
    assert execute._layout_and_norm(run, "cuda:0") == {"layout": "contiguous", "norm": "fused"}
    run.source_cell = True
    assert execute._layout_and_norm(run, "cuda:0") == {"layout": None, "norm": None}, (
        "the pretraining's record has them"
    )
