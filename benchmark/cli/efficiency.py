"""`python -m benchmark efficiency`: what networks and building blocks cost, counted and measured."""

from argparse import ArgumentParser, ArgumentTypeError, Namespace

from visual_decathlon.benchmark.cli import arguments
from visual_decathlon.benchmark.config.folders import SHIPPED_RECORDS
from visual_decathlon.benchmark.runtime.devices import NAMES
from visual_decathlon.datasets.text import comma_list


def add_arguments(parser: ArgumentParser) -> None:
    """Add the networks, the size of their images, the parts, the device and the folders."""
    parser.add_argument(
        "--network",
        type=_networks,
        default=["resnet26"],
        metavar="NAMES",
        help="a network or a comma list, such as torchvision/resnet18,timm/resnet50 (default resnet26)",
    )
    parser.add_argument(
        "--size", type=arguments.positive, default=224, metavar="PX", help="side of the images in pixels (default 224)"
    )
    arguments.add_only(parser, "PART", "networks, adapters or blocks; all by default")
    parser.add_argument("--device", choices=("auto", "cpu", *NAMES), default="auto")
    arguments.add_sources(parser, "folders of records, for the accuracies of the figure (default: the shipped ones)")
    arguments.add_folders(parser)


def _networks(text: str) -> list[str]:
    names = comma_list(text)
    if not names:
        raise ArgumentTypeError("is empty; name a network, such as torchvision/resnet18")
    return names


def run(args: Namespace) -> int:
    """Count and measure; rows of other networks, sizes and devices stay in the files."""
    from visual_decathlon.benchmark.perf.efficiency.measure import measure
    from visual_decathlon.benchmark.records.store import check_source

    check_source(*args.sources)
    measure(args.network, args.size, args.only, args.device, args.sources or SHIPPED_RECORDS, args.results)
    return 0
