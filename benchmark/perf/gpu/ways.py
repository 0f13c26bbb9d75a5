"""How the training loop is told to use a CUDA graph or not, and batches to be streamed: one place for each."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from torch import nn

from benchmark.timing import Clock
from benchmark.train import train


def train_with(graphs: bool | None, network: nn.Module, *positional, **named) -> tuple[list[dict], Clock]:
    """`train` with its steps in a CUDA graph: None where that can be, True by force, False never."""
    return train(network, *positional, **named)


@contextmanager
def streamed() -> Iterator[None]:
    """Within, no pixels fit on a device, so that every batch is copied there from the host."""
    with patch("datasets.batches._room", lambda device: -1):
        yield
