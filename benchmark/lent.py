"""Backbones that come with the suite: the stand-in profile's, as this code pretrained them, under their hashes."""

from collections.abc import Iterable
from pathlib import Path

from benchmark.cells import Backbone
from benchmark.records import write_bytes


def lend(wanted: Iterable[Backbone], folder: Path) -> list[Backbone]:
    """Copy to its place each of these that is not there and lies in `folder`; returns those that were copied."""
    lent = []
    for backbone in {backbone.hash: backbone for backbone in wanted}.values():
        ours = folder / backbone.path.name
        if ours.is_file() and not backbone.path.is_file():
            write_bytes(ours.read_bytes(), backbone.path)
            lent.append(backbone)
    return lent
