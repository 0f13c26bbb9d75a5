"""Where and when the rows were measured: the card, its driver and libraries, and the date.

The card is queried in a separate process, `python -m` this module with a DEVICE, since the query may keep a context on
the card: a bench would count that as another program there, and would not record energy.
"""

import datetime
import json
import subprocess
import sys
from contextlib import suppress

from visual_decathlon.benchmark.config.folders import HOME
from visual_decathlon.benchmark.perf.store import environment_columns, load
from visual_decathlon.benchmark.records.provenance import kernels
from visual_decathlon.benchmark.runtime import devices
from visual_decathlon.datasets.cores import cores
from visual_decathlon.datasets.errors import InputError

ANSWER = 120  # s: the first import of torch from a cold disk takes 20 to 30

FACTS = {"card": str, "driver": str | None, "kernels": str, "processors": int, "date": str}
"""Columns of every row in addition to those of `perf.store`. `kernels` has versions in JSON; `date` is UTC."""


def facts(device: str) -> dict:
    """The current facts; `driver` is None where NVML does not know it, as for an AMD card."""
    here = {"card": devices.name(device), "driver": _driver(), "kernels": json.dumps(kernels(device))}
    return environment_columns() | here | {"processors": cores()} | when()


def when() -> dict:
    """The facts that change from step to step: load and date."""
    return {"load": load(), "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")}


def ask(device: str) -> dict:
    """The facts, from a separate process. Raises InputError where the device exists but cannot be used."""
    words = [sys.executable, "-m", "visual_decathlon.benchmark.perf.gpu.facts", device]
    try:
        done = subprocess.run(words, cwd=HOME, capture_output=True, text=True, timeout=ANSWER)
    except subprocess.TimeoutExpired:
        raise InputError(f"the GPU {device} is there but does not answer within {ANSWER} s; see its driver") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
        raise InputError(
            f"the GPU {device} is there but cannot be used ({lines[-1][:200]}); see its driver and torch's"
        )
    return json.loads(done.stdout.splitlines()[-1])


def _driver() -> str | None:
    """Version of the NVIDIA driver; None where it is unknown."""
    with suppress(Exception):  # no NVML, or that of another driver: a missing fact must not stop a step
        import pynvml

        pynvml.nvmlInit()
        version = pynvml.nvmlSystemGetDriverVersion()
        return version.decode() if isinstance(version, bytes) else version
    return None


if __name__ == "__main__":
    print(json.dumps(facts(sys.argv[1])))
