"""Records the manifests of a folder of stand-ins when it is drawn, so that later changes of its files are noticed.

Runs on stand-ins are identified by the generator's version and not by bytes, which depend on Pillow's version. So no
hash of a run would show that a file was changed.
"""

from pathlib import Path

import msgspec

from visual_decathlon.datasets.annotations import read_split
from visual_decathlon.datasets.catalogue import SPLITS, Domain
from visual_decathlon.datasets.file_stamps import hashes
from visual_decathlon.datasets.pack import manifest

_NAME = "drawn.json"


def note_drawn(root: Path, domains: list[Domain]) -> None:
    """Writes the manifest of every split, as packing computes it; `root` is still a temporary folder."""
    manifests = {}
    for domain in domains:
        for name in SPLITS:
            split = read_split(root, domain, name)
            manifests[f"{domain.name} {name}"] = manifest(split, hashes(root, split.files, domain.name)[0])
    (root / _NAME).write_bytes(msgspec.json.encode(manifests))


def manifests_drawn(root: Path) -> dict[str, str]:
    """Manifest of each "<domain> <split>"; empty if an older version drew the stand-ins."""
    try:
        return msgspec.json.decode((root / _NAME).read_bytes(), type=dict[str, str])
    except (OSError, msgspec.DecodeError):
        return {}
