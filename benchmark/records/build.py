"""Builds the record of a run section by section, in the order of the dictionary that `schema.check` takes.

What `known_fields` returns is known before the run: `check_known` checks it before any training is paid for. The
other sections are measurements: accuracy, size, multiply-adds, time.
"""

import datetime
import json
import math
from collections.abc import Iterable, Mapping, Sequence

from visual_decathlon.benchmark.config.identity import TRAINING_VERSION
from visual_decathlon.benchmark.config.specs import Run
from visual_decathlon.benchmark.records.environment import environment, node
from visual_decathlon.benchmark.records.provenance import Provenance, kernels, machine
from visual_decathlon.benchmark.records.schema import EPOCH, SCHEMA_VERSION, check
from visual_decathlon.benchmark.runtime import devices
from visual_decathlon.benchmark.runtime.nvml import driver
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import select
from visual_decathlon.methods.shapes import Shapes


def known_fields(run: Run, provenance: Provenance) -> dict:
    """Returns every field that is known before the run; torch is not loaded for them."""
    (method,) = select(run.method)
    return (
        _identity(run, method)
        | _data(run, provenance)
        | _backbone(run, method)
        | {"training": TRAINING_VERSION, "classes": run.train.classes, "merged": method.mergeable}
        | _environment(run, provenance)
    )


def check_known(runs: Iterable[Run], provenance: Provenance) -> None:
    """Raises InputError where the record of one of these runs could not be read again."""
    if records := [known_fields(run, provenance) for run in runs]:
        check(records, records[0])


def on_device(record: dict, device: str) -> dict:
    """Returns the record with what is known where the run is executed: machine, packages, device, threads, kernels."""
    import torch

    versions = json.dumps(json.loads(record["versions"]) | kernels(device))
    return record | {
        "versions": versions,
        "environment": environment(),
        "machine": machine(),
        "driver": driver(device),
        "node": node(),
        "device": devices.name(device),
        "threads": torch.get_num_threads(),
    }


def _identity(run: Run, method: Method) -> dict:
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
    }


def _data(run: Run, provenance: Provenance) -> dict:
    return {
        "data": provenance.data,
        "data_id": provenance.data_id,
        "standin": provenance.standin,
        "train_manifest": run.train.manifest,
        "eval_manifest": run.evaluate.manifest,
        "presentation": run.presentation,
    }


def _backbone(run: Run, method: Method) -> dict:
    over_all = next(iter(run.joint_trainings), None)  # all of a run's are over the same domains
    return {
        "backbone": run.backbone.hash,
        "backbone_manifest": run.backbone.manifest,
        "backbone_source": run.backbone.source,
        "structure": run.backbone.structure,
        "source_cell": run.source_cell,
        "together": [images.domain.name for images in over_all.images] if over_all else None,
        "together_manifest": over_all.manifest if over_all else None,
        "off_the_shelf": bool(getattr(method, "off_the_shelf", False)),
    }


def _environment(run: Run, provenance: Provenance) -> dict:
    return {
        "workers": provenance.workers,
        "precision": run.profile.precision,
        "commit": provenance.commit,
        "versions": provenance.versions,
        "command": provenance.command,
    }


def accuracy(
    train_images: int,
    eval_images: int,
    correct: int | None,
    history: Sequence[Mapping],
    merge_difference: float | None,
    routed: int | None,
) -> dict:
    """Returns the section on results. `correct` is None on a split without labels, `routed` without a classifier."""
    return {
        "train_images": train_images,
        "eval_images": eval_images,
        "correct": correct,
        "top1": None if correct is None else 100 * correct / eval_images,
        "history": [{name: row[name] for name in EPOCH} for row in history],
        "merge_difference": merge_difference,
        "routed": routed,
    }


def size(
    run: Run, method: Method, shapes: Shapes, base: int, file_bytes: int | None, floats: int | None = None
) -> dict:
    """Returns the section on what a domain stores. The backbone's own run stores nothing besides its head.

    `shapes` are those of the run's backbone, `base` counts the parameters of the plain backbone. `floats` are those of
    this domain, where training decides how many there are.
    """
    floats = method.floats(shapes) if floats is None else floats
    own = not run.source_cell
    return {
        "floats": floats if own else 0,
        "bits": method.bits(shapes) if own else 0,
        "head_floats": shapes.head(run.train.classes),
        "bytes": file_bytes,
        "base_floats": base,
        "multiplier": method.multiplier(shapes, base, floats),
    }


def multiply_adds(train: int | None, inference: int | None) -> dict:
    """Returns the section on multiply-adds of one image: with adapters as they are trained, and after merging."""
    return {"macs_train": train, "macs_inference": inference}


def times(
    history: Sequence[Mapping],
    earlier: Sequence[Mapping],
    prepare_cpu_seconds: float | None,
    choice: Mapping[str, str | None],
    measured: Mapping,
    eval_img_s: float | None,
) -> dict:
    """Returns the section on time, with the kernels whose time it is, and the moment at which the record is made.

    `earlier` are the epochs of a joint training before this one, `choice` is that of layout and batch norm.
    `measured` is the summary of a training's clock; without it the fields of a step are null.
    """
    return {
        "train_seconds": math.fsum(row["seconds"] for row in history),
        "cpu_seconds": sum_or_none([prepare_cpu_seconds, *(row.get("cpu_seconds") for row in (*earlier, *history))]),
        "runs_on_device": max_or_none(row.get("runs_on_device") for row in history),
        **choice,
        **dict.fromkeys(("step", "first_step_seconds", "skipped_steps")),
        **measured,
        "eval_img_s": eval_img_s,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
    }


def sum_or_none(parts: Iterable[float | None]) -> float | None:
    """Returns the sum, None where one part is unknown."""
    parts = list(parts)
    return None if None in parts else math.fsum(parts)


def max_or_none(counts: Iterable[int | None]) -> int | None:
    """Returns the largest, None where one is unknown or there is none."""
    counts = list(counts)
    return None if None in counts else max(counts, default=None)
