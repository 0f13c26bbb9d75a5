"""Executes one run: places the method, trains, merges, evaluates and writes the record."""

import dataclasses
import json
import math
import time
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from visual_decathlon.benchmark.backbones.build import find_invalid_weights
from visual_decathlon.benchmark.backbones.safetensors_file import write_safetensors
from visual_decathlon.benchmark.backbones.shapes import shapes_named
from visual_decathlon.benchmark.backbones.weights import read_weights
from visual_decathlon.benchmark.config.backbone_names import OWN
from visual_decathlon.benchmark.config.identity import TRAINING_VERSION, network_digest, trunk_digest
from visual_decathlon.benchmark.config.specs import Run
from visual_decathlon.benchmark.records import build
from visual_decathlon.benchmark.records.environment import list_environment
from visual_decathlon.benchmark.records.folder import ResultsFolder
from visual_decathlon.benchmark.records.predictions import has_predictions, write_predictions
from visual_decathlon.benchmark.records.provenance import Provenance
from visual_decathlon.benchmark.records.schema import check, plausible
from visual_decathlon.benchmark.records.store import write_record
from visual_decathlon.benchmark.runs.finished import finished_record, own_record
from visual_decathlon.benchmark.runs.joint import load_joint
from visual_decathlon.benchmark.runs.trial_pass import check_pass
from visual_decathlon.benchmark.runtime.device_sharing import Shared, sharing
from visual_decathlon.benchmark.runtime.progress import Report, Watched, progress_of
from visual_decathlon.benchmark.serving.metadata import AdapterMetadata
from visual_decathlon.benchmark.training import pretrain
from visual_decathlon.benchmark.training.apply_kernels import kernels_applied
from visual_decathlon.benchmark.training.evaluate import evaluate, merge_checked
from visual_decathlon.benchmark.training.features import FeatureBatches
from visual_decathlon.benchmark.training.loader import open_images
from visual_decathlon.benchmark.training.macs import conv_macs, image_macs
from visual_decathlon.benchmark.training.timing import Energy, Peak, Processor
from visual_decathlon.benchmark.training.train import train
from visual_decathlon.datasets.batches import Batches
from visual_decathlon.datasets.errors import InputError, Unwritable
from visual_decathlon.datasets.pack import class_names
from visual_decathlon.methods.layers.network import Network, own_tensors, restore, stored_tensors
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import select


def execute_run(run: Run, results: Path, provenance: Provenance, device: str, report: Report) -> dict:
    """Execute `run`, write its record and the domain's own tensors below `results`, return the record.

    An unfinished run continues from its last epoch. A finished run (its record is complete and its adapters exist) is
    only read; it is evaluated again where its predictions are asked for and missing. Every InputError names the domain.
    """
    try:
        if (record := finished_record(results, run.hash)) is not None:
            if run.predictions and not has_predictions(results, run.hash, record["eval_images"]):
                _predict_again(run, results, device, report)
            return record
        with sharing(device) as shared:
            return _run(run, results, provenance, device, shared, report)
    except InputError as error:
        text = str(error)
        prefix = f"{run.domain.name}: " if run.domain.name not in text else ""
        raise (Unwritable if isinstance(error, Unwritable) else InputError)(f"{prefix}{text}") from None


class _Opened(NamedTuple):
    """The backbone of a run, loaded, and its images."""

    backbone: Network
    metadata: dict[str, str]  # of the backbone's file
    train_images: Batches | None
    test_images: Batches


class _Trained(NamedTuple):
    """A trained network, and the measurements of its training."""

    network: Network
    history: list[dict]
    measured: dict
    size: int | None  # bytes of the domain's file
    prepared: float | None = 0.0  # s of processor time before the training; null on a GPU

    def times(self, earlier: list[dict]) -> dict:
        """The measurements; the epochs `earlier` of a classifier of domains count as the domain's preparation."""
        if not earlier:
            return self.measured
        return {**self.measured, "prepare_seconds": math.fsum(row["seconds"] for row in earlier)}


