"""`python -m benchmark rerun HASH`: rebuilds a run from its record alone, trains it again, compares the numbers.

The new record lies in RESULTS/reruns, a results folder that no table reads unless it is named itself.
"""

import json
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import msgspec

from visual_decathlon.benchmark.cli.common import command, ready
from visual_decathlon.benchmark.config.folders import SHIPPED
from visual_decathlon.benchmark.config.identity import TRAINING_VERSION
from visual_decathlon.benchmark.config.kernels import KernelChoice
from visual_decathlon.benchmark.config.profiles import Profile, checked
from visual_decathlon.benchmark.config.specs import Run, recorded_profile
from visual_decathlon.benchmark.records.build import check_known
from visual_decathlon.benchmark.records.files import Fault, report_left_out
from visual_decathlon.benchmark.records.folder import ResultsFolder
from visual_decathlon.benchmark.records.provenance import Provenance
from visual_decathlon.benchmark.records.store import read_record, read_records
from visual_decathlon.benchmark.report.screen import Screen
from visual_decathlon.benchmark.runs.data import Data, open_data
from visual_decathlon.benchmark.runs.engines.local import LocalEngine
from visual_decathlon.benchmark.runs.failures import print_failures_at_end
from visual_decathlon.benchmark.runs.plan import plan_runs
from visual_decathlon.benchmark.runs.request import Request
from visual_decathlon.benchmark.runs.scheduler import run_jobs
from visual_decathlon.benchmark.runs.user_backbone import read_user_backbone
from visual_decathlon.benchmark.runtime.devices import device_of
from visual_decathlon.datasets.catalogue import DOMAINS
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.registry import select


def run(args: Namespace) -> int:
    """0: the numbers are the same; 1: they differ, and by how much is said; 2: its sentence says why it was not run."""
    device = device_of(args.device)
    record = recorded(args.hash, args.results)
    place = ResultsFolder(args.results).reruns
    with print_failures_at_end() as faults, Screen() as screen:
        screen.say("again: {hash}, {method} {domain} seed {seed}, of {created}".format(**record))
        screen.say(f"it came from `{record['command']}` at commit {record['commit'] or 'unknown'}")
        request = rebuilt(record, args)
        for sentence in request.user_backbone.notes if request.user_backbone else ():
            screen.say(sentence)
        ready(place, args.cache)
        data = open_data(request, screen.preparing, screen.say)
        run = as_computed(_anew(planned(record, request, data), place), record)
        new = ResultsFolder(place).record(run.hash)
        new.unlink(missing_ok=True)  # of a rerun before
        if request.user_backbone is None and not run.source_cell and run.backbone.path.is_file():
            screen.say(f"on the backbone {run.backbone.path}, as it is there; remove it to have it pretrained too")
        provenance = Provenance.here(data, 1, command())
        check_known([run], provenance)
        with LocalEngine(1, device) as pool:
            run_jobs([run], place, provenance, pool, screen, faults)
    if faults:
        return 2
    for trained in (run.backbone.path if run.source_cell else None, run.joint and run.joint.path):
        if trained is not None:  # for this rerun alone: another trains it again
            trained.unlink()
    again = read_record(new)
    found = differences(record, again)
    for line in found or [_same(again)]:
        screen.say(line)
    if elsewhere := _elsewhere(record, again):
        screen.say(f"recorded with {elsewhere[0]}; here {elsewhere[1]}")
    screen.files([new])
    return 1 if found else 0


def recorded(start: str, results: Path) -> dict:
    """The one record, below `results` or of the shipped ones, whose hash begins so. InputError for none or several."""
    places = [results, SHIPPED]
    faults: list[Fault] = []
    read = (r for folder in reversed(places) for r in read_records([folder], faults))
    found = {r["hash"]: r for r in read if r["hash"].startswith(start)}
    report_left_out(faults)
    if not found or not start:
        raise InputError(
            f"RERUN={start}: no record below {' or '.join(map(str, places))} has a hash that begins so; "
            "name the folder of its record with RESULTS="
        )
    if len(found) > 1:
        some = ", ".join(sorted(found)[:4]) + (", ..." if len(found) > 4 else "")
        raise InputError(f"RERUN={start}: {len(found)} records have a hash that begins so ({some}); give more digits")
    return next(iter(found.values()))


def rebuilt(record: dict, args: Namespace) -> Request:
    """The request of this run alone; InputError, before any data are opened, where something of it is not here."""
    name = f"the run {record['hash']}"
    if record["training"] != TRAINING_VERSION:
        raise InputError(
            f"{name} was trained by version {record['training']} of the training code, and this is version "
            f"{TRAINING_VERSION}; check out the commit {record['commit'] or 'of then'} to run it again"
        )
    (method,) = select(record["method_full"])
    names = record["together"] if method.has_joint_stage else [record["domain"]]
    if names is None:
        raise InputError(
            f"{name} is a part of a joint training, and its record is of schema 1, which does not say over which "
            f"domains; run `{record['command']}` instead"
        )
    _needed(record, args, [name for name in names if name not in DOMAINS])
    profile, given = _profile(record), None
    if args.backbone is not None:
        known = tuple(f"{name}=" for name in Profile.__dataclass_fields__)  # the record has them, not the file
        given = read_user_backbone(args.backbone, profile, known, args.cache)
    return Request(
        methods=[method],
        profile=profile,
        data=args.data,
        own_domains=sorted(args.own, key=lambda pair: names.index(pair[0])),
        domains=names,
        user_backbone=given,
        split=record["split"],
        seeds=(record["seed"],),
        limit=record["limit"],
        predictions=record["top1"] is None,  # then the split may lack its labels
        cache=args.cache,
    )


