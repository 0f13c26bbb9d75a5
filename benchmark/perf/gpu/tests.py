"""The tests marked `gpu` as lines: each test's name, seconds and end, told as soon as it has ended."""

import pytest

from visual_decathlon.benchmark.config.folders import HOME
from visual_decathlon.benchmark.perf.gpu.effort import Effort
from visual_decathlon.benchmark.perf.gpu.rows import Keep, Row

FOLDER = HOME / "tests" / "gpu"


class _Heard:
    """A plugin of pytest that passes on how each test ended."""

    def __init__(self, keep: Keep):
        self._keep, self._seconds = keep, 0.0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._seconds = report.duration + (self._seconds if report.when != "setup" else 0)
        if report.when == "call" or not report.passed:  # one that is skipped, or breaks in its setup, has no call
            name = report.nodeid.rpartition("/")[2]
            self._keep(Row("tests", name, "", round(self._seconds, 2), unit="s", rounds=1, note=_end(report)))


def _end(report: pytest.TestReport) -> str:
    if report.skipped:
        return f"skipped: {report.longrepr[2].removeprefix('Skipped: ')}"
    crash = getattr(report.longrepr, "reprcrash", None)
    message = crash.message.splitlines()[0] if crash and crash.message else report.when
    return "passed" if report.passed else f"failed: {message}"


def tests(effort: Effort, keep: Keep) -> None:
    """Run them in this process, one after the other, in the order of the files."""
    words = [str(FOLDER), "-m", "gpu", "--rootdir", str(HOME), f"--basetemp={effort.work / 'tests'}"]
    code = pytest.main(words, plugins=[_Heard(keep)])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):  # what failed is told by its own row
        raise SystemExit(int(code))