def _run(run: Run, results: Path, provenance: Provenance, device: str, shared: Shared, report: Report) -> dict:
    (method,) = select(run.method)
    previous = own_record(results, run.hash)  # of a run whose adapters are missing
    known_fields = build.on_device(build.known_fields(run, provenance), device)
    check([known_fields], known_fields)
    opened = _open(run, device)
    classifier, earlier, _ = load_joint(run.classifier, device) if run.classifier else (None, [], {})
    if run.source_cell:
        trained = _pretrained(opened)
    elif method.trains_per_domain:
        trained = _train_domain(run, method, opened, results, device, shared, report)
    else:
        trained = _part_of_joint(run, method, opened.backbone, device, results)
    merged, difference = _merge(trained.network, method, opened.test_images)
    inference = _inference_module(merged, run, method, classifier)
    crop = opened.test_images.crop
    profile = run.profile
    counted = conv_macs if profile.network == OWN else image_macs
    macs_inference = counted(inference, crop)
    result = evaluate(inference, Watched(opened.test_images, report), profile.precision)
    base = shapes_named(profile.network, profile.width, crop).base
    shapes = shapes_named(profile.network, run.backbone.network_profile.width, crop)
    images = len(opened.train_images), len(opened.test_images)
    # The last logit of an image is the largest where it was taken for another domain's: see Method.inference_module.
    routed = int((result.logits.argmax(1) < run.train.classes).sum()) if run.classifier else None
    record = known_fields | build.accuracy(*images, result.correct, trained.history, difference, routed)
    floats = None if run.source_cell else method.stored_floats(trained.network, shapes)
    record |= build.size(run, method, shapes, base, trained.size, floats)
    record |= build.multiply_adds(counted(trained.network, crop), macs_inference)
    record |= build.times(
        trained.history, earlier, trained.prepared, _layout_and_norm(run, device), trained.times(earlier), result.img_s
    )
    if run.predictions:  # before the record: with the record the run is finished
        _write_predictions(run, opened.test_images, result.logits, results)
    if (done := own_record(results, run.hash)) not in (None, previous):
        record = done  # another command was faster: keep its measurements
    else:
        record = plausible(record)
        list_environment(results)
        write_record(record, ResultsFolder(results).records)
    if not run.source_cell:
        ResultsFolder(results).checkpoint(run.hash).unlink(missing_ok=True)
    return record


def _open(run: Run, device: str, train: bool = True) -> _Opened:
    """Load the backbone and open the images of the evaluated split, and those of the training split if `train`."""
    backbone, metadata = pretrain.load(run.backbone, device)
    layout = pretrain.choice_of(run.backbone, device).memory_format
    train_images = None
    if train:
        train_device = "cpu" if run.source_cell else device  # the images of the pretraining are only counted
        train_images = open_images(run.train, run.profile, run.profile.adapt.batch, train_device, layout)
    test_images = open_images(run.evaluate, run.profile, run.profile.adapt.batch, device, layout)
    return _Opened(backbone.for_size(test_images.crop), metadata, train_images, test_images)


def _pretrained(opened: _Opened) -> _Trained:
    """The backbone itself with its own head; its times are those of the pretraining."""
    metadata = opened.metadata
    return _Trained(opened.backbone, json.loads(metadata["history"]), json.loads(metadata["clock"]), None)


def _part_of_joint(run: Run, method: Method, backbone: Network, device: str, results: Path) -> _Trained:
    """The domain's network out of the joint training; its times are an equal share of that training's."""
    network, stored, history, clock = _joint_network(run, device)
    return _Trained(network, history, clock, write_adapters(run, method, backbone, stored, results))


def _joint_network(run: Run, device: str) -> tuple[Network, dict[str, Tensor], list[dict], dict]:
    """The domain's network out of the joint training and what it stores; its share of the history and the times."""
    module, history, clock = load_joint(run.joint, device)
    network = module.networks[run.domain.name]
    stored = stored_tensors(network, module.trunk)
    restore(network, module.trunk, stored)  # evaluate exactly what the file holds
    return network, stored, history, clock


def _train_domain(
    run: Run, method: Method, opened: _Opened, results: Path, device: str, shared: Shared, report: Report
) -> _Trained:
    """Place the method on the backbone and train it on the domain; continues from a checkpoint if there is one."""
    backbone, images = opened.backbone, opened.train_images
    peak, energy = Peak(torch.device(device)), Energy(torch.device(device))
    torch.manual_seed(run.seed)
    network = method.place(backbone, run.train.classes)
    check_pass(run, method, network, device)
    trained, batches, prepared, processor = network, images, None, 0.0
    if method.cached_views:
        begin, counter = time.perf_counter(), Processor(torch.device(device))
        frozen, trained = method.split(network)
        batches = FeatureBatches(frozen, images, method.cached_views, run.seed, progress_of(report))
        progress_of(report)("fitting", 0, 0)
        batches.x = method.fit(network, batches.x, batches.y)
        prepared, processor = time.perf_counter() - begin, counter.seconds()
    checkpoint = ResultsFolder(results).checkpoint(run.hash)
    resumed = checkpoint.is_file()
    if run.profile.compile:
        progress_of(report)("compiling the training step", 0, 0)
    with kernels_applied(pretrain.choice_of(run.backbone, device), trained):
        history, clock = train(
            trained,
            method.for_domain(run.domain.name),
            Watched(batches, report),
            run.profile.adapt,
            lr=run.lr,
            seed=run.seed,
            state=own_tensors(network, backbone),
            checkpoint=checkpoint,
            precision=run.profile.precision,
            compile=run.profile.compile,
            shared=shared,
            report=report,
        )
    measured = clock.summary() | {
        "peak_mb": peak.mb() if clock.images else None,
        # Unknown after a resume, which sees only a part of the training, and with other runs, as the counter is the
        # whole card's.
        "joules": None if resumed or shared.most() != 1 else energy.joules(),
        "prepare_seconds": prepared,
    }
    stored = stored_tensors(network, backbone)
    restore(network, backbone, stored)  # evaluate exactly what the file holds
    return _Trained(network, history, measured, write_adapters(run, method, backbone, stored, results), processor)


