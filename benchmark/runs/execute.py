"""Runs one cell: place, train, merge, evaluate, and the record of it."""

import dataclasses
import datetime
import json
import math
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from visual_decathlon.benchmark.backbones.build import find_invalid_weights
from visual_decathlon.benchmark.backbones.safetensors_file import write_safetensors
from visual_decathlon.benchmark.backbones.shapes import shapes_named
from visual_decathlon.benchmark.backbones.weights import read_weights
from visual_decathlon.benchmark.config.identity import TRAINING_VERSION, network_digest, trunk_digest
from visual_decathlon.benchmark.config.specs import Cell
from visual_decathlon.benchmark.records.predictions import predicted, write_predictions
from visual_decathlon.benchmark.records.provenance import Provenance
from visual_decathlon.benchmark.records.schema import EPOCH, check, plausible
from visual_decathlon.benchmark.records.store import write_record
from visual_decathlon.benchmark.runs.finished import adapters_path, finished_record, own_record, record_path
from visual_decathlon.benchmark.runs.joint import load_together
from visual_decathlon.benchmark.runs.known import known, on_device
from visual_decathlon.benchmark.runtime.device_sharing import Shared, sharing
from visual_decathlon.benchmark.runtime.progress import Report, Watched, hearing
from visual_decathlon.benchmark.serving.metadata import Head
from visual_decathlon.benchmark.training import pretrain
from visual_decathlon.benchmark.training.evaluate import evaluate, merge_checked
from visual_decathlon.benchmark.training.features import FeatureBatches
from visual_decathlon.benchmark.training.loader import open_images
from visual_decathlon.benchmark.training.macs import conv_macs
from visual_decathlon.benchmark.training.timing import Energy, Peak, Processor
from visual_decathlon.benchmark.training.train import train
from visual_decathlon.datasets.batches import Batches
from visual_decathlon.datasets.errors import BadInput, Unwritable
from visual_decathlon.datasets.pack import class_names
from visual_decathlon.methods.layers.network import Network, own_tensors, restore, stored_tensors
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import select


def run_cell(cell: Cell, results: Path, provenance: Provenance, device: str, report: Report) -> dict:
    """Run `cell`, write its record and the domain's own tensors below `results`, return the record.

    An unfinished run goes on from its last epoch; a finished one (its record is whole, its adapters are there) is read,
    and evaluated again where its predictions are to be kept and are not there. Every BadInput names the domain.
    """
    try:
        if (record := finished_record(results, cell.hash)) is not None:
            if cell.predictions and not predicted(results, cell.hash, record["eval_images"]):
                _predict_again(cell, results, device, report)
            return record
        with sharing(device) as shared:
            return _run(cell, results, provenance, device, shared, report)
    except BadInput as error:
        text = str(error)
        prefix = f"{cell.domain.name}: " if cell.domain.name not in text else ""
        raise (Unwritable if isinstance(error, Unwritable) else BadInput)(f"{prefix}{text}") from None


class Ready(NamedTuple):
    """A network that is trained, and what its training left to record."""

    network: Network
    history: list[dict]
    measured: dict
    size: int | None  # bytes of the domain's file
    prepared: float | None = 0.0  # s of the processor before the training; null on a GPU


def _source(source: Network, about: dict) -> Ready:
    """The backbone itself with its own head; its times are the pretraining's."""
    return Ready(source, json.loads(about["history"]), json.loads(about["clock"]), None)


def _part(
    cell: Cell, method: Method, source: Network, together: nn.Module, history: list[dict], clock: dict, results: Path
) -> Ready:
    """The domain's network out of the joint training; its times are an equal share of that."""
    network = together.networks[cell.domain.name]
    stored = stored_tensors(network, together.trunk)
    return Ready(network, history, clock, _write(cell, method, source, stored, results))


