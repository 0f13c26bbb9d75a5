"""`python -m benchmark methods`: the registry as a table."""

import dataclasses
from argparse import Namespace

from rich.table import Table

from visual_decathlon.benchmark.backbones.shapes import shapes_named
from visual_decathlon.benchmark.cli.request import left_alone
from visual_decathlon.benchmark.report.console import PlainConsole
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.registry import GROUPS, entries


def run(args: Namespace) -> int:
    """List every method with its #par. on a backbone, and what it leaves alone there."""
    name = args.network
    base = shapes_named(name, args.width)
    what = f"the ResNet-26 of width {args.width:g}" if name == "resnet26" else name
    what += f", images of {base.size} px"
    out = Table(header_style="bold", title=f"Methods; #par. on {what}", title_justify="left")
    for column in ("name", "family", "label", "fidelity", "start", "merges", "#par.", "paper"):
        out.add_column(column, justify="right" if column == "#par." else "left", no_wrap=column in ("name", "#par."))
    notes = []
    for entry in entries():
        method = entry()
        refused = method.unsupported_reason(name) or (
            "it needs a wider backbone" if method.width_multiplier != 1 and name != "resnet26" else ""
        )
        par = ""
        if refused:
            notes.append(f"{method.name}: {refused}")
        else:
            shapes = shapes_named(name, args.width * method.width_multiplier)
            try:
                par = f"{method.multiplier(shapes, base.base):.2f}"
            except NotImplementedError:
                raise InputError(
                    f"the method {method.name!r} of {entry.__module__} lacks the count of what it stores: floats, or "
                    "new_floats of a PerConv; see methods/README.md"
                ) from None
            notes += left_alone(method, shapes)
        merges = "yes" if method.mergeable else "no"
        out.add_row(method.name, method.family, method.label, method.fidelity, method.start, merges, par, method.paper)
    console = PlainConsole(wide=200)
    console.print(out)
    several = " ".join(["all", *GROUPS])
    console.print(f"METHOD= takes names, comma lists, wildcards (lora*) and {several}; options as in lora(rank=4):")
    for entry in entries():
        if dataclasses.fields(entry):
            console.print(f"  {entry().full_spec}", markup=False)
    for note in notes:
        console.print(note)
    return 0