def _layout_and_norm(run: Run, device: str) -> dict[str, str | None]:
    """Layout and batch norm of the training; null for the backbone's own run, where its pretraining's count."""
    if run.source_cell:
        return dict.fromkeys(("layout", "norm"))
    return dataclasses.asdict(pretrain.choice_of(run.backbone, device))


def _predict_again(run: Run, results: Path, device: str, report: Report) -> None:
    """Evaluate a finished run from its files and write its predictions.

    Raises InputError where one of these files is missing or damaged.
    """
    (method,) = select(run.method)
    backbone, _, _, images = _open(run, device, train=False)
    classifier = load_joint(run.classifier, device)[0] if run.classifier else None
    if run.source_cell:
        network = backbone
    elif method.trains_per_domain:
        network = _restored(run, method, backbone, results)
    else:
        network, *_ = _joint_network(run, device)
    merged, _ = _merge(network, method, images)
    inference = _inference_module(merged, run, method, classifier)
    result = evaluate(inference, Watched(images, report), run.profile.precision)
    _write_predictions(run, images, result.logits, results)


def _restored(run: Run, method: Method, backbone: Network, results: Path) -> Network:
    """The domain's network with the tensors of its file."""
    path = ResultsFolder(results).adapters(run.hash)
    remedy = f"remove {ResultsFolder(results).record(run.hash)}, and the run is trained again"
    try:
        tensors, about = read_weights(path)
        metadata = AdapterMetadata.parse(about, path)
    except InputError:
        raise InputError(
            f"{path}, which the finished run is evaluated again from, is gone or damaged; {remedy}"
        ) from None
    if metadata.weights not in (None, network_digest(backbone.state_dict())):
        raise InputError(f"{path} was trained on other weights than {run.backbone.path} holds now; {remedy}")
    network = method.place(backbone, run.train.classes)
    if problem := restore(network, backbone, tensors) or find_invalid_weights(network):
        raise InputError(f"{path} {problem}; {remedy}")
    return network


def _merge(network: Network, method: Method, images: Batches) -> tuple[Network, float | None]:
    """Merge the adapters where the method can; also returns by how much that changes the logits."""
    return merge_checked(network, images, method.spec) if method.mergeable else (network, None)


def _inference_module(merged: Network, run: Run, method: Method, classifier: nn.Module | None) -> nn.Module:
    """The module that is evaluated: the network, behind the classifier of domains if there is one."""
    if classifier is None:
        return merged
    names = [images.domain.name for images in run.classifier.images]
    domain = run.evaluate.domain
    index = names.index(domain.name)
    return method.inference_module(merged, classifier, index, domain.mean, domain.std, run.profile.crop)


def write_adapters(run: Run, method: Method, backbone: Network, stored: dict[str, Tensor], results: Path) -> int:
    """Write what a domain stores in addition to the network `backbone`; returns the size of the file in bytes.

    The backbone's hash names the recipe of its weights, and processors make different weights of one recipe. So the
    digest of the weights themselves is written too.
    """
    metadata = AdapterMetadata(
        method=method.full_spec,
        backbone=run.backbone.hash,
        domain=run.domain.name,
        classes=run.train.classes,
        mean=run.domain.mean,
        std=run.domain.std,
        crop=backbone.shapes.size,
        shorter=run.profile.resize,
        training=TRAINING_VERSION,
        joint=run.joint.hash if run.joint else None,
        names=_class_names(run),
        weights=network_digest(backbone.state_dict()),
        joint_weights=None if method.trains_per_domain else trunk_digest(read_weights(run.joint.path)[0]),
    )
    return write_safetensors(ResultsFolder(results).adapters(run.hash), stored, metadata.metadata())


def _write_predictions(run: Run, images: Batches, logits: Tensor, results: Path) -> None:
    write_predictions(results, run.hash, run.domain, _class_names(run), images.files(), images.ids, logits)


def _class_names(run: Run) -> tuple[str, ...] | None:
    """The names of the head's classes, which are the classes of train."""
    return class_names(run.train.packs[0]) if run.train.packs else None
