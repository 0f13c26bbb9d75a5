"""Tells whether two sets of records were computed on the same kind of machine with the same library versions.

Elsewhere rounding differs, and with it top-1 by up to a point.
"""

import json
from typing import NamedTuple

import pandas as pd

_DECISIVE = ("torch", "cuda", "hip", "cudnn", "macos", "xpu")  # the versions that decide how numbers are rounded


class _Environment(NamedTuple):
    machine: str
    device: str
    cpu: str | None  # instruction set; None on a GPU, and where a record does not have it
    versions: tuple[tuple[str, str], ...]

    def may_equal(self, other: "_Environment") -> bool:
        """Whether both are the same as far as known: records before schema 3 may lack the instruction set."""
        return self == other or (None in (self.cpu, other.cpu) and self._replace(cpu=other.cpu) == other)

    def __str__(self) -> str:
        device = [self.device] * (self.device != "cpu")
        kernels = [f"cpu {self.cpu}" if self.cpu else "instruction set not recorded"] * (self.device == "cpu")
        return ", ".join([self.machine, *device, *(f"{name} {of}" for name, of in self.versions), *kernels])


def computed_elsewhere(baseline: pd.DataFrame, own: pd.DataFrame) -> str:
    """The environments of both sets of records as half a sentence.

    "" where every environment of `own` also computed `baseline`, or where the records do not name any.
    """
    expected, actual = _environments(baseline), _environments(own)
    if not expected or not actual or actual <= expected:
        return ""
    perhaps = "perhaps " if all(any(one.may_equal(other) for other in expected) for one in actual) else ""
    return f"{perhaps}computed elsewhere: {_listed(expected)}; these rows: {_listed(actual)}"


def _listed(environments: set[_Environment]) -> str:
    return " and ".join(sorted(map(str, environments)))


def _environments(frame: pd.DataFrame) -> set[_Environment]:
    """Processor, device and the deciding versions of the records, each combination once."""
    if not {"machine", "versions"} <= set(frame):
        return set()
    device = frame["device"] if "device" in frame else frame["machine"].where(frame["machine"].isna(), "cpu")
    columns = pd.DataFrame({"machine": frame["machine"], "device": device, "versions": frame["versions"]})
    return {_environment(*row) for row in columns.dropna().drop_duplicates().itertuples(index=False)}


def _environment(machine: str, device: str, versions: str) -> _Environment:
    known = json.loads(versions)
    decisive = tuple((name, str(known[name])) for name in _DECISIVE if known.get(name) is not None)
    return _Environment(machine, device, known.get("cpu"), decisive)