def _alone(
    cell: Cell,
    method: Method,
    source: Network,
    images: Batches,
    results: Path,
    device: str,
    shared: Shared,
    report: Report,
) -> Ready:
    """Place the method on the backbone and train it on the domain; goes on from a checkpoint."""
    peak, energy = Peak(torch.device(device)), Energy(torch.device(device))
    torch.manual_seed(cell.seed)
    network = method.place(source, cell.train.classes)
    trained, batches, prepared, processor = network, images, None, 0.0
    if method.views:
        begin, counter = time.perf_counter(), Processor(torch.device(device))
        frozen, trained = method.split(network)
        batches = FeatureBatches(frozen, images, method.views, cell.seed, hearing(report))
        hearing(report)("fitting", 0, 0)
        batches.x = method.fit(network, batches.x, batches.y)
        prepared, processor = time.perf_counter() - begin, counter.seconds()
    checkpoint = _checkpoint(cell, results)
    resumed = checkpoint.is_file()
    if cell.profile.compile:
        hearing(report)("compiling the training step", 0, 0)
    with pretrain.choice_of(cell.backbone, device).applied(trained):
        history, clock = train(
            trained,
            method,
            Watched(batches, report),
            cell.profile.adapt,
            lr=cell.lr,
            seed=cell.seed,
            state=own_tensors(network, source),
            checkpoint=checkpoint,
            precision=cell.profile.precision,
            compile=cell.profile.compile,
            shared=shared,
            report=report,
        )
    measured = clock.summary() | {
        "peak_mb": peak.mb() if clock.images else None,
        # A part of the training is not its energy, and the counter is the whole card's.
        "joules": None if resumed or shared.most() != 1 else energy.joules(),
        "prepare_seconds": prepared,
    }
    stored = stored_tensors(network, source)
    restore(network, source, stored)  # what is evaluated is what the file holds
    return Ready(network, history, measured, _write(cell, method, source, stored, results), processor)


def _predict_again(cell: Cell, results: Path, device: str, report: Report) -> None:
    """Evaluate a finished run from what it stored, and keep its predictions. BadInput where that is gone or damaged."""
    (method,) = select(cell.method)
    source, _ = pretrain.load(cell.backbone, device)
    layout = pretrain.choice_of(cell.backbone, device).memory_format
    images = open_images(cell.evaluate, cell.profile, cell.profile.adapt.batch, device, layout)
    source.size = images.crop
    together = load_together(cell.joint, device)[0] if cell.joint else None
    if cell.source_cell:
        network = source
    elif method.alone:
        network = _restored(cell, method, source, results)
    else:
        network = together.networks[cell.domain.name]
    bare, _ = _bare(network, method, images)
    served = _served(bare, cell, method, together)
    result = evaluate(served, Watched(images, report), cell.profile.precision)
    _write_predictions(cell, images, result.logits, results)


def _restored(cell: Cell, method: Method, source: Network, results: Path) -> Network:
    path = adapters_path(results, cell.hash)
    mend = f"remove {record_path(results, cell.hash)}, and the run is trained again"
    try:
        tensors, about = read_weights(path)
        head = Head.of(about, path)
    except BadInput:
        raise BadInput(f"{path}, which the finished run is evaluated again from, is gone or damaged; {mend}") from None
    if head.weights not in (None, network_digest(source.state_dict())):
        raise BadInput(f"{path} was trained on other weights than {cell.backbone.path} holds now; {mend}")
    network = method.place(source, cell.train.classes)
    if fault := restore(network, source, tensors) or find_invalid_weights(network):
        raise BadInput(f"{path} {fault}; {mend}")
    return network


def _bare(network: Network, method: Method, images: Batches) -> tuple[Network, float | None]:
    """The network with its adapters merged where they merge, and by how much that changes its logits."""
    return merge_checked(network, images, method.spec) if method.mergeable else (network, None)


def _served(bare: Network, cell: Cell, method: Method, together: nn.Module | None) -> nn.Module:
    """What is evaluated: the network, behind the judge of a joint training where the method has one."""
    if together is None:
        return bare
    names = [images.domain.name for images in cell.joint.images]
    domain = cell.evaluate.domain
    return method.served(bare, together, names.index(domain.name), domain.mean, domain.std, cell.profile.crop)


def _computed(cell: Cell, device: str) -> dict[str, str | None]:
    """Layout and batch norm; the backbone's own run has its pretraining's, where that told them."""
    if cell.source_cell:
        return dict.fromkeys(("layout", "norm"))
    return dataclasses.asdict(pretrain.choice_of(cell.backbone, device))


def total(parts: Iterable[float | None]) -> float | None:
    """Their sum, null where one is not known."""
    parts = list(parts)
    return None if None in parts else math.fsum(parts)


def most(counts: Iterable[int | None]) -> int | None:
    """The largest, null where one is not known or there is none."""
    counts = list(counts)
    return None if None in counts else max(counts, default=None)


def _checkpoint(cell: Cell, results: Path) -> Path:
    return results / "unfinished" / f"{cell.hash}.safetensors"


