"""Devices other than the CPU, replaced by a fake backend: its values are used, and missing ones are null."""

import sys
from types import SimpleNamespace

import pytest
import torch

from visual_decathlon.benchmark.cli.main import parse
from visual_decathlon.benchmark.config.profiles import profile
from visual_decathlon.benchmark.records import build
from visual_decathlon.benchmark.runtime import devices
from visual_decathlon.benchmark.runtime.device_sharing import _known_as, sharing
from visual_decathlon.benchmark.runtime.numerics import configure_torch, set_deterministic
from visual_decathlon.benchmark.serving import inputs
from visual_decathlon.benchmark.training.evaluate import evaluate
from visual_decathlon.benchmark.training.features import _memory
from visual_decathlon.benchmark.training.timing import Clock, Energy, Peak, Processor
from visual_decathlon.datasets import accelerator, batches
from visual_decathlon.datasets.errors import InputError

KINDS = ["cuda", "xpu", "mps"]


class Event:
    """An event on a device whose clock advances by 2 ms with each event."""

    made = 0

    def __init__(self, enable_timing: bool):
        assert enable_timing

    def record(self) -> None:
        Event.made += 1
        self.at = 2.0 * Event.made

    def elapsed_time(self, later: "Event") -> float:
        return later.at - self.at


class Backend(SimpleNamespace):
    """Replaces torch.cuda, torch.mps or torch.xpu, with the functions that each has."""

    def __init__(self, kind: str):
        self.waits = 0
        super().__init__(Event=Event)
        if kind == "mps":
            self.recommended_max_memory, self.driver_allocated_memory = lambda: 1000, lambda: 400
        else:
            self.mem_get_info = lambda device: (600, 1000)
            self.reset_peak_memory_stats, self.max_memory_allocated = lambda: None, lambda: 3 * 2**20
            self.get_device_name = lambda device: f"a {kind} card"
            self.get_device_properties = lambda device: SimpleNamespace(uuid=f"{kind}-7")

    def synchronize(self) -> None:
        self.waits += 1


@pytest.fixture(params=KINDS)
def kind(request) -> str:
    return request.param


@pytest.fixture
def backend(kind: str, monkeypatch) -> Backend:
    made = Backend(kind)
    monkeypatch.setattr(torch, "get_device_module", lambda device: made)
    return made


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    """Replaces /dev by a folder with the file of a driver."""
    monkeypatch.setattr(devices, "DEVICE_FILES", tmp_path)
    (tmp_path / "nvidia0").touch()
    return tmp_path


