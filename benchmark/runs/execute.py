"""Runs one run: place, train, merge, evaluate, and the record of it."""

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
from visual_decathlon.benchmark.config.specs import Run
from visual_decathlon.benchmark.records.predictions import predicted, write_predictions
from visual_decathlon.benchmark.records.provenance import Provenance
from visual_decathlon.benchmark.records.schema import EPOCH, check, plausible
from visual_decathlon.benchmark.records.store import write_record
from visual_decathlon.benchmark.runs.finished import adapters_path, finished_record, own_record, record_path
from visual_decathlon.benchmark.runs.joint import load_together
from visual_decathlon.benchmark.runs.known import known, on_device
from visual_decathlon.benchmark.runtime.device_sharing import Shared, sharing
from visual_decathlon.benchmark.runtime.progress import Report, Watched, hearing
from visual_decathlon.benchmark.serving.metadata import AdapterMetadata
from visual_decathlon.benchmark.training import pretrain
from visual_decathlon.benchmark.training.apply_kernels import kernels_applied
from visual_decathlon.benchmark.training.evaluate import evaluate, merge_checked
from visual_decathlon.benchmark.training.features import FeatureBatches
from visual_decathlon.benchmark.training.loader import open_images
from visual_decathlon.benchmark.training.macs import conv_macs
from visual_decathlon.benchmark.training.timing import Energy, Peak, Processor
from visual_decathlon.benchmark.training.train import train
from visual_decathlon.datasets.batches import Batches
from visual_decathlon.datasets.errors import InputError, Unwritable
from visual_decathlon.datasets.pack import class_names
from visual_decathlon.methods.layers.network import Network, own_tensors, restore, stored_tensors
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import select


def execute_run(run: Run, results: Path, provenance: Provenance, device: str, report: Report) -> dict:
    """Run `run`, write its record and the domain's own tensors below `results`, return the record.

    An unfinished run goes on from its last epoch; a finished one (its record is whole, its adapters are there) is read,
    and evaluated again where its predictions are to be kept and are not there. Every InputError names the domain.
    """
    try:
        if (record := finished_record(results, run.hash)) is not None:
            if run.predictions and not predicted(results, run.hash, record["eval_images"]):
                _predict_again(run, results, device, report)
            return record
        with sharing(device) as shared:
            return _run(run, results, provenance, device, shared, report)
    except InputError as error:
        text = str(error)
        prefix = f"{run.domain.name}: " if run.domain.name not in text else ""
        raise (Unwritable if isinstance(error, Unwritable) else InputError)(f"{prefix}{text}") from None


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
    run: Run, method: Method, source: Network, together: nn.Module, history: list[dict], clock: dict, results: Path
) -> Ready:
    """The domain's network out of the joint training; its times are an equal share of that."""
    network = together.networks[run.domain.name]
    stored = stored_tensors(network, together.trunk)
    return Ready(network, history, clock, _write(run, method, source, stored, results))


