"""`python -m benchmark methods`: lists the methods of the registry."""

from argparse import ArgumentParser, ArgumentTypeError, Namespace

from visual_decathlon.benchmark.config.backbone_names import TAKES, canonical
from visual_decathlon.datasets.errors import InputError


def add_arguments(parser: ArgumentParser) -> None:
    """Add the backbone that the number of parameters is given for."""
    parser.add_argument("--width", type=_width, default=1.0, help="of the ResNet-26 that #par. is for (default 1)")
    parser.add_argument("--network", type=_network, default="resnet26", metavar="NAME", help=f"the backbone: {TAKES}")


def _width(text: str) -> float:
    from visual_decathlon.benchmark.config.profiles import whole_channels

    try:
        width = float(text)
    except ValueError:
        width = 0.0
    if not whole_channels(width):
        raise ArgumentTypeError("must be a multiple of 1/32, such as 0.25")
    return width


def _network(name: str) -> str:
    try:
        return canonical(name)
    except InputError as error:
        raise ArgumentTypeError(str(error)) from None


def run(args: Namespace) -> int:
    """Print the methods, and which convolutions of the backbone they skip."""
    from visual_decathlon.benchmark.report.method_list import print_methods

    print_methods(args.network, args.width)
    return 0
