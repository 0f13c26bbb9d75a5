"""The resident memory of this process is read from Linux, and is unknown elsewhere."""

from pathlib import Path

import numpy as np
import pytest

from visual_decathlon.benchmark.runtime import memory

needs_proc = pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="resident memory is read from /proc")


@needs_proc
def test_the_peak_keeps_what_was_freed_until_it_is_reset():
    size, noise = 2**27, 2**24  # bytes; the kernel counts pages in batches
    held = np.ones(size, np.uint8)
    most = memory.peak_resident()
    assert most + noise > memory.resident() > size - noise
    del held
    memory.give_back()
    assert memory.peak_resident() > most - noise
    if memory.reset_peak_resident():
        assert memory.peak_resident() < most - size + noise


def test_memory_is_unknown_where_the_system_has_no_such_file(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "status")
    assert memory.resident() is None and memory.peak_resident() is None
    memory._STATUS.write_text("Name:\tpython\nVmRSS:\t 12 kB\n")
    assert memory.resident() == 12 * 1024 and memory.peak_resident() is None
