"""The registry's methods as a table on the screen, with their number of parameters on a backbone."""

import dataclasses

from rich.table import Table

from visual_decathlon.benchmark.backbones.shapes import shapes_named
from visual_decathlon.benchmark.report.console import PlainConsole
from visual_decathlon.benchmark.report.skipped import left_by_all, misfit, skipped_convolutions
from visual_decathlon.datasets.errors import InputError, option
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import GROUPS, entries


def print_methods(network: str = "resnet26", width: float = 1.0) -> None:
    """Print every method with its #par. on a backbone, and which convolutions it skips there."""
    base = shapes_named(network, width)
    backbone = f"the ResNet-26 of width {width:g}" if network == "resnet26" else network
    backbone += f", images of {base.size} px"
    title = f"Methods; #par. on {backbone}; lr in the profile standin, a third of it on transformers"
    table = Table(header_style="bold", title=title, title_justify="left")
    for column in ("name", "family", "label", "fidelity", "start", "merges", "#par.", "lr", "paper"):
        number = column in ("#par.", "lr")
        table.add_column(column, justify="right" if number else "left", no_wrap=number or column == "name")
    notes = left_by_all(network, base)
    for entry in entries():
        method = entry()
        parameters, about = _parameters(method, network, width)
        notes += about
        merges = "yes" if method.mergeable else "no"
        table.add_row(
            *(method.name, method.family, method.label, method.fidelity, method.start, merges, parameters),
            *(f"{method.lr:g}", method.paper),
        )
    console = PlainConsole(wide=200)
    console.print(table)
    several = " ".join(["all", *GROUPS])
    console.print(
        f"{option('method')} takes names, comma lists, wildcards (lora*) and {several}; options as in lora(rank=4):"
    )
    for entry in entries():
        if dataclasses.fields(entry):
            console.print(f"  {entry().with_options}", markup=False)
    for note in notes:
        console.print(note)


def _parameters(method: Method, network: str, width: float) -> tuple[str, list[str]]:
    """(#par. of the method on the backbone, "" if it cannot run there; sentences about what it skips)."""
    shapes = shapes_named(network, width * method.width_multiplier)
    if reason := misfit(method, network, shapes):
        return "", [f"{method.name}: {reason}"]
    try:
        multiplier = method.multiplier(shapes, shapes_named(network, width).base)
    except NotImplementedError:
        raise InputError(
            f"the method {method.name!r} of {type(method).__module__} lacks the count of what it stores: floats, or "
            "new_floats of a PerConv; see methods/README.md"
        ) from None
    most = "" if method.least_floats(shapes) == method.floats(shapes) else "≤ "
    return f"{most}{multiplier:.2f}", skipped_convolutions(method, shapes)
