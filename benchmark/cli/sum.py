"""`python -m benchmark sum`: adds a method's ΔW of two domains and evaluates the network with both."""

from argparse import ArgumentParser, Namespace

from visual_decathlon.benchmark.cli import arguments
from visual_decathlon.datasets.errors import InputError


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options that select runs, and the folders."""
    parser.description = "add a method's ΔW of two domains, as finished runs left them: METHOD is one, DOMAINS are two."
    arguments.add_run_selection(parser)
    arguments.add_folders(parser)


def run(args: Namespace) -> int:
    """Check that one method and two domains are named, then evaluate and print the sum. Raises InputError."""
    from visual_decathlon.benchmark.cli.common import command
    from visual_decathlon.benchmark.cli.request import requested
    from visual_decathlon.benchmark.runs.delta_sum import delta_sum
    from visual_decathlon.benchmark.runtime.devices import device_of

    request = requested(args)
    domains = {*args.domains, *(name for name, _ in request.selected_own_domains)}
    if len(domains) != 2:
        named = ", ".join(sorted(domains)) or "none is named"
        raise InputError(
            f"DOMAINS= and OWN= must name two domains here ({named}); a sum is of two, such as DOMAINS=dtd,svhn"
        )
    if len(request.methods) != 1:
        raise InputError(
            f"METHOD={args.method} names {len(request.methods)} methods; name the one whose ΔW are to be added"
        )
    delta_sum(request, domains, args.results, device=device_of(args.device), command=command())
    return 0
