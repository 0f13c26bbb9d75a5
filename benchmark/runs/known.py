"""What of a record is known before its run: it is held to the rules of reading before training is paid for."""

import json
from collections.abc import Iterable

from visual_decathlon.benchmark.config.identity import TRAINING_VERSION
from visual_decathlon.benchmark.config.specs import Run
from visual_decathlon.benchmark.records.provenance import Provenance, kernels
from visual_decathlon.benchmark.records.schema import SCHEMA_VERSION, check
from visual_decathlon.benchmark.runtime import devices
from visual_decathlon.methods.registry import select


def known(run: Run, provenance: Provenance) -> dict:
    """The fields that say what is run, on what and by what; no torch is loaded for them."""
    (method,) = select(run.method)
    return {
        "schema": SCHEMA_VERSION,
        "hash": run.hash,
        "method": method.spec,
        "method_full": method.full_spec,
        "label": method.label,
        "family": method.family,
        "fidelity": method.fidelity,
        "domain": run.domain.name,
        "column": run.domain.column,
        "k": run.domain.k,
        "seed": run.seed,
        "split": run.split,
        "limit": run.train.limit,
        "profile": run.profile.name,
        "settings": run.settings,
        "lr": run.lr,
        "data": provenance.data,
        "data_id": provenance.data_id,
        "standin": provenance.standin,
        "train_manifest": run.train.manifest,
        "eval_manifest": run.evaluate.manifest,
        "presentation": run.presentation,
        "backbone": run.backbone.hash,
        "backbone_manifest": run.backbone.manifest,
        "backbone_source": run.backbone.source,
        "structure": run.backbone.structure,
        "source_cell": run.source_cell,
        "together": [images.domain.name for images in run.joint.images] if run.joint else None,
        "together_manifest": run.joint.manifest if run.joint else None,
        "off_the_shelf": bool(getattr(method, "off_the_shelf", False)),
        "training": TRAINING_VERSION,
        "classes": run.train.classes,
        "merged": method.mergeable,
        "workers": provenance.workers,
        "precision": run.profile.precision,
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


def check_known(runs: Iterable[Run], provenance: Provenance) -> None:
    """InputError where a record of one of these runs could not be read again, whatever comes out of it."""
    if records := [known(run, provenance) for run in runs]:
        check(records, records[0])
