"""Where the rows of a step were measured: the card, its driver, what computes on it, and when."""

import datetime
import json
from contextlib import suppress

from benchmark.measured import now
from benchmark.provenance import device_name, kernels
from datasets.cores import cores

FACTS = {"card": str | None, "driver": str | None, "kernels": str | None, "processors": int, "date": str}
"""Of every row beside those of `benchmark.measured`, with its type. `kernels` are versions in JSON; null are those of a
step that never began."""


def facts(device: str | None) -> dict:
    """Here and now; `driver` is null where NVML does not tell it, as on an AMD card. None asks no device."""
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    found = now() | {"card": None, "driver": None, "kernels": None, "processors": cores(), "date": date}
    if device is not None:
        found |= {"card": device_name(device), "driver": _driver(), "kernels": json.dumps(kernels(device))}
    return found


def _driver() -> str | None:
    with suppress(Exception):  # no NVML, or one of another driver: what is not known costs no step
        import pynvml

        pynvml.nvmlInit()
        found = pynvml.nvmlSystemGetDriverVersion()
        return found.decode() if isinstance(found, bytes) else found
    return None