def see(kind: str | None, monkeypatch) -> None:
    """Lets torch see this accelerator."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: kind == "cuda")
    current = torch.device(kind) if kind else None
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: current)


def test_the_visible_device_is_taken(kind: str, monkeypatch):
    see(kind, monkeypatch)
    assert devices.device_of("auto") == devices.device_of(kind) == f"{kind}:0"
    assert devices.device_of("cpu") == "cpu"
    for other in set(KINDS) - {kind}:
        with pytest.raises(
            InputError, match=rf"^device={other}: torch sees no .* here; leave device= out to .* the .*$"
        ):
            devices.device_of(other)


@pytest.mark.parametrize("seen", [None, "meta"])
def test_without_an_accelerator_the_device_is_the_cpu(seen: str | None, monkeypatch):
    see(seen, monkeypatch)
    assert devices.device_of("auto") == "cpu"
    with pytest.raises(
        InputError, match=r"^device=mps: torch sees no Apple GPU here; leave device= out to train on the CPU"
    ):
        devices.device_of("mps")


@pytest.mark.parametrize("name", ["nvidiactl", "nvhost-gpu", "nvmap", "dxg", "kfd", "dri", None])
def test_torch_is_imported_only_where_there_may_be_a_driver(name: str | None, files, monkeypatch):
    """A device that is named is always looked for."""
    see("cuda", monkeypatch)
    (files / "nvidia0").unlink()
    (files / "null").touch()
    if name:
        (files / name).touch()
    assert devices.device_of("auto") == ("cuda:0" if name else "cpu") and devices.device_of("cuda") == "cuda:0"
    monkeypatch.setattr(devices.sys, "platform", "darwin")
    assert devices.device_of("auto") == "cuda:0"


def test_every_device_can_be_named():
    for word in ("auto", "cpu", *KINDS):
        assert parse(["run", "--method", "x", "--device", word]).device == word
    with pytest.raises(SystemExit):
        parse(["run", "--method", "x", "--device", "tpu"])


def test_steps_are_timed_by_events_and_nothing_but_the_first_one_waits_within_an_epoch(kind: str, backend: Backend):
    clock = Clock(torch.device(kind))
    clock.start()
    for _ in range(5):
        clock.step(8)
        assert backend.waits == 1
    assert clock.stop() == (pytest.approx(0.010), None) and backend.waits == 2
    assert clock.ms == [2.0] * 5 and clock.summary()["train_img_s"] == pytest.approx(4000)


def test_without_events_the_epoch_alone_is_timed(kind: str, backend: Backend, monkeypatch):
    del backend.Event
    now = iter([8.0, 10.0, 10.5, 13.5])
    monkeypatch.setattr("visual_decathlon.benchmark.training.timing.time.perf_counter", lambda: next(now))
    clock = Clock(torch.device(kind))
    clock.start()
    for _ in range(5):
        clock.step(8)
    assert clock.stop() == (3.5, None) and backend.waits == 2
    assert clock.summary().pop("first_step_seconds") == 2.5
    assert {value for name, value in clock.summary().items() if name != "first_step_seconds"} == {None}


def test_measurements_on_a_device_and_nulls(kind: str, backend: Backend):
    device = torch.device(kind, 0)
    assert Peak(device).mb() == (None if kind == "mps" else 3)
    assert Processor(device).seconds() is None
    assert Energy(torch.device("mps")).joules() is Energy(torch.device("xpu")).joules() is None


def test_amd_has_no_nvml(monkeypatch):
    monkeypatch.setattr(torch.version, "hip", "7.0")
    monkeypatch.setitem(sys.modules, "pynvml", SimpleNamespace(nvmlInit=lambda: None))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: pytest.fail("it is no GPU of Nvidia"))
    assert Energy(torch.device("cuda", 0)).joules() is None


def test_memory_is_that_of_the_device_where_it_is_known(kind: str, backend: Backend):
    device = torch.device(kind)
    assert accelerator.memory(device) == (600, 1000)
    assert (_memory(device), batches._room(device)) == (500, 300)
    assert accelerator.pins(device) == (kind != "mps") and not accelerator.pins(torch.device("cpu"))


def test_memory_that_is_unknown(kind: str, monkeypatch):
    monkeypatch.setattr(torch, "get_device_module", lambda device: SimpleNamespace())
    device, cpu = torch.device(kind), torch.device("cpu")
    assert accelerator.memory(device) is None and accelerator.memory(cpu) is None
    assert batches._room(device) == batches._room(cpu) == -1, "images are streamed"
    assert _memory(device) == _memory(cpu) > 2**20


def test_evaluation_waits_for_the_device(kind: str, backend: Backend):
    class ImageSet:
        device = torch.device(kind)

        def evaluate(self):
            for _ in range(3):
                yield torch.ones(2, 4), torch.zeros(2, dtype=torch.int64)

    result = evaluate(torch.nn.Linear(4, 3), ImageSet())
    assert result.logits.shape == (6, 3) and result.img_s > 0 and backend.waits == 6


def test_random_numbers_are_restored(kind: str, backend: Backend):
    states = {f"{kind}:0": "as it was"}
    backend.get_rng_state = lambda device: states[str(device)]
    backend.set_rng_state = lambda state, device: states.update({str(device): state})
    before = torch.get_rng_state()
    for device in ("cpu", f"{kind}:0"):
        with devices.keeping_random_numbers(torch.device(device)):
            torch.default_generator.manual_seed(7)
            states[f"{kind}:0"] = "as it was" if device == "cpu" else "drawn from"
        assert torch.equal(torch.get_rng_state(), before) and states == {f"{kind}:0": "as it was"}


@pytest.mark.parametrize(
    ("device", "wanted"),
    [("cuda:0", ("a cuda card", "cuda")), ("xpu:0", ("a xpu card", "xpu")), ("mps:0", ("Apple M9", "macos"))],
)
def test_a_record_names_the_device_and_its_kernels(device: str, wanted: tuple[str, str], monkeypatch):
    monkeypatch.setattr(torch, "get_device_module", lambda device: Backend(str(device).partition(":")[0]))
    monkeypatch.setattr(torch.backends.mps, "get_name", lambda: "Apple M9", raising=False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.version, "xpu", "2026", raising=False)
    monkeypatch.setattr("platform.mac_ver", lambda: ("26.1", (), ""))
    record = build.on_device({"versions": "{}"}, device)
    assert record["device"] == wanted[0] and f'"{wanted[1]}": ' in record["versions"]


def test_a_device_without_a_name_has_the_name_of_its_kind(monkeypatch):
    monkeypatch.setattr(torch.backends, "mps", SimpleNamespace())
    assert devices.name("mps:0") == "mps" and devices.name("cpu") == "cpu"


def test_devices_are_shared_by_their_uuid(kind: str, backend: Backend):
    assert _known_as(f"{kind}:0") == (f"{kind}:0" if kind == "mps" else f"{kind}-7")
    assert _known_as("cpu") == "cpu"


def test_runs_on_a_device_are_counted(kind: str, backend: Backend, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr("visual_decathlon.benchmark.runtime.device_sharing.computing", lambda device: set())
    with sharing(f"{kind}:0"), sharing(f"{kind}:0") as second:
        assert second.most() == 2


def test_every_device_but_a_cpu_is_set_deterministic(kind: str):
    try:
        configure_torch(profile("standin"), f"{kind}:0")
        assert torch.are_deterministic_algorithms_enabled()
        configure_torch(profile("standin"), "cpu")
        assert not torch.are_deterministic_algorithms_enabled()
    finally:
        set_deterministic(False)


@pytest.mark.parametrize(("wanted", "told"), [("mps", "Apple GPU"), ("xpu", "Intel GPU"), ("cuda", "CUDA device")])
def test_domains_in_use_name_the_device_that_is_not_there(wanted: str, told: str, monkeypatch):
    see(None, monkeypatch)

    def missing(*_, device):
        raise RuntimeError(f"no {device}")

    monkeypatch.setattr(torch, "empty", missing)
    with pytest.raises(InputError, match=rf"^device='{wanted}': torch sees no {told} here; "):
        inputs.parse_device(wanted)


def test_listing_devices_loads_no_torch(command):
    code = "import sys; from visual_decathlon.benchmark.runtime import devices\n"
    code += "assert 'torch' not in sys.modules; print(*devices.NAMES)"
    done = command([sys.executable, "-c", code])
    assert (done.code, done.out.split()) == (0, ["cuda", "mps", "xpu"]), done
