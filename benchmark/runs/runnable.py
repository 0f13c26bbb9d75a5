"""Leaves out of a request the methods that cannot run on its backbone."""

import dataclasses
from collections.abc import Callable, Collection

from visual_decathlon.benchmark.backbones.shapes import shapes_named
from visual_decathlon.benchmark.report.skipped import left_by_all, misfit, skipped_convolutions
from visual_decathlon.benchmark.runs.backbones import unsupported_reason
from visual_decathlon.benchmark.runs.request import Request
from visual_decathlon.datasets.catalogue import DOMAINS
from visual_decathlon.datasets.errors import InputError


def keep_runnable(request: Request, named: Collection[str], report: Callable[[str], None]) -> Request:
    """The request with the methods that can run on its backbone; `report` gets a sentence for each other one.

    `named` are the methods that were asked for by name, not by a wildcard or group. Raises InputError if one of them
    cannot run, or if none can.
    """
    kept, chosen = [], request.profile
    for size in dict.fromkeys((chosen.crop, chosen.uncropped_size or chosen.crop)):
        shapes = shapes_named(chosen.network, chosen.width, size)  # raises where it takes no images of this size
    for note in left_by_all(chosen.network, shapes):
        report(note)
    for method in request.methods:
        reason = unsupported_reason(request, method)
        if not reason:
            shapes = shapes_named(chosen.network, chosen.width * method.width_multiplier, chosen.crop)
            reason = misfit(method, chosen.network, shapes)
        if reason and (method.spec in named or len(request.methods) == 1):
            raise InputError(reason)
        if reason:
            report(f"left out: {reason}")
        else:
            for note in skipped_convolutions(method, shapes):
                report(note)
            if note := method.domain_note([*DOMAINS, *(name for name, _ in request.own_domains)]):
                report(note)
            kept.append(method)
    if not kept:
        raise InputError(f"none of {', '.join(m.spec for m in request.methods)} can run here: {reason}")
    return dataclasses.replace(request, methods=kept)
