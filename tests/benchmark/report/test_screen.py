"""Long tasks are reported: occasional lines in a log, a bar with the remaining time on a terminal."""

import contextlib
import io
import itertools

import numpy as np
import pytest
import torch
from rich.console import Console

from visual_decathlon.benchmark.report.screen import Screen
from visual_decathlon.benchmark.runtime import progress
from visual_decathlon.benchmark.runtime.progress import Counter, Watched, progress_of
from visual_decathlon.benchmark.training.features import FeatureBatches


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def log() -> tuple[Screen, Clock, io.StringIO]:
    """A screen outside a terminal that is not entered: only the test calls `beat`."""
    clock, out = Clock(), io.StringIO()
    return Screen(Console(file=out, highlight=False, width=400), clock), clock, out


def test_a_log_has_lines_about_a_long_task_with_the_time_left(log):
    screen, clock, out = log
    for done in range(0, 601, 3):  # an image in 0.1 s, for a minute
        clock.now = done / 10
        screen.doing("packing", "packing", done, 600)
    lines = out.getvalue().splitlines()
    assert len(lines) == 5, "one every ten seconds, and none at the end"
    assert lines[0] == "[   10 s] packing: 102 of 600, about 50 s left"
    assert lines[-1] == "[   51 s] packing: 510 of 600, about 9 s left"
    clock.now = 90
    screen.beat()
    assert len(out.getvalue().splitlines()) == 5, "an ended task is not reported again"


def test_a_short_task_is_not_mentioned_and_a_silent_one_is(log):
    screen, clock, out = log
    for start in range(0, 40, 4):
        clock.now = start
        with screen.busy("a table"):
            clock.now = start + 4
            screen.beat()
    assert out.getvalue() == ""
    with screen.busy("a regression"):
        clock.now += 11
        screen.beat()  # as the screen's own thread does while the task reports nothing
        clock.now += 5
        screen.beat()
    assert out.getvalue() == "[   51 s] a regression: 11 s so far\n"


def test_lines_become_rarer_so_that_a_day_has_no_thousands(log):
    screen, clock, out = log
    screen.doing("x", "x", 0, 10)
    for second in range(24 * 3600):
        clock.now = second
        screen.beat()
    assert 50 < out.getvalue().count("\n") < 200


def test_a_resumed_task_is_timed_from_its_restart(log):
    screen, clock, out = log
    screen.doing("x", "archive", 900, 1000)
    clock.now = 10
    screen.doing("x", "archive", 910, 1000)
    assert "about 90 s left" in out.getvalue() or "about 2 min left" in out.getvalue()


def test_a_job_reports_its_epochs_and_its_other_tasks(log):
    screen, clock, out = log
    screen.expect(2000)
    screen.begin("h", "side svhn", 20)
    screen.doing("h", "starting")
    clock.now = 12
    screen.beat()
    screen.doing("h", "reading features", 0, 150_000)
    clock.now = 24
    screen.doing("h", "reading features", 50_000, 150_000)
    screen.epoch("h", {"epoch": 1, "loss": 1.0, "train_top1": 10.0, "seconds": 1.0}, 100)
    clock.now = 44
    screen.doing("h", progress.EPOCHS, 1.5)
    screen.end("h", "side svhn 90 %")
    clock.now = 99
    screen.beat()
    assert [line.split("] ")[1] for line in out.getvalue().splitlines()] == [
        "side svhn, starting: 12 s so far",
        "side svhn, reading features: 50,000 of 150,000, about 24 s left",
        "side svhn, epochs: 1.5 of 20, about 12 min left   (all runs: about 14 min left)",
        "side svhn 90 %   (about 14 min left)",
    ]


def test_a_terminal_has_a_bar_with_the_time_left():
    clock, out = Clock(), io.StringIO()
    console = Console(file=out, force_terminal=True, width=120, color_system=None)
    with Screen(console, clock) as screen:
        screen.preparing("decoding images once", "svhn", 0, 100)
        clock.now = 10
        screen.preparing("decoding images once", "dtd", 25, 100)  # of another domain, at the same pace
        assert [(t.description, t.completed, t.fields["state"]) for t in screen._progress.tasks] == [
            ("decoding images once dtd", 25, "about 30 s left")
        ]
        screen.preparing("decoding images once", "", 100, 100)
        assert screen._progress.tasks == []


def test_a_screen_always_ends_its_thread(capsys):
    screen = Screen()
    with contextlib.suppress(KeyboardInterrupt), screen:
        beats = screen._heartbeat
        assert beats.is_alive()
        raise KeyboardInterrupt
    assert not beats.is_alive()


@pytest.fixture
def progress_calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """Collects the calls of a report; the clock advances by a second at every look."""
    seconds = itertools.count()
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(seconds)))
    return []


class Report:
    """A report that collects its calls."""

    def __init__(self, calls: list[tuple]):
        self.doing = lambda what, done=0, of=0: calls.append((what, done, of))


class Few:
    """Ten images with the interface of Batches."""

    batch, steps, device, labels = 5, 2, torch.device("cpu"), np.zeros(10, int)

    def __len__(self) -> int:
        return 10

    def plan(self, *_):
        return self

    centre, index = plan, np.arange(10)

    def show(self, plan, parts: int):
        return ((torch.ones(len(some), 3), torch.zeros(len(some))) for some in np.array_split(self.index, parts))

    def train(self, seed: int, epoch: int):
        return self.show(None, 2)

    def evaluate(self, batch: int = 256):
        return self.show(None, 10 // batch)


def test_watched_batches_are_the_same_and_report_their_steps(progress_calls):
    watched = Watched(Few(), Report(progress_calls))
    assert len(watched) == 10 and watched.steps == 2
    assert [len(y) for _, y in watched.train(0, 3)] == [5, 5]
    assert progress_calls == [("epochs", 3.0, 0), ("epochs", 3.5, 0)]
    progress_calls.clear()
    watched = Watched(Few(), Report(progress_calls))
    list(watched.evaluate(5))
    assert progress_calls == [("evaluating", 0, 10), ("evaluating", 5, 10)]
    assert list(Watched(Few(), lambda row: pytest.fail("no epoch")).train(0, 0)), (
        "a plain function is called with epochs only"
    )


def test_features_report_the_images_read_of_all_views(progress_calls):
    FeatureBatches(torch.nn.Identity(), Few(), 3, 0, progress_of(Report(progress_calls)))
    assert progress_calls == [("reading features", 10 * view, 30) for view in (1, 2, 3)]


def test_a_counter_is_quiet_in_between(monkeypatch: pytest.MonkeyPatch):
    calls, now = [], iter([0.0, 0.1, 0.2, 0.6, 0.7, 1.2])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    count = Counter(lambda *row: calls.append(row), "x", 5)
    for done in range(5):
        count(done)
    assert calls == [("x", 2, 5), ("x", 4, 5)]
