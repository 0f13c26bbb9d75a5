"""A step of `make gpu` that ends as its name says: `python drawn_step.py NAME WORK FD`."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

FACTS = {
    "load": 0.5,
    "machine": "a processor, Linux x86_64",
    "versions": json.dumps({"python": "3.12.1", "torch": "2.11.0", "numpy": "2.5"}),
    "commit": "0123456789ab",
    "card": "NVIDIA Fake 80GB",
    "driver": "580.1",
    "kernels": json.dumps({"cuda": "13.0", "cudnn": "91900"}),
    "processors": 16,
    "date": "2026-11-28T05:00:00+00:00",
}


def main(name: str, work: str, descriptor: str) -> int:
    """Send a row to the descriptor, then end as `name` says; returns the exit status."""
    home = os.fdopen(int(descriptor), "w", buffering=1)
    send = lambda kind, content: home.write(json.dumps([kind, content]) + "\n")
    assert list(Path(work).iterdir()) == [], "a step's folder is empty"
    Path(work, "left").write_text("")
    send("row", {"step": name, "what": f"of {name}", "work": work})
    if name == "hangs":
        below = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], stdin=subprocess.DEVNULL)
        send("row", {"step": name, "what": "hangs now", "pids": [os.getpid(), below.pid]})
        signal.pause()
    if name == "closes":  # it sends nothing more and does not end
        home.close()
        signal.pause()
    if name == "refuses":
        send("fault", "there is no room for it")
        return 2
    if name == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
