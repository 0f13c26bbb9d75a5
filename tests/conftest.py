"""What all tests share: one thread, and the folder of official files where a checkout has it beside it."""

from pathlib import Path

import pytest
import torch


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """Tiny networks: more threads only wait for each other, and sums in another order are other bits.

    Before every test and what it sets up, because a command that measures takes all cores and leaves it so.
    """
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder `shared` beside the checkout: official and golden files, read and never copied."""
    folder = Path(__file__).parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("the folder ../shared with the official and golden files is not there")
    return folder
