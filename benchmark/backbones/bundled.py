"""Backbones that come with the suite: the stand-in profile's, as this code pretrained them, under their hashes."""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

from visual_decathlon.benchmark.backbones.limits import LARGEST
from visual_decathlon.benchmark.config.specs import Backbone
from visual_decathlon.datasets.io import read_plain, write_bytes

CHECKSUMS = "SHA256SUMS"  # as sha256sum -c takes it


def install_bundled_backbones(wanted: Iterable[Backbone], folder: Path, say: Callable[[str], None]) -> None:
    """Copy to its place each of these that is not there and lies in `folder`, and say so.

    One that is not as its sum says is not taken, and is pretrained as if it were not there.
    """
    for backbone in {backbone.hash: backbone for backbone in wanted}.values():
        ours = folder / backbone.path.name
        if backbone.path.is_file() or not ours.is_file():
            continue
        content = read_plain(ours, LARGEST)
        if hashlib.sha256(content).hexdigest() != read_checksums(folder).get(ours.name):
            say(f"{ours} is damaged, so the {backbone.structure} backbone is pretrained here; `git checkout` it")
            continue
        write_bytes(content, backbone.path)
        say(
            f"the {backbone.structure} backbone comes with the suite, pretrained on these drawings; "
            "SET=backbone_seed=1 pretrains one here"
        )


def read_checksums(folder: Path) -> dict[str, str]:
    """File name -> sha256, of the folder's list; {} where there is none."""
    path = folder / CHECKSUMS
    lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
    return {name: found for found, _, name in (line.partition("  ") for line in lines)}
