"""Where the rows were measured: the card, its driver, what computes on it, and when.

The card is asked in a process of its own, `python -m` this module with a DEVICE, since whoever asks may hold a
context on it from then on: a bench would count that as one more program there, and give no energy.
"""

import datetime
import json
import subprocess
import sys
from contextlib import suppress

from visual_decathlon.benchmark.config.folders import HOME
from visual_decathlon.benchmark.perf.store import load, now
from visual_decathlon.benchmark.records.provenance import kernels
from visual_decathlon.benchmark.runtime import devices
from visual_decathlon.datasets.cores import cores
from visual_decathlon.datasets.errors import InputError

ANSWER = 120  # s: the first import of torch from a cold disk takes 20 to 30

FACTS = {"card": str, "driver": str | None, "kernels": str, "processors": int, "date": str}
"""Of every row beside those of `perf.store`, with its type. `kernels` are versions in JSON; `date` is UTC."""


def facts(device: str) -> dict:
    """Here and now; `driver` is null where NVML does not tell it, as on an AMD card."""
    here = {"card": devices.name(device), "driver": _driver(), "kernels": json.dumps(kernels(device))}
    return now() | here | {"processors": cores()} | when()


def when() -> dict:
    """Of the facts those that change from step to step: the load and the date."""
    return {"load": load(), "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")}


def ask(device: str) -> dict:
    """The facts, from a process of its own. Raises InputError where the device is there and cannot be used."""
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
    with suppress(Exception):  # no NVML, or one of another driver: what is not known costs no step
        import pynvml

        pynvml.nvmlInit()
        found = pynvml.nvmlSystemGetDriverVersion()
        return found.decode() if isinstance(found, bytes) else found
    return None


if __name__ == "__main__":
    print(json.dumps(facts(sys.argv[1])))
