"""`python -m benchmark compare A B`: the domains where A is better than B, paired by domain and seed."""

from argparse import ArgumentParser, Namespace

from visual_decathlon.benchmark.cli import arguments
from visual_decathlon.datasets.errors import InputError


def add_arguments(parser: ArgumentParser) -> None:
    """Add the folder of records, the folders and the two methods."""
    arguments.add_source(parser)
    arguments.add_folders(parser)
    parser.add_argument("a", metavar="A", help="a method as of run")
    parser.add_argument("b", metavar="B", help="another")


def run(args: Namespace) -> int:
    """Print one table for each group of comparable records that contains both methods."""
    from visual_decathlon.benchmark.records.store import check_source
    from visual_decathlon.benchmark.report.comparison import print_comparison

    a, b = _method("A", args.a), _method("B", args.b)
    if a == b:
        raise InputError(f"A and B are both {a}; give two methods")
    check_source(args.source)
    print_comparison(args.source or args.results, a, b)
    return 0


def _method(name: str, text: str) -> str:
    """The canonical string of the one method that A= or B= names."""
    from visual_decathlon.benchmark.cli.method_argument import asked_methods

    methods = asked_methods(text, name)
    if len(methods) != 1:
        raise InputError(f"{text} names {len(methods)} methods; give one for A and one for B")
    return methods[0].spec
