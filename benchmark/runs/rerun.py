"""Runs a recorded run again: rebuilds it from its record, trains it and compares the numbers.

The new record is written to RESULTS/reruns, a results folder that no table reads unless that folder itself is named.
"""

import json
from dataclasses import replace
from pathlib import Path

from visual_decathlon.benchmark.backbones.bundled import install_bundled_backbones
from visual_decathlon.benchmark.config.folders import SHIPPED, SHIPPED_RECORDS
from visual_decathlon.benchmark.config.kernels import KernelChoice
from visual_decathlon.benchmark.config.specs import Run
from visual_decathlon.benchmark.records.build import check_known
from visual_decathlon.benchmark.records.files import Fault, report_left_out
from visual_decathlon.benchmark.records.folder import ResultsFolder
from visual_decathlon.benchmark.records.provenance import Provenance
from visual_decathlon.benchmark.records.store import read_record, read_records
from visual_decathlon.benchmark.records.writable import prepare_folders
from visual_decathlon.benchmark.report.screen import Screen
from visual_decathlon.benchmark.runs.data import open_data
from visual_decathlon.benchmark.runs.engines.local import LocalEngine
from visual_decathlon.benchmark.runs.failures import print_failures_at_end
from visual_decathlon.benchmark.runs.rebuild import Inputs, planned, rebuilt, with_joint_trainings
from visual_decathlon.benchmark.runs.scheduler import run_jobs
from visual_decathlon.datasets.errors import InputError, option


def rerun(start: str, results: Path, inputs: Inputs, *, device: str = "cpu", command: str = "") -> list[str] | None:
    """Train the run whose hash begins with `start` again; returns how its numbers differ, None if it failed.

    The record is searched below `results` and among the shipped ones. Differences and errors are printed. Raises
    InputError if the run cannot be rebuilt from its record and `inputs`.
    """
    record = recorded(start, results)
    place = ResultsFolder(results).reruns
    with print_failures_at_end() as faults, Screen() as screen:
        screen.say("again: {hash}, {method} {domain} seed {seed}, of {created}".format(**record))
        screen.say(f"it came from `{record['command']}` at commit {record['commit'] or 'unknown'}")
        request = rebuilt(record, inputs)
        for sentence in request.notes:
            screen.say(sentence)
        prepare_folders(place, inputs.cache)
        data = open_data(request, screen.preparing, screen.say)
        run = as_computed(_trained_anew(planned(record, request, data), place), record)
        new = ResultsFolder(place).record(run.hash)
        new.unlink(missing_ok=True)  # of an earlier rerun
        if not run.source_cell:
            install_bundled_backbones([run.backbone], ResultsFolder(SHIPPED).backbones, screen.say)
        if request.user_backbone is None and not run.source_cell and run.backbone.path.is_file():
            screen.say(f"on the backbone {run.backbone.path}, as it is there; remove it to have it pretrained too")
        provenance = Provenance.here(data, 1, command)
        check_known([run], provenance)
        with LocalEngine(1, device) as pool:
            run_jobs([run], place, provenance, pool, screen, faults)
    if faults:
        return None
    for trained in [run.backbone.path] * run.source_cell + [joint.path for joint in run.joint_trainings]:
        trained.unlink()  # it belongs to this rerun alone: the next one trains it again
    again = read_record(new)
    sentences = differences(record, again)
    for sentence in sentences or [_same(again)]:
        screen.say(sentence)
    if elsewhere := _elsewhere(record, again):
        screen.say(f"recorded with {elsewhere[0]}; here {elsewhere[1]}")
    screen.files([new])
    return sentences


def recorded(start: str, results: Path) -> dict:
    """The one record below `results`, or of the shipped ones, whose hash begins with `start`.

    Raises InputError if there is none, or more than one.
    """
    places = [results, *SHIPPED_RECORDS]
    faults: list[Fault] = []
    read = (r for folder in reversed(places) for r in read_records([folder], faults))
    matches = {r["hash"]: r for r in read if r["hash"].startswith(start)}
    report_left_out(faults)
    if not matches or not start:
        raise InputError(
            f"{start}: no record below {' or '.join(map(str, places))} has a hash with this beginning; "
            f"name the folder of its record with {option('results')}",
            field="rerun",
        )
    if len(matches) > 1:
        some = ", ".join(sorted(matches)[:4]) + (", ..." if len(matches) > 4 else "")
        raise InputError(
            f"{start}: {len(matches)} records have a hash with this beginning ({some}); give more digits", field="rerun"
        )
    return next(iter(matches.values()))


def _trained_anew(run: Run, place: Path) -> Run:
    """The run with its own copy of the networks that determine its numbers, which are not taken from the cache."""
    folder = ResultsFolder(place).unfinished
    run = with_joint_trainings(run, lambda joint: replace(joint, folder=folder))
    if run.source_cell:  # its numbers are the pretraining's
        return replace(run, backbone=replace(run.backbone, cache=folder))
    return run


def as_computed(run: Run, record: dict) -> Run:
    """The run with the recorded layout and batch norm, which change the rounding; older records do not have them."""
    if record["layout"] is None or record["norm"] is None:
        return run
    choice = KernelChoice(record["layout"], record["norm"])
    run = replace(run, backbone=replace(run.backbone, choice=choice))
    return with_joint_trainings(run, lambda joint: replace(joint, backbone=replace(joint.backbone, choice=choice)))


def differences(was: dict, now: dict) -> list[str]:
    """A sentence for each kind of number that differs between two records of one run; none if all are the same."""
    sentences = []
    if (was["correct"], was["eval_images"]) != (now["correct"], now["eval_images"]):
        sentences.append(
            f"top-1 differs: {now['correct']} of {now['eval_images']} right, recorded were {was['correct']} of "
            f"{was['eval_images']}"
        )
    losses = [[row["loss"] for row in record["history"] or []] for record in (was, now)]
    if len(losses[0]) != len(losses[1]):
        sentences.append(f"{len(losses[1])} epochs were trained, recorded were {len(losses[0])}")
    off = [(abs(a - b), i) for i, (a, b) in enumerate(zip(*losses, strict=False), start=1) if a != b]
    if off:
        most, epoch = max(off)
        sentences.append(
            f"the loss differs in {len(off)} of {len(losses[1])} epochs, from epoch {off[0][1]} on, "
            f"by {most:.2g} at most (epoch {epoch}: {losses[1][epoch - 1]:.6g}, recorded {losses[0][epoch - 1]:.6g})"
        )
    return sentences


def _same(record: dict) -> str:
    epochs = len(record["history"] or [])
    right = f"{record['correct']} of {record['eval_images']} right"
    if record["top1"] is None:
        right = f"{record['eval_images']} images without labels, so no top-1"
    return f"the same numbers: {right}" + f", the loss of all {epochs} epochs to the bit" * bool(epochs)


def _elsewhere(was: dict, now: dict) -> tuple[str, str] | None:
    """The differences in machine, commit and versions as (then, now), or None."""

    def about(record: dict) -> dict[str, str]:
        facts = {name: record[name] for name in ("machine", "device", "threads", "commit")}
        return facts | {
            name: str(version) for name, version in json.loads(record["versions"]).items() if version is not None
        }

    then, here = about(was), about(now)
    changed = [name for name in then if name in here and then[name] != here[name]]
    if not changed:
        return None
    return tuple(", ".join(f"{name} {facts[name] or 'unknown'}" for name in changed) for facts in (then, here))