def _write(cell: Cell, method: Method, source: Network, stored: dict[str, Tensor], results: Path) -> int:
    """Write what a domain stores beside the backbone `source`; returns its size in bytes.

    The backbone's hash names how its weights were made, and they differ between processors: their own is written, too.
    """
    head = Head(
        method=method.full_spec,
        backbone=cell.backbone.hash,
        domain=cell.domain.name,
        classes=cell.train.classes,
        mean=cell.domain.mean,
        std=cell.domain.std,
        crop=source.size,
        shorter=cell.profile.shorter,
        training=TRAINING_VERSION,
        joint=cell.joint.hash if cell.joint else None,
        names=_class_names(cell),
        weights=network_digest(source.state_dict()),
        joint_weights=None if method.alone else trunk_digest(read_weights(cell.joint.path)[0]),
    )
    return write_safetensors(adapters_path(results, cell.hash), stored, head.metadata())


def _write_predictions(cell: Cell, images: Batches, logits: Tensor, results: Path) -> None:
    write_predictions(results, cell.hash, cell.domain, _class_names(cell), images.files(), images.ids, logits)


def _class_names(cell: Cell) -> tuple[str, ...] | None:
    """Those of the head's classes, which are train's."""
    return class_names(cell.train.packs[0]) if cell.train.packs else None


def _run(cell: Cell, results: Path, provenance: Provenance, device: str, shared: Shared, report: Report) -> dict:
    (method,) = select(cell.method)
    profile = cell.profile
    before = own_record(results, cell.hash)  # of a run whose adapters are gone
    foretold = on_device(known(cell, provenance), device)
    check([foretold], foretold)
    source, about = pretrain.load(cell.backbone, device)
    layout = pretrain.choice_of(cell.backbone, device).memory_format
    shown_on = "cpu" if cell.source_cell else device  # the pretraining's images are only counted
    train_images = open_images(cell.train, profile, profile.adapt.batch, shown_on, layout)
    test_images = open_images(cell.evaluate, profile, profile.adapt.batch, device, layout)
    source.size = test_images.crop
    base = shapes_named(profile.network, profile.width, source.size)
    shapes = shapes_named(profile.network, cell.backbone.network_profile.width, source.size)
    together, joint, clock = load_together(cell.joint, device) if cell.joint else (None, [], {})
    if cell.source_cell:
        ready = _source(source, about)
    elif method.alone:
        ready = _alone(cell, method, source, train_images, results, device, shared, report)
    else:
        ready = _part(cell, method, source, together, joint, clock, results)
    network, history, measured, size, prepared = ready
    earlier = joint if together is not None and method.alone else []  # trained for all domains before it
    if earlier:
        measured = {**measured, "prepare_seconds": math.fsum(row["seconds"] for row in earlier)}
    bare, difference = _bare(network, method, test_images)
    served = _served(bare, cell, method, together)
    inference = conv_macs(served, test_images.crop)
    result = evaluate(served, Watched(test_images, report), profile.precision)
    floats = bits = 0
    if not cell.source_cell:
        floats, bits = method.floats(shapes), method.bits(shapes)
    record = foretold | {
        "train_images": len(train_images),
        "eval_images": len(test_images),
        "correct": result.correct,
        "top1": None if result.correct is None else 100 * result.correct / len(test_images),
        "history": [{name: row[name] for name in EPOCH} for row in history],
        "merge_difference": difference,
        "floats": floats,
        "bits": bits,
        "head_floats": shapes.head(cell.train.classes),
        "bytes": size,
        "base_floats": base.base,
        "multiplier": method.multiplier(shapes, base.base),
        "macs_train": conv_macs(network, test_images.crop),
        "macs_inference": inference,
        "train_seconds": math.fsum(row["seconds"] for row in history),
        "cpu_seconds": total([prepared, *(row.get("cpu_seconds") for row in (*earlier, *history))]),
        "runs_on_device": most(row.get("runs_on_device") for row in history),
        **_computed(cell, device),
        **dict.fromkeys(("step", "first_step_seconds", "skipped_steps")),  # where the training does not tell them
        **measured,
        "eval_img_s": result.img_s,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
    }
    if cell.predictions:  # before the record: with it the run is finished
        _write_predictions(cell, test_images, result.logits, results)
    if (done := own_record(results, cell.hash)) not in (None, before):
        record = done  # another command was faster: its measurements stand
    else:
        record = plausible(record)
        write_record(record, results / "records")
    if not cell.source_cell:
        _checkpoint(cell, results).unlink(missing_ok=True)
    return record
