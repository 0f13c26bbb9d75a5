"""`python -m benchmark perf`: measures speed ratios, as a table on the screen and as Parquet and Markdown."""

from argparse import ArgumentParser, Namespace

from visual_decathlon.benchmark.cli import arguments


def add_arguments(parser: ArgumentParser) -> None:
    """Add the folders and the parts to measure."""
    arguments.add_folders(parser)
    arguments.add_only(parser, "PART", "parts; all by default")


def run(args: Namespace) -> int:
    """Measure the parts that are named, all by default; the rows of other parts stay in the files."""
    from visual_decathlon.benchmark.perf.speed import measure_parts

    measure_parts(args.only, args.results, args.cache)
    return 0
