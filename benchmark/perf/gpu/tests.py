"""The tests marked `gpu` as rows: name, seconds and outcome of each test as soon as it has ended."""

import pytest

from visual_decathlon.benchmark.config.folders import HOME
from visual_decathlon.benchmark.perf.gpu.effort import Effort
from visual_decathlon.benchmark.perf.gpu.rows import Keep, Row

FOLDER = HOME / "tests" / "gpu"


class _Outcomes:
    """A pytest plugin that passes on the outcome of each test."""

    def __init__(self, keep: Keep):
        self._keep, self._seconds = keep, 0.0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add the seconds of each phase, and keep the row after the call."""
        self._seconds = report.duration + (self._seconds if report.when != "setup" else 0)
        if report.when == "call" or not report.passed:  # a test that is skipped, or fails in its setup, has no call
            name = report.nodeid.rpartition("/")[2]
            self._keep(Row("tests", name, "", round(self._seconds, 2), unit="s", rounds=1, note=_outcome(report)))


def _outcome(report: pytest.TestReport) -> str:
    """`passed`, `skipped: reason` or `failed: first line of the message`."""
    if report.skipped:
        return f"skipped: {report.longrepr[2].removeprefix('Skipped: ')}"
    crash = getattr(report.longrepr, "reprcrash", None)
    message = crash.message.splitlines()[0] if crash and crash.message else report.when
    return "passed" if report.passed else f"failed: {message}"


def tests(effort: Effort, keep: Keep) -> None:
    """Run the tests in this process, one after the other, in the order of the files."""
    words = [str(FOLDER), "-m", "gpu", "--rootdir", str(HOME), f"--basetemp={effort.work / 'tests'}"]
    code = pytest.main(words, plugins=[_Outcomes(keep)])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):  # a failed test has its own row
        raise SystemExit(int(code))
