"""Runs a step in its own process: `python -m …perf.gpu.child NAME DEVICE WORK FD` writes rows as JSON lines to FD."""

import dataclasses
import json
import os
import signal
import sys
import threading
from importlib import import_module
from pathlib import Path

from visual_decathlon.benchmark.perf.gpu.plan import PLAN
from visual_decathlon.benchmark.runtime.numerics import set_workspace
from visual_decathlon.datasets.errors import InputError


def main(name: str, device: str, work: str, descriptor: str) -> int:
    """Return 0: done; 2: failed with a message. Another exception is a defect: sent too, its trace on the screen."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.set_inheritable(int(descriptor), False)  # so that processes of the step cannot keep the parent waiting
    home = open(int(descriptor), "w", buffering=1)  # noqa: SIM115  open until the process ends

    def send(kind: str, content: object) -> None:
        home.write(json.dumps([kind, content]) + "\n")

    try:
        from visual_decathlon.benchmark.perf.gpu.effort import Effort

        set_workspace()  # before cuBLAS starts
        (step,) = (step for step in PLAN if step.name == name)
        module, _, function = step.work.partition(":")
        effort = Effort(device, Path(work))
        getattr(import_module(module), function)(effort, lambda row: send("row", dataclasses.asdict(row)))
    except InputError as error:
        send("fault", str(error))
        print(error, file=sys.stderr)
        return 2
    except Exception as error:
        lines = str(error).splitlines()
        send("fault", f"{type(error).__name__}: {lines[0] if lines else ''}"[:200])
        raise
    return 0


def _end_with_parent() -> None:
    """End all processes of this step with the parent, which holds the other end of stdin."""
    os.read(0, 1)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
