"""The energy that a run used, read from NVML for the GPU in use."""

import sys
import types

import pytest

from visual_decathlon.benchmark.training import timing


class Nvml(types.ModuleType):
    """A replacement for pynvml: two GPUs that have used 1 and 2 J, and 10 % more at each reading."""

    class NVMLError(Exception):
        """As in pynvml."""

    def __init__(self):
        super().__init__("pynvml")
        self.used = {"GPU-aaaa": 1000, "GPU-bbbb": 2000}

    def nvmlInit(self) -> None:
        pass

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return list(self.used)[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        if uuid not in self.used:
            raise self.NVMLError
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        used, self.used[handle] = self.used[handle], round(self.used[handle] * 1.1)
        return used


@pytest.mark.parametrize(
    ("uuid", "joules"),
    [("bbbb", 0.2), ("aaaa", 0.1), ("cccc", None), (None, None)],
    ids=["second", "first", "unknown", "an old torch"],
)
def test_energy_is_of_the_gpu_in_use_or_of_none(uuid: str | None, joules: float | None, monkeypatch):
    """CUDA_VISIBLE_DEVICES=1 makes the second GPU torch's first."""
    given = types.SimpleNamespace(**({} if uuid is None else {"uuid": uuid}))
    monkeypatch.setitem(sys.modules, "pynvml", Nvml())
    monkeypatch.setattr(timing.torch.cuda, "get_device_properties", lambda device: given)
    assert timing.Energy(timing.torch.device("cuda", 0)).joules() == joules


def test_energy_without_nvml_is_null(monkeypatch):
    cuda = timing.torch.device("cuda")
    monkeypatch.setitem(sys.modules, "pynvml", None)  # its import fails
    assert timing.Energy(cuda).joules() is None
    nvml = Nvml()
    monkeypatch.setattr(nvml, "nvmlInit", lambda: nvml.nvmlDeviceGetHandleByUUID("no driver"))
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert timing.Energy(cuda).joules() is None
    assert timing.Energy(timing.torch.device("cpu")).joules() is None
