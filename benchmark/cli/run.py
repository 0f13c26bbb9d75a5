"""`python -m benchmark run`: trains the runs that are missing, then writes and shows the tables."""

from argparse import ArgumentParser, Namespace
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from visual_decathlon.benchmark.cli import arguments


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options that select runs, the folders, and how the runs are trained."""
    arguments.add_run_selection(parser)
    arguments.add_folders(parser)
    parser.add_argument(
        "--workers",
        type=arguments.positive,
        help="processes side by side (default: the cores; on a GPU up to 8, as memory allows)",
    )
    parser.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="where runs are executed: on this machine, or on the Ray cluster of RAY_ADDRESS",
    )
    parser.add_argument("--plan", action="store_true", help="show what would run and how long it takes; write nothing")
    parser.add_argument(
        "--predictions", action="store_true", help="keep each run's predictions; the test split may then lack labels"
    )


def run(args: Namespace) -> int:
    """0: every run has its record; 2: a run failed, and its error is on stderr."""
    from visual_decathlon.benchmark.cli.common import command
    from visual_decathlon.benchmark.cli.request import requested
    from visual_decathlon.benchmark.runs.bench import bench
    from visual_decathlon.benchmark.runtime.devices import device_of
    from visual_decathlon.methods.registry import select_named

    device = args.device if args.engine == "ray" else device_of(args.device)
    named = select_named(args.method)
    if args.engine == "ray" and not args.plan:  # before the data are prepared
        from visual_decathlon.benchmark.runs.engines.ray_cluster import check_cluster

        check_cluster()
    if args.plan:
        return _plan(args, named, device_of("auto") if device == "auto" else device)
    request = requested(args, args.predictions)
    faults = bench(
        request,
        args.results,
        named=named,
        device=device,
        workers=args.workers,
        engine=args.engine,
        command=command(),
    )
    return 2 if faults else 0


def _plan(args: Namespace, named: Collection[str], device: str) -> int:
    from visual_decathlon.benchmark.cli.request import requested
    from visual_decathlon.benchmark.runs.preview import preview

    if args.engine == "ray" and args.workers is None:
        print("the cluster is not asked: this plan is for one machine like this; WORKERS= gives another number")
    with TemporaryDirectory() as scratch:  # weights of the user's are converted into the cache
        request = requested(Namespace(**vars(args) | {"cache": Path(scratch)}), args.predictions)
    preview(replace(request, cache=args.cache), args.results, named=named, device=device, workers=args.workers)
    return 0
