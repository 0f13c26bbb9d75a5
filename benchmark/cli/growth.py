"""`python -m benchmark growth`: measures how cost grows, as tables and figures."""

from argparse import ArgumentParser, Namespace

from visual_decathlon.benchmark.cli import arguments


def add_arguments(parser: ArgumentParser) -> None:
    """Add the folders and the scaling studies to run."""
    arguments.add_folders(parser)
    arguments.add_only(parser, "GROWTH", "these; all by default")


def run(args: Namespace) -> int:
    """Run the scaling studies that are named, all by default; the rows of other studies stay in the files."""
    from visual_decathlon.benchmark.perf.growth.measure import measure_studies

    measure_studies(args.only, args.results, args.cache)
    return 0
