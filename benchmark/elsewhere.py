"""Whether two sets of records were computed alike: elsewhere numbers differ by rounding, top-1 by up to a point."""

import json
import re

import pandas as pd

_UNKNOWN = "instruction set not recorded"
_DECIDES = ("torch", "cpu", "cuda", "cudnn")  # of the versions: what computed, and by which kernels


def computed_elsewhere(lent: pd.DataFrame, own: pd.DataFrame) -> str:
    """Where and with what both were computed, unless all of `own` were where `lent` was, or the records do not tell."""
    there, here = _places(lent), _places(own)
    if not there or not here or here <= there:
        return ""
    # Records before schema 3 may lack the instruction set, of which a processor's name need not tell.
    perhaps = "perhaps " if {_without_cpu(place) for place in here} <= {p for p in there if _UNKNOWN in p} else ""
    return f"{perhaps}computed elsewhere: {' and '.join(sorted(there))}; these rows: {' and '.join(sorted(here))}"


def _places(frame: pd.DataFrame) -> set[str]:
    """Processor, device and the kernels' versions of each record, each once."""
    if not {"machine", "versions"} <= set(frame):
        return set()
    device = frame["device"] if "device" in frame else frame["machine"].where(frame["machine"].isna(), "cpu")
    found = pd.DataFrame({"machine": frame["machine"], "device": device, "versions": frame["versions"]})
    return {_place(*row) for row in found.dropna().drop_duplicates().itertuples(index=False)}


def _place(machine: str, device: str, versions: str) -> str:
    known = json.loads(versions)
    named = [f"{name} {known[name]}" for name in _DECIDES if known.get(name) is not None]
    if device == "cpu" and known.get("cpu") is None:
        named.append(_UNKNOWN)
    return ", ".join([machine, *[device] * (device != "cpu"), *named])


def _without_cpu(place: str) -> str:
    return re.sub(r"cpu [^,]+$", _UNKNOWN, place)