def _alone(
    run: Run,
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
    torch.manual_seed(run.seed)
    network = method.place(source, run.train.classes)
    trained, batches, prepared, processor = network, images, None, 0.0
    if method.cached_views:
        begin, counter = time.perf_counter(), Processor(torch.device(device))
        frozen, trained = method.split(network)
        batches = FeatureBatches(frozen, images, method.cached_views, run.seed, hearing(report))
        hearing(report)("fitting", 0, 0)
        batches.x = method.fit(network, batches.x, batches.y)
        prepared, processor = time.perf_counter() - begin, counter.seconds()
    checkpoint = _checkpoint(run, results)
    resumed = checkpoint.is_file()
    if run.profile.compile:
        hearing(report)("compiling the training step", 0, 0)
    with kernels_applied(pretrain.choice_of(run.backbone, device), trained):
        history, clock = train(
            trained,
            method,
            Watched(batches, report),
            run.profile.adapt,
            lr=run.lr,
            seed=run.seed,
            state=own_tensors(network, source),
            checkpoint=checkpoint,
            precision=run.profile.precision,
            compile=run.profile.compile,
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
    return Ready(network, history, measured, _write(run, method, source, stored, results), processor)


def _predict_again(run: Run, results: Path, device: str, report: Report) -> None:
    """Evaluate a finished run from what it stored and keep predictions. InputError where that is gone or damaged."""
    (method,) = select(run.method)
    source, _ = pretrain.load(run.backbone, device)
    layout = pretrain.choice_of(run.backbone, device).memory_format
    images = open_images(run.evaluate, run.profile, run.profile.adapt.batch, device, layout)
    source.size = images.crop
    together = load_together(run.joint, device)[0] if run.joint else None
    if run.source_cell:
        network = source
    elif method.trains_per_domain:
        network = _restored(run, method, source, results)
    else:
        network = together.networks[run.domain.name]
    bare, _ = _bare(network, method, images)
    served = _served(bare, run, method, together)
    result = evaluate(served, Watched(images, report), run.profile.precision)
    _write_predictions(run, images, result.logits, results)


def _restored(run: Run, method: Method, source: Network, results: Path) -> Network:
    path = adapters_path(results, run.hash)
    mend = f"remove {record_path(results, run.hash)}, and the run is trained again"
    try:
        tensors, about = read_weights(path)
        head = AdapterMetadata.of(about, path)
    except InputError:
        raise InputError(
            f"{path}, which the finished run is evaluated again from, is gone or damaged; {mend}"
        ) from None
    if head.weights not in (None, network_digest(source.state_dict())):
        raise InputError(f"{path} was trained on other weights than {run.backbone.path} holds now; {mend}")
    network = method.place(source, run.train.classes)
    if fault := restore(network, source, tensors) or find_invalid_weights(network):
        raise InputError(f"{path} {fault}; {mend}")
    return network


def _bare(network: Network, method: Method, images: Batches) -> tuple[Network, float | None]:
    """The network with its adapters merged where they merge, and by how much that changes its logits."""
    return merge_checked(network, images, method.spec) if method.mergeable else (network, None)


def _served(bare: Network, run: Run, method: Method, together: nn.Module | None) -> nn.Module:
    """What is evaluated: the network, behind the judge of a joint training where the method has one."""
    if together is None:
        return bare
    names = [images.domain.name for images in run.joint.images]
    domain = run.evaluate.domain
    return method.inference_module(bare, together, names.index(domain.name), domain.mean, domain.std, run.profile.crop)


def _computed(run: Run, device: str) -> dict[str, str | None]:
    """Layout and batch norm; the backbone's own run has its pretraining's, where that told them."""
    if run.source_cell:
        return dict.fromkeys(("layout", "norm"))
    return dataclasses.asdict(pretrain.choice_of(run.backbone, device))


def total(parts: Iterable[float | None]) -> float | None:
    """Their sum, null where one is not known."""
    parts = list(parts)
    return None if None in parts else math.fsum(parts)


def most(counts: Iterable[int | None]) -> int | None:
    """The largest, null where one is not known or there is none."""
    counts = list(counts)
    return None if None in counts else max(counts, default=None)


def _checkpoint(run: Run, results: Path) -> Path:
    return results / "unfinished" / f"{run.hash}.safetensors"


def _write(run: Run, method: Method, source: Network, stored: dict[str, Tensor], results: Path) -> int:
    """Write what a domain stores beside the backbone `source`; returns its size in bytes.

    The backbone's hash names how its weights were made, and they differ between processors: their own is written, too.
    """
    head = AdapterMetadata(
        method=method.full_spec,
        backbone=run.backbone.hash,
        domain=run.domain.name,
        classes=run.train.classes,
        mean=run.domain.mean,
        std=run.domain.std,
        crop=source.size,
        shorter=run.profile.shorter,
        training=TRAINING_VERSION,
        joint=run.joint.hash if run.joint else None,
        names=_class_names(run),
        weights=network_digest(source.state_dict()),
        joint_weights=None if method.trains_per_domain else trunk_digest(read_weights(run.joint.path)[0]),
    )
    return write_safetensors(adapters_path(results, run.hash), stored, head.metadata())


def _write_predictions(run: Run, images: Batches, logits: Tensor, results: Path) -> None:
    write_predictions(results, run.hash, run.domain, _class_names(run), images.files(), images.ids, logits)


def _class_names(run: Run) -> tuple[str, ...] | None:
    """Those of the head's classes, which are train's."""
    return class_names(run.train.packs[0]) if run.train.packs else None


def _run(run: Run, results: Path, provenance: Provenance, device: str, shared: Shared, report: Report) -> dict:
    (method,) = select(run.method)
    profile = run.profile
    before = own_record(results, run.hash)  # of a run whose adapters are gone
    foretold = on_device(known(run, provenance), device)
    check([foretold], foretold)
    source, about = pretrain.load(run.backbone, device)
    layout = pretrain.choice_of(run.backbone, device).memory_format
    shown_on = "cpu" if run.source_cell else device  # the pretraining's images are only counted
    train_images = open_images(run.train, profile, profile.adapt.batch, shown_on, layout)
    test_images = open_images(run.evaluate, profile, profile.adapt.batch, device, layout)
    source.size = test_images.crop
    base = shapes_named(profile.network, profile.width, source.size)
    shapes = shapes_named(profile.network, run.backbone.network_profile.width, source.size)
    together, joint, clock = load_together(run.joint, device) if run.joint else (None, [], {})
    if run.source_cell:
        ready = _source(source, about)
    elif method.trains_per_domain:
        ready = _alone(run, method, source, train_images, results, device, shared, report)
    else:
        ready = _part(run, method, source, together, joint, clock, results)
    network, history, measured, size, prepared = ready
    earlier = joint if together is not None and method.trains_per_domain else []  # trained for all domains before it
    if earlier:
        measured = {**measured, "prepare_seconds": math.fsum(row["seconds"] for row in earlier)}
    bare, difference = _bare(network, method, test_images)
    served = _served(bare, run, method, together)
    inference = conv_macs(served, test_images.crop)
    result = evaluate(served, Watched(test_images, report), profile.precision)
    floats = bits = 0
    if not run.source_cell:
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
        "head_floats": shapes.head(run.train.classes),
        "bytes": size,
        "base_floats": base.base,
        "multiplier": method.multiplier(shapes, base.base),
        "macs_train": conv_macs(network, test_images.crop),
        "macs_inference": inference,
        "train_seconds": math.fsum(row["seconds"] for row in history),
        "cpu_seconds": total([prepared, *(row.get("cpu_seconds") for row in (*earlier, *history))]),
        "runs_on_device": most(row.get("runs_on_device") for row in history),
        **_computed(run, device),
        **dict.fromkeys(("step", "first_step_seconds", "skipped_steps")),  # where the training does not tell them
        **measured,
        "eval_img_s": result.img_s,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
    }
    if run.predictions:  # before the record: with it the run is finished
        _write_predictions(run, test_images, result.logits, results)
    if (done := own_record(results, run.hash)) not in (None, before):
        record = done  # another command was faster: its measurements stand
    else:
        record = plausible(record)
        write_record(record, results / "records")
    if not run.source_cell:
        _checkpoint(run, results).unlink(missing_ok=True)
    return record
