"""Bundled backbones: those of the stand-in profile, pretrained by this code and named by their hashes."""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

from visual_decathlon.benchmark.backbones.limits import LARGEST
from visual_decathlon.benchmark.config.specs import Backbone
from visual_decathlon.datasets.errors import option
from visual_decathlon.datasets.io import read_plain, write_bytes

CHECKSUMS = "SHA256SUMS"  # as sha256sum -c takes it


def install_bundled_backbones(wanted: Iterable[Backbone], folder: Path, report: Callable[[str], None]) -> None:
    """Copies each wanted backbone that is missing from `folder` to its path; `report` gets a sentence for each.

    A file whose checksum is wrong is not copied, and the backbone is pretrained as if the file were missing.
    """
    for backbone in {backbone.hash: backbone for backbone in wanted}.values():
        bundled = folder / backbone.path.name
        if backbone.path.is_file() or not bundled.is_file():
            continue
        content = read_plain(bundled, LARGEST)
        if hashlib.sha256(content).hexdigest() != read_checksums(folder).get(bundled.name):
            report(f"{bundled} is damaged, so the {backbone.structure} backbone is pretrained here; `git checkout` it")
            continue
        write_bytes(content, backbone.path)
        report(
            f"the {backbone.structure} backbone comes with the suite, pretrained on these drawings; "
            f"{option('settings')}backbone_seed=1 pretrains one here"
        )


def read_checksums(folder: Path) -> dict[str, str]:
    """File name -> sha256, from the folder's list; {} where there is no list."""
    path = folder / CHECKSUMS
    lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
    return {name: checksum for checksum, _, name in (line.partition("  ") for line in lines)}
