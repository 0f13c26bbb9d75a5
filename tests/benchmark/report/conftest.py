"""A browser for tests of the leaderboard page."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.benchmark.report.chromium import CHROMIUM
from visual_decathlon.benchmark.report.leaderboard.page import page
from visual_decathlon.benchmark.tables.published import published
from visual_decathlon.benchmark.tables.table1 import Table


@pytest.fixture(scope="module")
def browser() -> Iterator:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser, tmp_path: Path) -> Iterator[Callable]:
    """`opened(tables, **context)` opens the page; at the end no network request and no error may have occurred."""
    problems, contexts = [], []

    def show(groups: list[Table], **context):
        path = tmp_path / "leaderboard.html"
        path.write_text(page(groups, published()))
        contexts.append(browser.new_context(**{"viewport": {"width": 1440, "height": 900}} | context))
        tab = contexts[-1].new_page()
        tab.on("console", lambda message: problems.append(message.text))
        tab.on("pageerror", lambda error: problems.append(str(error)))
        tab.on("dialog", lambda dialog: (problems.append(dialog.message), dialog.dismiss()))
        tab.on("request", lambda request: request.url == path.as_uri() or problems.append(request.url))
        tab.set_default_timeout(0)  # a test that hangs is ended as any other
        tab.goto(path.as_uri())
        return tab

    yield show
    for context in contexts:
        context.close()
    assert problems == []
