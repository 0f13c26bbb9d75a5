"""`python -m benchmark COMMAND`: finds the command's module, which adds its arguments and does the work.

Only the module of the command that was typed is imported, and it imports heavy packages when it runs: `--help` and
wrong options are answered at once.
"""

import argparse
import os
import sys
from importlib import import_module
from types import ModuleType

from visual_decathlon.benchmark.cli.arguments import Parser, program
from visual_decathlon.benchmark.runtime.stop import Stopped, show_cursor, stoppable
from visual_decathlon.datasets.errors import InputError, make_variables

COMMANDS = {
    "run": "train and evaluate methods, write the tables",
    "rerun": "run one again from its record and compare the numbers",
    "sum": "add a method's ΔW of two domains, as finished runs left them",
    "methods": "list the methods",
    "data": "check a release, fetch it, or draw a contact sheet",
    "tables": "make the tables again from the records",
    "compare": "two methods, paired by domain and seed",
    "submit": "pack a method's test predictions as a submission",
    "score": "check a submission, and score it where the test labels are at hand",
    "sweep": "three rates a method on a held-out part of train",
    "perf": "measure speed against the usual ways",
    "efficiency": "count and measure what networks and their building blocks cost",
    "networks": "try which networks of torchvision and timm run",
    "gpu": "test and measure all of it on a GPU, in eight minutes",
    "growth": "measure how cost grows, and draw it",
}
"""Command -> its line of help. The module visual_decathlon.benchmark.cli.COMMAND has `add_arguments` and `run`."""


def parse(words: list[str]) -> argparse.Namespace:
    """The arguments in `words`, and the name of the command as `command`; exits with 2 if they are wrong."""
    top = Parser(prog=program(), description="The Visual Decathlon suite.")
    commands = top.add_subparsers(dest="command", required=True, metavar=" | ".join(COMMANDS))
    parsers = {name: commands.add_parser(name, help=text) for name, text in COMMANDS.items()}
    first = next((word for word in words if not word.startswith("-")), None)  # --help, the one option, takes no value
    if first in parsers:
        _module(first).add_arguments(parsers[first])
    return top.parse_args(words)


def _module(command: str) -> ModuleType:
    return import_module(f"visual_decathlon.benchmark.cli.{command}")


def main(words: list[str] | None = None) -> int:
    """Run the command in `words` (default: what was typed); returns its exit code: 0, 1, 2, or 130 if interrupted."""
    args = parse(sys.argv[1:] if words is None else words)
    with stoppable(), make_variables():
        try:
            return _module(args.command).run(args)
        except InputError as error:
            print(error, file=sys.stderr)
            return 2
        except KeyboardInterrupt as stop:
            again = "goes on where it was"
            if args.command in ("perf", "efficiency", "gpu", "growth"):
                again = "starts the current measurement again; finished ones are kept, and ONLY= selects the rest"
            elif args.command == "networks":
                again = "begins again; the tables keep the finished networks, and NETWORK= selects the rest"
            show_cursor()
            print(f"stopped; the same command {again}", file=sys.stderr)
            return stop.code if isinstance(stop, Stopped) else 130
        except MemoryError:
            print("the memory is full; give smaller files, or name fewer domains with DOMAINS=", file=sys.stderr)
            return 2
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1


def console() -> None:
    """The entry point of `decathlon` and of `python -m benchmark`."""
    _leave(main())


def _leave(code: int) -> None:
    """End the process at once: all files are on disk, and Python would need a second to unload torch."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:  # the reader is gone, or the disk is full
        code = code or 1
    os._exit(code)
