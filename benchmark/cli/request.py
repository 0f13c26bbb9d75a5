"""Turns the arguments that select runs into the request that a plan is made from."""

import sys
from argparse import Namespace

from visual_decathlon.benchmark.cli.method_argument import asked_methods
from visual_decathlon.benchmark.config.profiles import profile, spelling_notes
from visual_decathlon.benchmark.records.schema import TAKEN
from visual_decathlon.benchmark.runs.request import Request, parse_seeds
from visual_decathlon.benchmark.runs.user_backbone import read_user_backbone
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.datasets.text import printable


def requested(args: Namespace, predictions: bool = False) -> Request:
    """The request for the runs that `arguments.add_run_selection` selects. Raises InputError for a wrong value."""
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
    backbone = None
    if args.backbone is not None:
        backbone = read_user_backbone(args.backbone, chosen, settings, args.cache)
        chosen = backbone.profile
    return Request(
        methods=methods,
        profile=chosen,
        data=args.data,
        own_domains=args.own,
        domains=args.domains,
        user_backbone=backbone,
        split=args.split,
        seeds=parse_seeds(args.seeds),
        limit=args.limit,
        predictions=predictions,
        cache=args.cache,
    )
