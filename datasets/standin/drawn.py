"""What a folder of stand-ins held when it was drawn, so that a drawing changed later is not taken for one.

Runs on stand-ins are identified by the generator's version, not by bytes (another Pillow gives others), so a changed
file would show in no hash.
"""

from pathlib import Path

import msgspec

from visual_decathlon.datasets.annotations import read_split
from visual_decathlon.datasets.catalogue import SPLITS, Domain
from visual_decathlon.datasets.file_stamps import hashes
from visual_decathlon.datasets.pack import manifest

_NAME = "drawn.json"


def note_drawn(root: Path, domains: list[Domain]) -> None:
    """Write down the manifest of every split, as packing finds it."""
    noted = {}
    for domain in domains:
        for name in SPLITS:
            split = read_split(root, domain, name)
            noted[f"{domain.name} {name}"] = manifest(split, hashes(root, split.files, domain.name)[0])
    (root / _NAME).write_bytes(msgspec.json.encode(noted))


def manifests_drawn(root: Path) -> dict[str, str]:
    """Domain and split -> manifest; empty where an older version drew them."""
    try:
        return msgspec.json.decode((root / _NAME).read_bytes(), type=dict[str, str])
    except (OSError, msgspec.DecodeError):
        return {}