def _needed(record: dict, args: Namespace, own: list[str]) -> None:
    """InputError where DATA=, BACKBONE= or OWN= lacks, or is given and the run was without."""
    name, drawn = f"the run {record['hash']}", record["data"] == record["data_id"]
    if drawn and args.data is not None:
        raise InputError(f"{name} was made from the drawn stand-ins {record['data']}; leave DATA= out")
    if not drawn and args.data is None:
        raise InputError(
            f"{name} was made from the release {record['data']} (hash of its annotations: {record['data_id']}); "
            "give its folder with DATA="
        )
    pretrained = record["backbone_source"] == "pretrained"
    if pretrained and args.backbone is not None:
        raise InputError(f"{name} stands on a backbone pretrained on imagenet12 of its data; leave BACKBONE= out")
    if not pretrained and args.backbone is None:
        raise InputError(f"{name} stands on the backbone {record['backbone_source']}; give its file with BACKBONE=")
    if sorted(own) != sorted(name for name, _ in args.own):
        told = (
            f"the own domains {', '.join(own)}; give OWN=name=folder for each" if own else "no own domain; leave OWN="
        )
        raise InputError(f"{name} was made from {told}{'' if own else ' out'}")


def _profile(record: dict) -> Profile:
    try:
        return checked(recorded_profile(record["settings"]))
    except (msgspec.DecodeError, TypeError) as error:
        raise InputError(
            f"the run {record['hash']} has settings that this suite does not know ({error}); "
            f"check out the commit {record['commit']} to run it again"
        ) from None


def planned(record: dict, request: Request, data: Data) -> Run:
    """The run of the record. InputError, saying what differs, where its hash is not the recorded one."""
    runs = plan_runs(request, data, request.methods, request.seeds)
    (run,) = (run for run in runs if run.domain.name == record["domain"])
    rate = record["lr"]  # the method may declare another by now
    run = replace(run, lr=rate, joint=run.joint and replace(run.joint, lr=rate))
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
            pretrained = part == "the backbone" and request.user_backbone is None
            hint = " (its images of imagenet12, recipe or seed)" if pretrained else ""
            raise InputError(f"{name}: {part}{hint} is {now}, recorded was {was}; restore that")
    if run.joint is not None:
        raise InputError(
            f"{name}: the images of one of {', '.join(record['together'])}, over which it was trained, differ from "
            "the recorded; restore them"
        )
    raise InputError(
        f"{name}: data, method and backbone are the recorded, but not how {domain}'s images are shown (mean, std, "
        f"flip, crop) or how settings are read; check out the commit {record['commit']}"
    )


def _anew(run: Run, place: Path) -> Run:
    """The run with what was trained for its numbers alone in a place of its own, not taken from the cache."""
    folder = ResultsFolder(place).unfinished
    if run.source_cell:  # its numbers are the pretraining's
        return replace(run, backbone=replace(run.backbone, cache=folder))
    return replace(run, joint=run.joint and replace(run.joint, folder=folder))


def as_computed(run: Run, record: dict) -> Run:
    """The run with the layout and the batch norm of the record, where that tells them: they change the rounding."""
    if record["layout"] is None or record["norm"] is None:
        return run
    choice = KernelChoice(record["layout"], record["norm"])
    joint = run.joint and replace(run.joint, backbone=replace(run.joint.backbone, choice=choice))
    return replace(run, backbone=replace(run.backbone, choice=choice), joint=joint)


def differences(was: dict, now: dict) -> list[str]:
    """A sentence for each kind of number that differs between two records of one run; none where all are the same."""
    found = []
    if (was["correct"], was["eval_images"]) != (now["correct"], now["eval_images"]):
        found.append(
            f"top-1 differs: {now['correct']} of {now['eval_images']} right, recorded were {was['correct']} of "
            f"{was['eval_images']}"
        )
    losses = [[row["loss"] for row in record["history"] or []] for record in (was, now)]
    if len(losses[0]) != len(losses[1]):
        found.append(f"{len(losses[1])} epochs were trained, recorded were {len(losses[0])}")
    off = [(abs(a - b), i) for i, (a, b) in enumerate(zip(*losses, strict=False), start=1) if a != b]
    if off:
        most, epoch = max(off)
        found.append(
            f"the loss differs in {len(off)} of {len(losses[1])} epochs, from epoch {off[0][1]} on, "
            f"by {most:.2g} at most (epoch {epoch}: {losses[1][epoch - 1]:.6g}, recorded {losses[0][epoch - 1]:.6g})"
        )
    return found


def _same(record: dict) -> str:
    epochs = len(record["history"] or [])
    right = f"{record['correct']} of {record['eval_images']} right"
    if record["top1"] is None:
        right = f"{record['eval_images']} images without labels, so no top-1"
    return f"the same numbers: {right}" + f", the loss of all {epochs} epochs to the bit" * bool(epochs)


def _elsewhere(was: dict, now: dict) -> tuple[str, str] | None:
    """What of machine, commit and versions differs, as (then, now)."""

    def about(record: dict) -> dict[str, str]:
        facts = {name: record[name] for name in ("machine", "device", "threads", "commit")}
        return facts | {name: str(found) for name, found in json.loads(record["versions"]).items() if found is not None}

    then, here = about(was), about(now)
    changed = [name for name in then if name in here and then[name] != here[name]]
    if not changed:
        return None
    return tuple(", ".join(f"{name} {facts[name] or 'unknown'}" for name in changed) for facts in (then, here))
