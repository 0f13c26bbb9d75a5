"""`python -m benchmark submit`: packs the predictions of a method's test runs as a submission to the challenge."""

from argparse import ArgumentParser, Namespace

from visual_decathlon.benchmark.cli import arguments
from visual_decathlon.benchmark.records.folder import ResultsFolder
from visual_decathlon.datasets.errors import InputError


def add_arguments(parser: ArgumentParser) -> None:
    """Add the folders, the options that select the runs, and the file that is written."""
    arguments.add_folders(parser)
    parser.add_argument("--method", required=True, help="one method, as of run")
    arguments.add_source(parser, "the results of its runs (default: --results)")
    parser.add_argument(
        "--data",
        type=arguments.path,
        metavar="DIR",
        help="the release whose test images it must hold (default: the real one)",
    )
    parser.add_argument("--profile", help="of the runs, where there are several")
    parser.add_argument("--seed", type=int, help="of the runs (default: the least there is)")
    parser.add_argument(
        "--out", type=arguments.path, metavar="ZIP", help="what is written (default: results.zip in --results)"
    )


def run(args: Namespace) -> int:
    """Check the predictions of the runs against the release's test images, write the ZIP."""
    from visual_decathlon.benchmark.cli.method_argument import asked_methods
    from visual_decathlon.benchmark.records.store import check_source
    from visual_decathlon.benchmark.submission.pack import pack

    methods = asked_methods(args.method)
    if len(methods) != 1:
        raise InputError(f"METHOD={args.method} names {len(methods)} methods; a submission is of one")
    check_source(args.source)
    source, out = args.source or args.results, args.out or ResultsFolder(args.results).submission
    pack(source, methods[0], out, release=args.data, profile=args.profile, seed=args.seed)
    return 0
