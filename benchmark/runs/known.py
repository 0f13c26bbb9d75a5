"""What of a record is known before its run: it is held to the rules of reading before training is paid for."""

import json
from collections.abc import Iterable

from visual_decathlon.benchmark.config.identity import TRAINING_VERSION
from visual_decathlon.benchmark.config.specs import Cell
from visual_decathlon.benchmark.records.provenance import Provenance, kernels
from visual_decathlon.benchmark.records.schema import SCHEMA_VERSION, check
from visual_decathlon.benchmark.runtime import devices
from visual_decathlon.methods.registry import select


def known(cell: Cell, provenance: Provenance) -> dict:
    """The fields that say what is run, on what and by what; no torch is loaded for them."""
    (method,) = select(cell.method)
    return {
        "schema": SCHEMA_VERSION,
        "hash": cell.hash,
        "method": method.spec,
        "method_full": method.full_spec,
        "label": method.label,
        "family": method.family,
        "fidelity": method.fidelity,
        "domain": cell.domain.name,
        "column": cell.domain.column,
        "k": cell.domain.k,
        "seed": cell.seed,
        "split": cell.split,
        "limit": cell.train.limit,
        "profile": cell.profile.name,
        "settings": cell.settings,
        "lr": cell.lr,
        "data": provenance.data,
        "data_id": provenance.data_id,
        "standin": provenance.standin,
        "train_manifest": cell.train.manifest,
        "eval_manifest": cell.evaluate.manifest,
        "presentation": cell.presentation,
        "backbone": cell.backbone.hash,
        "backbone_manifest": cell.backbone.manifest,
        "backbone_source": cell.backbone.source,
        "structure": cell.backbone.structure,
        "source_cell": cell.source_cell,
        "together": [images.domain.name for images in cell.joint.images] if cell.joint else None,
        "together_manifest": cell.joint.manifest if cell.joint else None,
        "off_the_shelf": bool(getattr(method, "off_the_shelf", False)),
        "training": TRAINING_VERSION,
        "classes": cell.train.classes,
        "merged": method.mergeable,
        "workers": provenance.workers,
        "precision": cell.profile.precision,
        "commit": provenance.commit,
        "versions": provenance.versions,
        "machine": provenance.machine,
        "command": provenance.command,
    }


def on_device(record: dict, device: str) -> dict:
    """The same with what torch says of the device: its name, and which kernels compute."""
    import torch

    versions = json.dumps(json.loads(record["versions"]) | kernels(device))
    return record | {"device": devices.name(device), "threads": torch.get_num_threads(), "versions": versions}


def check_known(cells: Iterable[Cell], provenance: Provenance) -> None:
    """BadInput where a record of one of these runs could not be read again, whatever comes out of it."""
    if records := [known(cell, provenance) for cell in cells]:
        check(records, records[0])
