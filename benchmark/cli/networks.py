"""`python -m benchmark networks`: tries which networks of torchvision and timm run, and with which methods."""

from argparse import ArgumentParser, Namespace

from visual_decathlon.benchmark.cli import arguments


def add_arguments(parser: ArgumentParser) -> None:
    """Add the networks and the folder."""
    parser.add_argument(
        "--network", default="", metavar="NAME,NAME", help="a comma list of networks (default: those of the table)"
    )
    arguments.add_folders(parser)


def run(args: Namespace) -> int:
    """Try each network, and write networks.parquet and networks.md."""
    from visual_decathlon.benchmark.perf.networks import DEFAULT, measure
    from visual_decathlon.datasets.text import comma_list

    measure(comma_list(args.network) or DEFAULT, args.results)
    return 0
