"""Whether two sets of records were computed alike: elsewhere numbers differ by rounding, top-1 by up to a point."""

import json
from typing import NamedTuple

import pandas as pd

_DECIDES = ("torch", "cuda", "hip", "cudnn", "macos", "xpu")  # of the versions: what computed


class _Place(NamedTuple):
    machine: str
    device: str
    cpu: str | None  # instruction set; None on a GPU, and where a record does not tell
    versions: tuple[tuple[str, str], ...]

    def alike(self, other: "_Place") -> bool:
        """The same, as far as both tell: records before schema 3 may lack the instruction set."""
        return self == other or (None in (self.cpu, other.cpu) and self._replace(cpu=other.cpu) == other)

    def __str__(self) -> str:
        device = [self.device] * (self.device != "cpu")
        kernels = [f"cpu {self.cpu}" if self.cpu else "instruction set not recorded"] * (self.device == "cpu")
        return ", ".join([self.machine, *device, *(f"{name} {of}" for name, of in self.versions), *kernels])


def computed_elsewhere(lent: pd.DataFrame, own: pd.DataFrame) -> str:
    """Where and with what both were computed, unless all of `own` were where `lent` was, or the records do not tell."""
    there, here = _places(lent), _places(own)
    if not there or not here or here <= there:
        return ""
    perhaps = "perhaps " if all(any(place.alike(other) for other in there) for place in here) else ""
    return f"{perhaps}computed elsewhere: {_listed(there)}; these rows: {_listed(here)}"


def _listed(places: set[_Place]) -> str:
    return " and ".join(sorted(map(str, places)))


def _places(frame: pd.DataFrame) -> set[_Place]:
    """Processor, device and the kernels' versions of each record, each once."""
    if not {"machine", "versions"} <= set(frame):
        return set()
    device = frame["device"] if "device" in frame else frame["machine"].where(frame["machine"].isna(), "cpu")
    found = pd.DataFrame({"machine": frame["machine"], "device": device, "versions": frame["versions"]})
    return {_place(*row) for row in found.dropna().drop_duplicates().itertuples(index=False)}


def _place(machine: str, device: str, versions: str) -> _Place:
    known = json.loads(versions)
    told = tuple((name, str(known[name])) for name in _DECIDES if known.get(name) is not None)
    return _Place(machine, device, known.get("cpu"), told)
