"""`python -m benchmark score`: scores a submission against the published test labels, or only checks it."""

from argparse import ArgumentParser, Namespace

from visual_decathlon.benchmark.cli import arguments
from visual_decathlon.datasets.errors import InputError


def add_arguments(parser: ArgumentParser) -> None:
    """Add the file, and the labels or the release that it is checked against."""
    parser.add_argument("--file", type=arguments.path, required=True, help="a ZIP with results.json, or that file")
    against = parser.add_mutually_exclusive_group()
    against.add_argument(
        "--labels",
        type=arguments.paths,
        action="extend",
        default=[],
        metavar="DIR|FILE",
        help="{domain}_test.json, or a folder of them; without it the file is only checked",
    )
    against.add_argument(
        "--data", type=arguments.path, metavar="DIR", help="check it against this release (default: the real one)"
    )


def run(args: Namespace) -> int:
    """With labels: print top-1 of each domain, mean and S. Else: print that the file is complete."""
    from visual_decathlon.benchmark.submission.evaluation import print_check, print_score

    if args.file.is_dir():
        raise InputError(f"FILE={args.file} is a folder; name a ZIP with results.json in it, or that file")
    if args.labels:
        print_score(args.file, args.labels)
    else:
        print_check(args.file, args.data)
    return 0
