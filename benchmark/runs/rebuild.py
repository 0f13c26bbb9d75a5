"""Rebuilds a run from its record: the request for it, and the run with the recorded hash."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from visual_decathlon.benchmark.config.identity import TRAINING_VERSION
from visual_decathlon.benchmark.config.profiles import Profile, checked
from visual_decathlon.benchmark.config.specs import JointTraining, Run, recorded_profile
from visual_decathlon.benchmark.runs.data import Data
from visual_decathlon.benchmark.runs.plan import plan_runs
from visual_decathlon.benchmark.runs.request import Request
from visual_decathlon.benchmark.runs.user_backbone import read_user_backbone
from visual_decathlon.datasets.catalogue import DOMAINS
from visual_decathlon.datasets.errors import InputError, option
from visual_decathlon.methods.registry import select


@dataclass(frozen=True)
class Inputs:
    """The inputs of a run that its record names but does not contain."""

    data: Path | None = None  # a release; None: the drawn stand-ins
    own: Sequence[tuple[str, Path]] = ()  # the user's own domains: (name, folder)
    backbone: Path | None = None  # None: pretrained on imagenet12
    cache: Path = Path(".cache")


def rebuilt(record: dict, inputs: Inputs) -> Request:
    """The request for this run alone. Raises InputError, before any data are opened, if an input is missing."""
    name = f"the run {record['hash']}"
    if record["training"] != TRAINING_VERSION:
        raise InputError(
            f"{name} was trained by version {record['training']} of the training code, and this is version "
            f"{TRAINING_VERSION}; check out the commit {record['commit'] or 'of then'} to run it again"
        )
    (method,) = select(record["method_full"])
    over_all = method.has_joint_stage or method.classifies_domains
    names = record["together"] if over_all else [record["domain"]]
    if names is None:
        raise InputError(
            f"{name} is a part of a joint training, and its record is of schema 1, which does not say over which "
            f"domains; run `{record['command']}` instead"
        )
    _check_inputs(record, inputs, [name for name in names if name not in DOMAINS])
    profile, backbone = _profile(record), None
    if inputs.backbone is not None:
        known = tuple(f"{name}=" for name in Profile.__dataclass_fields__)  # those of the record
        backbone = read_user_backbone(inputs.backbone, profile, known, inputs.cache)
    return Request(
        methods=[method],
        profile=profile,
        data=inputs.data,
        own_domains=sorted(inputs.own, key=lambda pair: names.index(pair[0])),
        domains=names,
        user_backbone=backbone,
        split=record["split"],
        seeds=(record["seed"],),
        limit=record["limit"],
        predictions=record["top1"] is None,  # then the split may lack its labels
        cache=inputs.cache,
    )


def _check_inputs(record: dict, inputs: Inputs, own: list[str]) -> None:
    """Raises InputError if DATA=, BACKBONE= or OWN= is missing, or is given and the run had none."""
    name, drawn = f"the run {record['hash']}", record["data"] == record["data_id"]
    if drawn and inputs.data is not None:
        raise InputError(f"{name} was made from the drawn stand-ins {record['data']}; leave {option('data')} out")
    if not drawn and inputs.data is None:
        raise InputError(
            f"{name} was made from the release {record['data']} (hash of its annotations: {record['data_id']}); "
            f"give its folder with {option('data')}"
        )
    pretrained = record["backbone_source"] == "pretrained"
    if pretrained and inputs.backbone is not None:
        raise InputError(f"{name} uses a backbone pretrained on imagenet12 of its data; leave {option('backbone')} out")
    if not pretrained and inputs.backbone is None:
        raise InputError(
            f"{name} uses the backbone {record['backbone_source']}; give its file with {option('backbone')}"
        )
    if sorted(own) != sorted(name for name, _ in inputs.own):
        made_from = (
            f"the own domains {', '.join(own)}; give {option('own')}name=folder for each"
            if own
            else f"no own domain; leave {option('own')}"
        )
        raise InputError(f"{name} was made from {made_from}{'' if own else ' out'}")


def _profile(record: dict) -> Profile:
    try:
        return checked(recorded_profile(record["settings"]))
    except (msgspec.DecodeError, TypeError) as error:
        raise InputError(
            f"the run {record['hash']} has settings that this suite does not know ({error}); "
            f"check out the commit {record['commit']} to run it again"
        ) from None


def with_joint_trainings(run: Run, change: Callable[[JointTraining], JointTraining]) -> Run:
    """The run with each of its trainings over all domains changed."""
    return replace(run, joint=run.joint and change(run.joint), classifier=run.classifier and change(run.classifier))


def planned(record: dict, request: Request, data: Data) -> Run:
    """The run of the record. Raises InputError, which names the difference, if its hash is not the recorded one."""
    runs = plan_runs(request, data, request.methods, request.seeds)
    (run,) = (run for run in runs if run.domain.name == record["domain"])
    rate = record["lr"]  # the method may declare another by now
    run = with_joint_trainings(replace(run, lr=rate), lambda joint: replace(joint, lr=rate))
    if run.hash == record["hash"]:
        return run
    name, domain = f"the run {record['hash']} cannot be run again as it was", record["domain"]
    if record["data"] == record["data_id"] != data.name:
        raise InputError(
            f"{name}: it was made from {record['data']}, and this suite draws {data.name}; check out the commit "
            f"{record['commit']}"
        )
    for part, was, now in (
        (f"{domain}: the set of images and labels trained on", record["train_manifest"], run.train.manifest),
        (f"{domain}: the set of images and labels evaluated", record["eval_manifest"], run.evaluate.manifest),
        ("the method with its options", record["method_full"], run.method),
        ("the backbone's structure", record["structure"], run.backbone.structure),
        ("the backbone", record["backbone"], run.backbone.hash),
    ):
        if was != now:
            hint = (
                " (its images of imagenet12, recipe or seed)"
                if part == "the backbone" and not request.user_backbone
                else ""
            )
            raise InputError(f"{name}: {part}{hint} is {now}, recorded was {was}; restore that")
    if run.joint_trainings:
        raise InputError(
            f"{name}: the images of one of {', '.join(record['together'])}, over which it was trained, differ from "
            "the recorded; restore them"
        )
    raise InputError(
        f"{name}: data, method and backbone are the recorded, but not how {domain}'s images are shown (mean, std, "
        f"flip, crop) or how settings are read; check out the commit {record['commit']}"
    )
