"""From the arguments of a command to the request that a plan is made of."""

import dataclasses
import sys
from argparse import Namespace

from visual_decathlon.benchmark.backbones.shapes import shapes_named
from visual_decathlon.benchmark.cli.method_argument import asked_methods
from visual_decathlon.benchmark.config.profiles import profile, spelling_notes
from visual_decathlon.benchmark.records.schema import TAKEN
from visual_decathlon.benchmark.report.screen import Screen
from visual_decathlon.benchmark.runs.backbones import unsupported_reason
from visual_decathlon.benchmark.runs.request import Request, parse_seeds
from visual_decathlon.benchmark.runs.user_backbone import read_user_backbone
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.datasets.text import printable
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.shapes import Shapes


def requested(args: Namespace) -> Request:
    methods = asked_methods(args.method)
    for i, (name, folder) in enumerate(args.own):
        if name in [other for other, _ in args.own[:i]]:
            raise InputError(f"OWN={name}={folder}: the name {name} is given twice; give each own domain its own")
        if name in TAKEN:
            raise InputError(f"OWN={name}={folder}: the tables have a column {name} already; choose another name")
    settings = tuple(args.set)
    chosen = profile(args.profile, settings)
    for note in spelling_notes(settings):
        print(printable(note), file=sys.stderr)
    given = None
    if args.backbone is not None:
        given = read_user_backbone(args.backbone, chosen, settings, args.cache)
        chosen = given.profile
    return Request(
        methods=methods,
        profile=chosen,
        data=args.data,
        own_domains=args.own,
        domains=args.domains,
        user_backbone=given,
        split=args.split,
        seeds=parse_seeds(args.seeds),
        limit=args.limit,
        cache=args.cache,
    )


def able(request: Request, named: set[str], screen: Screen) -> Request:
    """The request without what a wildcard or group brought and cannot run here (said); InputError for a named one."""
    kept = []
    for method in request.methods:
        chosen, sentence = request.profile, unsupported_reason(request, method)
        if not sentence:
            shapes = shapes_named(chosen.network, chosen.width * method.width_multiplier, chosen.crop)
            try:
                method.check(shapes)
            except InputError as error:
                sentence = str(error)
        if sentence and (method.spec in named or len(request.methods) == 1):
            raise InputError(sentence)
        if sentence:
            screen.say(f"left out: {sentence}")
        else:
            for note in left_alone(method, shapes):
                screen.say(note)
            kept.append(method)
    if not kept:
        raise InputError(f"none of {', '.join(m.spec for m in request.methods)} can run here: {sentence}")
    return dataclasses.replace(request, methods=kept)


def left_alone(method: Method, shapes: Shapes) -> list[str]:
    """One sentence a reason for the convolutions that a method does not adapt; none where it adapts all."""
    reasons: dict[str, list[str]] = {}
    for conv in shapes.convs:
        if reason := method.skip_reason(conv):
            reasons.setdefault(reason, []).append(conv.name.removeprefix("body."))
    return [f"{method.spec} leaves {', '.join(names)} alone: {reason}" for reason, names in reasons.items()]
