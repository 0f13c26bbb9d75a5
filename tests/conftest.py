"""What all tests share: one thread, no process that stays, and the folder of official files where there is one."""

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import Processes

HUNG = 1800  # s: no limit of anything, but the end of a test that would never end

gc.disable()  # until all is collected, of which nothing is freed
os.environ.pop("BENCH_COMMAND", None)  # `make test` exports its own line; a test's run records the test's


@pytest.hookimpl(trylast=True)
def pytest_collection_finish():
    """What was imported and collected lives to the end; every full garbage collection would search it again."""
    gc.enable()
    gc.collect()
    gc.freeze()


def pytest_unconfigure():
    """At its end Python frees all of it; libraries report what stays as leaks."""
    gc.unfreeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """Tiny networks: more threads only wait for each other, and sums in another order are other bits.

    Before every test and what it sets up, because a command that measures takes all cores and leaves it so.
    """
    import torch  # here, because xdist's controller runs no test and starts before its workers do

    torch.set_num_threads(1)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item, nextitem):
    """A test that hangs fails in the end, so that its processes are ended like any other's."""

    def hung(*_):
        raise RuntimeError(f"{item.nodeid} hangs: it has not ended after {HUNG} s")

    before = signal.signal(signal.SIGALRM, hung)
    signal.alarm(HUNG)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="session")
def processes() -> Iterator[Processes]:
    """`processes.start(command)` and `processes.run(command)`; none outlives its test."""
    found = Processes()
    yield found
    found.end()


@pytest.fixture(autouse=True)
def _no_process_stays(processes: Processes) -> Iterator[None]:
    yield
    processes.end()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder `shared` beside the checkout: official and golden files, read and never copied."""
    folder = Path(__file__).parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("the folder ../shared with the official and golden files is not there")
    return folder
