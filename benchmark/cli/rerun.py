"""`python -m benchmark rerun HASH`: rebuilds a run from its record, trains it again and compares the numbers."""

from argparse import ArgumentParser, Namespace

from visual_decathlon.benchmark.cli import arguments


def add_arguments(parser: ArgumentParser) -> None:
    """Add the hash, the inputs that a record does not contain, and the folders."""
    parser.description = (
        "Rebuilds a run from its record alone, trains it again and compares the numbers; 1 if they differ."
    )
    arguments.add_inputs(parser)
    arguments.add_folders(parser)
    parser.add_argument("hash", help="of the run, or how it begins; searched below --results, then in results/standin")


def run(args: Namespace) -> int:
    """0: the numbers are the same; 1: they differ, and by how much is printed; 2: the run failed."""
    from visual_decathlon.benchmark.cli.common import command
    from visual_decathlon.benchmark.runs.rebuild import Inputs
    from visual_decathlon.benchmark.runs.rerun import rerun
    from visual_decathlon.benchmark.runtime.devices import device_of

    device = device_of(args.device)
    inputs = Inputs(args.data, args.own, args.backbone, args.cache)
    differences = rerun(args.hash, args.results, inputs, device=device, command=command())
    if differences is None:
        return 2
    return 1 if differences else 0
