"""The argument parser, and the argument types and groups that several commands share. Imports nothing heavy."""

import argparse
import errno
import os
import re
import sys
from pathlib import Path

from visual_decathlon.benchmark.config.folders import WORK
from visual_decathlon.benchmark.runtime.devices import NAMES
from visual_decathlon.datasets.text import comma_list, printable

RESULTS = WORK / "results" / "runs"
"""The default of --results."""


def program() -> str:
    """The name of the program as it was typed: the installed command, or the module."""
    return "decathlon" if Path(sys.argv[0]).name == "decathlon" else "python -m benchmark"


class Parser(argparse.ArgumentParser):
    """An argument parser whose error is one sentence without the usage."""

    def error(self, message: str):
        """Print the sentence on stderr and exit with 2."""
        self.exit(2, f"{printable(message)}; see `{self.prog} --help`\n")


class Words(argparse.Action):
    """Adds words and comma lists of words, unquoted or in one quoted word: `--set a=1 b=2`, `--set 'a=1 b=2'`.

    Commas and blanks inside of parentheses belong to a word.
    """

    def __call__(self, parser, namespace, values: list[str], option_string=None):
        words = comma_list(" ".join(values), ", \t\n")
        setattr(namespace, self.dest, [*getattr(namespace, self.dest), *words])


def path(text: str) -> Path:
    """A path that may be absent; refused if its existence cannot be determined or the file cannot be read."""
    path = Path(os.path.expanduser(text))
    try:
        path.stat()
        if not os.access(path, os.R_OK | os.X_OK if path.is_dir() else os.R_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except (FileNotFoundError, NotADirectoryError):
        pass  # the command that needs the file reports that it is missing
    except OSError as error:
        raise argparse.ArgumentTypeError(
            f"{path} cannot be read ({error.strerror}), see its rights or name another"
        ) from None
    return path


def paths(text: str) -> list[Path]:
    """A path, or several separated by blanks; each takes as many words as give the name of an existing file."""
    words, result = text.split(" "), []
    while words:
        ends = range(len(words), 0, -1)
        end = next((n for n in ends if os.path.exists(os.path.expanduser(" ".join(words[:n])))), 1)
        if name := " ".join(words[:end]):
            result.append(path(name))
        words = words[end:]
    return result


def own_domains(text: str) -> list[tuple[str, Path]]:
    """`name=folder`, or several separated by blanks. A blank that no `name=` follows is part of the folder's name."""
    name, equals, folder = text.strip().partition("=")
    if not equals or not name or not folder or re.search(r"\s", name):
        raise argparse.ArgumentTypeError("give name=folder")
    if (further := re.search(r"\s+(?=[^\s=/]+=)", folder)) and not os.path.exists(os.path.expanduser(folder)):
        return [(name, path(folder[: further.start()])), *own_domains(folder[further.end() :])]
    return [(name, path(folder))]


def positive(text: str) -> int:
    """A whole number from 1 to 2³¹ - 1."""
    # int refuses texts of more than 4300 digits with a sentence of its own
    if not text.isdecimal() or len(text) > 4000 or not 1 <= int(text) < 2**31:
        raise argparse.ArgumentTypeError("must be a whole number from 1 up")
    return int(text)


def add_folders(parser: argparse.ArgumentParser, results: Path = RESULTS) -> None:
    """Add --results, whose default is `results`, and --cache."""
    parser.add_argument("--results", type=path, default=results, metavar="DIR", help="where records and tables go")
    parser.add_argument(
        "--cache", type=path, default=WORK / ".cache", metavar="DIR", help="decoded pixels, stand-ins, backbones"
    )


def add_own(parser: argparse.ArgumentParser) -> None:
    """Add --own, the user's own domains: a list of (name, folder)."""
    parser.add_argument(
        "--own",
        type=own_domains,
        action="extend",
        default=[],
        metavar="NAME=DIR",
        help="your own domain: a folder of class folders; several as 'a=one b=two'",
    )


def add_inputs(parser: argparse.ArgumentParser) -> None:
    """Add the options for inputs that a record does not contain: --data, --backbone, --own, --device."""
    parser.add_argument(
        "--data", type=path, metavar="DIR", help="a release in the official layout; without it stand-ins are drawn"
    )
    parser.add_argument(
        "--backbone",
        type=path,
        metavar="FILE[:NAME]|DIR",
        help="start from given weights, imagenet12 becomes a target",
    )
    add_own(parser)
    parser.add_argument("--device", choices=("auto", "cpu", *NAMES), default="auto")


def add_run_selection(parser: argparse.ArgumentParser) -> None:
    """Add the inputs, and the options that select runs: --method, --profile, --set, --split, --seeds, …"""
    add_inputs(parser)
    parser.add_argument("--method", required=True, help="name, name(option=value), a comma list, a wildcard, or all")
    parser.add_argument(
        "--profile",
        default="standin",
        help="standin (minutes on two cores) or standin-vit; decathlon (the paper's), …-vit, …-2018, …-2018-released",
    )
    parser.add_argument(
        "--set",
        action=Words,
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="override a setting, e.g. epochs=10 pretrain.epochs=5 width=0.5",
    )
    parser.add_argument(
        "--split",
        choices=("val", "test", "holdout"),
        default="val",
        help="val: train on train; test: train on train+val; holdout: 4/5 against 1/5 of train, for tuning",
    )
    parser.add_argument(
        "--seeds", default="1", help="how many (3 is 0, 1, 2) or a list such as 0,5,7; `5,` is seed 5 alone"
    )
    parser.add_argument(
        "--domains", action=Words, nargs="+", default=[], help="a list of domains (default: all there are)"
    )
    parser.add_argument("--limit", type=positive, help="cut every split to so many images (marks the rows)")


def add_source(parser: argparse.ArgumentParser, help: str = "a folder of records (default: --results)") -> None:
    """Add --from, the folder that records are read from."""
    parser.add_argument("--from", dest="source", type=path, metavar="DIR", help=help)


def add_sources(parser: argparse.ArgumentParser, help: str) -> None:
    """Add --from, one or several folders that records are read from: `sources`, a list of paths, [] by default."""
    parser.add_argument("--from", dest="sources", type=paths, default=[], metavar="DIR", help=help)


def add_only(parser: argparse.ArgumentParser, metavar: str, help: str) -> None:
    """Add --only, a list of names."""
    parser.add_argument("--only", action=Words, nargs="+", default=[], metavar=metavar, help=help)
