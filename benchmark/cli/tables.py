"""`python -m benchmark tables`: makes every table and figure again from folders of records."""

from argparse import ArgumentParser, Namespace

from visual_decathlon.benchmark.cli import arguments


def add_arguments(parser: ArgumentParser) -> None:
    """Add the folder of records, the folders, and what is made."""
    arguments.add_sources(parser, "a folder of records, or several separated by blanks (default: --results)")
    arguments.add_folders(parser)
    arguments.add_only(parser, "FIGURE", "of the figures these: pareto, time, gap, steps, curves, backbones")
    parser.add_argument("--limited", action="store_true", help="rows of runs that LIMIT= cut, too")
    parser.add_argument(
        "--collect", type=arguments.path, metavar="FILE", help="write the records into one Parquet file instead"
    )


def run(args: Namespace) -> int:
    """Read the records below --from (default: --results); write tables and figures to --results, or --collect them."""
    from visual_decathlon.benchmark.records.store import check_source
    from visual_decathlon.benchmark.report import figures
    from visual_decathlon.benchmark.report.regenerate import collect, regenerate

    figures.check(args.only)
    check_source(*args.sources)
    sources = args.sources or [args.results]
    if args.collect is not None:
        collect(sources, args.collect)
    else:
        regenerate(sources, args.results, only=args.only, limited=args.limited)
    return 0
