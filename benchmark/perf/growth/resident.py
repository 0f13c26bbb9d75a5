"""The memory of this process, as Linux tells it."""

import re
from pathlib import Path

_STATUS = Path("/proc/self/status")


def resident() -> float | None:
    """MB (10^6 bytes) that are resident now; None where the system does not tell."""
    return _mb("VmRSS")


def peak() -> float | None:
    """The most that have been since the process began."""
    return _mb("VmHWM")


def _mb(field: str) -> float | None:
    try:
        return int(re.search(rf"^{field}:\s*(\d+) kB", _STATUS.read_text(), re.MULTILINE)[1]) * 1024 / 1e6
    except (OSError, TypeError):
        return None
