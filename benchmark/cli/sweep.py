"""`python -m benchmark sweep`: three learning rates a method on a held-out part of train, with the same budget."""

from argparse import ArgumentParser, Namespace

from visual_decathlon.benchmark.cli import arguments


def add_arguments(parser: ArgumentParser) -> None:
    """Add the folders and the methods."""
    arguments.add_folders(parser)
    parser.add_argument("--method", required=True, help="as of run")
    parser.add_argument("--profile", choices=("standin", "standin-vit"), default="standin", help="the network")


def run(args: Namespace) -> int:
    """0: each method has a chosen rate; 2: for some method no rate ran.

    A rate at which the loss became infinite is a result and not an error: its top-1 is null.
    """
    from visual_decathlon.benchmark.cli.common import command
    from visual_decathlon.benchmark.cli.method_argument import asked_methods
    from visual_decathlon.benchmark.config.profiles import profile
    from visual_decathlon.benchmark.runs.sweep import chosen, sweep
    from visual_decathlon.methods.registry import select_named

    methods, named = asked_methods(args.method), select_named(args.method)
    rows = sweep(methods, profile(args.profile), args.results, args.cache, named=named, command=command())
    return 2 if any(chosen(rows, row["method"]) is None for row in rows) else 0
