"""Runs one cell: place, train, merge, evaluate, and the record of it."""

import datetime
import json
import math
import time
from pathlib import Path

import torch

from benchmark import networks
from benchmark.backbones.shapes import shapes_of
from benchmark.cells import Cell
from benchmark.checkpoint import write_safetensors
from benchmark.cost import conv_macs
from benchmark.evaluate import evaluate, merge_checked
from benchmark.features import FeatureBatches
from benchmark.identity import TRAINING_VERSION
from benchmark.images import open_images
from benchmark.provenance import Provenance, device_name
from benchmark.records import SCHEMA_VERSION, read_record, write_record
from benchmark.timing import Energy, Peak
from benchmark.train import Report, train
from datasets.errors import BadInput
from methods.layers.network import own_tensors, restore, stored_tensors
from methods.registry import select


def run_cell(cell: Cell, results: Path, provenance: Provenance, device: str, report: Report) -> dict:
    """Run `cell`, write its record and the domain's own tensors below `results`, return the record.

    An unfinished run goes on from its last epoch; one that another command has finished meanwhile is
    read. Every BadInput names the domain.
    """
    try:
        if (done := results / "records" / f"{cell.hash}.parquet").is_file():
            return read_record(done)
        return _run(cell, results, provenance, device, report)
    except BadInput as error:
        text = str(error)
        prefix = f"{cell.domain.name}: " if cell.domain.name not in text else ""
        raise BadInput(f"{prefix}{text}") from None


def _run(cell: Cell, results: Path, provenance: Provenance, device: str, report: Report) -> dict:
    (method,) = select(cell.method)
    profile, recipe = cell.profile, cell.profile.adapt
    source, about = networks.load(cell.backbone, device)
    test_images = open_images(cell.evaluate, profile, recipe.batch, device)
    source.size = test_images.crop
    shapes = shapes_of(networks.build(profile, "plain", 1), source.size)
    measured = {}
    if cell.source_cell:
        network = source
        history, measured = json.loads(about["history"]), json.loads(about["clock"])
        train_images, size = len(open_images(cell.train, profile, 1, "cpu")), None
    else:
        peak, energy = Peak(torch.device(device)), Energy(torch.device(device))
        train_batches = open_images(cell.train, profile, recipe.batch, device)
        train_images = len(train_batches)
        torch.manual_seed(cell.seed)
        network = method.place(source, cell.train.classes)
        own = own_tensors(network, source)
        trained, batches = network, train_batches
        prepared = None
        if method.views:
            begin = time.perf_counter()
            trained, batches = network.head, FeatureBatches(network.body, train_batches, method.views, cell.seed)
            prepared = time.perf_counter() - begin
        checkpoint = results / "unfinished" / f"{cell.hash}.safetensors"
        resumed = checkpoint.is_file()
        history, clock = train(
            trained,
            method,
            batches,
            recipe,
            lr=cell.lr,
            seed=cell.seed,
            state=own,
            checkpoint=checkpoint,
            precision=profile.precision,
            report=report,
        )
        measured = clock.summary() | {
            "peak_mb": peak.mb() if clock.ms else None,
            "joules": None if resumed else energy.joules(),  # a part of the training is not its energy
            "prepare_seconds": prepared,
        }
        head = {"method": method.full_spec, "backbone": cell.backbone.hash, "domain": cell.domain.name}
        stored = stored_tensors(network, source)
        restore(network, source, stored)  # what is evaluated is what the file holds
        size = write_safetensors(
            results / "adapters" / f"{cell.hash}.safetensors",
            stored,
            {key: str(value) for key, value in (head | {"classes": cell.train.classes}).items()},
        )
    served, difference = network, None
    if method.mergeable:
        served, difference = merge_checked(network, test_images, method.spec)
    result = evaluate(served, test_images, profile.precision)
    if cell.source_cell:
        floats = bits = 0
    else:
        floats, bits = method.floats(shapes), method.bits(shapes)
    record = {
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
        "profile": profile.name,
        "settings": cell.settings,
        "lr": cell.lr,
        "data": provenance.data,
        "data_id": provenance.data_id,
        "standin": provenance.standin,
        "train_manifest": cell.train.manifest,
        "eval_manifest": cell.evaluate.manifest,
        "backbone": cell.backbone.hash,
        "backbone_source": cell.backbone.source,
        "structure": cell.backbone.structure,
        "source_cell": cell.source_cell,
        "off_the_shelf": bool(getattr(method, "off_the_shelf", False)),
        "training": TRAINING_VERSION,
        "classes": cell.train.classes,
        "train_images": train_images,
        "eval_images": len(test_images),
        "correct": result.correct,
        "top1": 100 * result.correct / len(test_images),
        "history": history,
        "merged": method.mergeable,
        "merge_difference": difference,
        "floats": floats,
        "bits": bits,
        "head_floats": shapes.head(cell.train.classes),
        "bytes": size,
        "base_floats": shapes.base,
        "multiplier": method.multiplier(shapes),
        "macs_train": conv_macs(network, test_images.crop),
        "macs_inference": conv_macs(served, test_images.crop),
        "train_seconds": math.fsum(row["seconds"] for row in history),
        **measured,
        "eval_img_s": result.img_s,
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "workers": provenance.workers,
        "precision": profile.precision,
        "commit": provenance.commit,
        "versions": provenance.versions,
        "machine": provenance.machine,
        "command": provenance.command,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    if (done := results / "records" / f"{cell.hash}.parquet").is_file():
        record = read_record(done)  # another command was faster: its measurements stand
    else:
        write_record(record, results / "records")
    if not cell.source_cell:
        checkpoint.unlink(missing_ok=True)
    return record
