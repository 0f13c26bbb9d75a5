"""`python -m benchmark data`: fetches the official release, checks one on disk, or draws a contact sheet."""

from argparse import ArgumentParser, Namespace

from visual_decathlon.benchmark.cli import arguments
from visual_decathlon.datasets.errors import InputError


def add_arguments(parser: ArgumentParser) -> None:
    """Add the folders, and the data to check, fetch or draw."""
    arguments.add_folders(parser)
    parser.add_argument("--data", type=arguments.path, metavar="DIR", help="check this release")
    arguments.add_own(parser)
    parser.add_argument("--download", type=arguments.path, metavar="DIR", help="fetch the two public archives into DIR")
    parser.add_argument(
        "--sheet", type=arguments.path, metavar="PNG", help="draw eight images a domain of the stand-ins, or of --data"
    )


def run(args: Namespace) -> int:
    """Download to --download, draw --sheet, check --data and --own; 2 if the check finds a fault.

    A sheet shows the images of --data without checking them.
    """
    if args.data is None and args.download is None and args.sheet is None and not args.own:
        raise InputError(
            "data: nothing to do; give DATA=<release to check>, OWN=<name>=<folder of your own to check>, "
            "DOWNLOAD=<folder to fetch the release to> or SHEET=<picture to draw>"
        )
    names = [name for name, _ in args.own]
    if twice := [name for i, name in enumerate(names) if name in names[:i]]:
        raise InputError(f"OWN={twice[0]}=…: the name {twice[0]} is given twice; give each own domain its own")
    if args.sheet is not None and args.own:
        raise InputError(f"SHEET={args.sheet} shows the ten domains alone; check OWN= by a command of its own")
    if args.sheet is not None:
        _draw(args)
        return 0
    from visual_decathlon.benchmark.report import release

    if args.download is not None:
        release.fetch(args.download)
    if args.data is None and not args.own:
        return 0
    return 0 if release.check(args.data, args.own) else 2


def _draw(args: Namespace) -> None:
    """Draw eight images of each domain of --data, or of the stand-ins, which are generated if they are missing."""
    from visual_decathlon.benchmark.report.console import PlainConsole
    from visual_decathlon.benchmark.report.release import show_progress
    from visual_decathlon.benchmark.runs.data import ensure_standins
    from visual_decathlon.datasets.standin.sheet import contact_sheet, refuse_target

    refuse_target(args.sheet)
    console = PlainConsole()
    with show_progress(console) as progress:
        root = args.data or ensure_standins(args.cache, lambda task, _, done, of: progress(task, done, of))
    contact_sheet(root, args.sheet)
    console.print(f"{args.sheet} shows eight images of each domain", soft_wrap=True)
