"""Memory of this process: its resident set, freed blocks that glibc's malloc keeps, and errors of a full memory."""

import contextlib
import ctypes
import re
from pathlib import Path

_STATUS = Path("/proc/self/status")


def resident() -> int | None:
    """Returns the bytes of memory that are resident now; None where the system does not count them."""
    return _status("VmRSS")


def peak_resident() -> int | None:
    """Returns the most bytes that were resident since the start of the process, or since `reset_peak_resident`."""
    return _status("VmHWM")


def reset_peak_resident() -> bool:
    """Lets `peak_resident` count from now on; returns whether the system allows it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def give_back() -> None:
    """Returns freed memory to the system, in about 2 ms. Does nothing with another C library than glibc."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def is_out_of_memory(error: Exception) -> bool:
    """Whether Python, or torch's allocator of the CPU or of a GPU, had no memory left."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error))
    )


def _status(field: str) -> int | None:
    try:
        match = re.search(rf"^{field}:\s*(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    except OSError:
        return None
    return match and int(match[1]) * 1024  # not every kernel has every field
