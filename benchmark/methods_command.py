"""`python -m benchmark methods`: the registry as a table."""

import sys
from argparse import Namespace

from rich.console import Console
from rich.table import Table

from benchmark.backbones.shapes import resnet26_shapes
from methods.registry import entries


def run(args: Namespace) -> int:
    """List every method with its #par. on the decathlon ResNet-26 of the asked width."""
    shapes = resnet26_shapes(args.width)
    out = Table(
        header_style="bold", title=f"Methods; #par. on the ResNet-26 of width {args.width:g}", title_justify="left"
    )
    for name in ("name", "family", "label", "fidelity", "start", "merges", "#par.", "paper"):
        out.add_column(name, justify="right" if name == "#par." else "left", no_wrap=name in ("name", "#par."))
    for entry in entries():
        method = entry()
        merges = "yes" if method.mergeable else "no"
        par = f"{method.multiplier(shapes):.2f}"
        out.add_row(method.name, method.family, method.label, method.fidelity, method.start, merges, par, method.paper)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
    console.print(out)
    return 0
