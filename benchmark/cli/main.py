"""`python -m benchmark`: run, methods, data, tables. Only argument parsing here: `--help` answers at once."""

import argparse
import errno
import os
import re
import sys
from importlib import import_module
from pathlib import Path

from visual_decathlon.benchmark.config.backbone_names import ALL, unknown_backbone
from visual_decathlon.benchmark.config.folders import WORK
from visual_decathlon.benchmark.runtime.devices import NAMES
from visual_decathlon.benchmark.runtime.stop import Stopped, show_cursor, stoppable
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.datasets.text import printable


def _path(text: str) -> Path:
    """A path that may be absent; refused where nobody could tell, or what is there cannot be read."""
    path = Path(os.path.expanduser(text))
    try:
        path.stat()
        if not os.access(path, os.R_OK | os.X_OK if path.is_dir() else os.R_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except (FileNotFoundError, NotADirectoryError):
        pass  # whoever needs it says so
    except OSError as error:
        raise argparse.ArgumentTypeError(
            f"{path} cannot be read ({error.strerror}), see its rights or name another"
        ) from None
    return path


def _own(text: str) -> list[tuple[str, Path]]:
    """`name=folder`, or several with blanks between: a blank that no `name=` follows is the folder's own."""
    name, equals, folder = text.strip().partition("=")
    if not equals or not name or not folder or re.search(r"\s", name):
        raise argparse.ArgumentTypeError("give name=folder")
    if (further := re.search(r"\s+(?=[^\s=/]+=)", folder)) and not os.path.exists(os.path.expanduser(folder)):
        return [(name, _path(folder[: further.start()])), *_own(folder[further.end() :])]
    return [(name, _path(folder))]


def _paths(text: str) -> list[Path]:
    """A path, or several with blanks between: each as long as there is one of that name."""
    words, found = text.split(" "), []
    while words:
        ends = range(len(words), 0, -1)
        end = next((n for n in ends if os.path.exists(os.path.expanduser(" ".join(words[:n])))), 1)
        if name := " ".join(words[:end]):
            found.append(_path(name))
        words = words[end:]
    return found


def _add_own(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--own",
        type=_own,
        action="extend",
        default=[],
        metavar="NAME=DIR",
        help="your own domain: a folder of class folders; several as 'a=one b=two'",
    )


class _Words(argparse.Action):
    """Adds words and comma lists of them, bare or in one quoted word: `--set a=1 b=2`, `--set 'a=1 b=2'`."""

    def __call__(self, parser, namespace, values: list[str], option_string=None):
        words = " ".join(values).replace(",", " ").split()
        setattr(namespace, self.dest, [*getattr(namespace, self.dest), *words])


def _positive(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) < 2**31:
        raise argparse.ArgumentTypeError("must be a whole number from 1 up")
    return int(text)


def _width(text: str) -> float:
    from visual_decathlon.benchmark.config.profiles import whole_channels

    width = float(text)  # argparse says what is no number
    if not whole_channels(width):
        raise argparse.ArgumentTypeError("must be a multiple of 1/32, such as 0.25")
    return width


def _network(name: str) -> str:
    if name not in ALL:
        raise argparse.ArgumentTypeError(unknown_backbone(name))
    return name


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without the usage in front of it."""

    def error(self, message: str):
        self.exit(2, f"{printable(message)}; see `{self.prog} --help`\n")


def _folders(results: Path) -> argparse.ArgumentParser:
    """The options that name where files go; `results` is the default of records and tables."""
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--results", type=_path, default=results, metavar="DIR", help="where records and tables go")
    options.add_argument(
        "--cache", type=_path, default=WORK / ".cache", metavar="DIR", help="decoded pixels, stand-ins, backbones"
    )
    return options


def program() -> str:
    """What was typed: the installed command, or the module."""
    return "decathlon" if Path(sys.argv[0]).name == "decathlon" else "python -m benchmark"


def parser() -> argparse.ArgumentParser:
    top = _Parser(prog=program(), description="The Visual Decathlon suite.")
    commands = top.add_subparsers(dest="command", required=True, metavar=" | ".join(COMMANDS))
    folders = _folders(WORK / "results" / "runs")

    brought = argparse.ArgumentParser(add_help=False)  # what no record can bring
    brought.add_argument(
        "--data", type=_path, metavar="DIR", help="a release in the official layout; without it stand-ins are drawn"
    )
    brought.add_argument(
        "--backbone",
        type=_path,
        metavar="FILE[:NAME]|DIR",
        help="start from given weights, imagenet12 becomes a target",
    )
    _add_own(brought)
    brought.add_argument("--device", choices=("auto", "cpu", *NAMES), default="auto")

    runs = argparse.ArgumentParser(add_help=False, parents=[brought])  # which runs are meant
    runs.add_argument("--method", required=True, help="name, name(option=value), a comma list, a wildcard, or all")
    runs.add_argument(
        "--profile", default="standin", help="standin (minutes on two cores), decathlon (the paper's), decathlon-2018"
    )
    runs.add_argument(
        "--set",
        action=_Words,
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="override a setting, e.g. epochs=10 pretrain.epochs=5 width=0.5",
    )
    runs.add_argument(
        "--split",
        choices=("val", "test", "holdout"),
        default="val",
        help="val: train on train; test: train on train+val; holdout: 4/5 against 1/5 of train, for tuning",
    )
    runs.add_argument(
        "--seeds", default="1", help="how many (3 is 0, 1, 2) or a list such as 0,5,7; `5,` is seed 5 alone"
    )
    runs.add_argument(
        "--domains", action=_Words, nargs="+", default=[], help="a list of domains (default: all there are)"
    )
    runs.add_argument("--limit", type=_positive, help="cut every split to so many images (marks the rows)")

    run = commands.add_parser("run", parents=[runs, folders], help="train and evaluate methods, write the tables")
    run.add_argument(
        "--workers",
        type=_positive,
        help="processes side by side (default: the cores; on a GPU up to 8, as memory allows)",
    )

    run.add_argument(
        "--predictions", action="store_true", help="keep each run's predictions; the test split may then lack labels"
    )

    rerun = commands.add_parser(
        "rerun",
        parents=[brought, folders],
        help="run one again from its record and compare the numbers",
        description="Rebuilds a run from its record alone, trains it again and compares the numbers; 1 if they differ.",
    )
    rerun.add_argument("hash", help="of the run, or how it begins; searched below --results, then in results/standin")

    what = "add a method's ΔW of two domains, as finished runs left them"
    commands.add_parser(
        "sum", parents=[runs, folders], help=what, description=f"{what}: METHOD is one, DOMAINS are two."
    )

    methods = commands.add_parser("methods", help="list the methods")
    methods.add_argument("--width", type=_width, default=1.0, help="of the ResNet-26 that #par. is for (default 1)")
    methods.add_argument(
        "--network", type=_network, default="resnet26", metavar="NAME", help=f"the backbone: {', '.join(ALL)}"
    )

    data = commands.add_parser("data", parents=[folders], help="check a release, fetch it, or draw a contact sheet")
    data.add_argument("--data", type=_path, metavar="DIR", help="check this release")
    _add_own(data)
    data.add_argument("--download", type=_path, metavar="DIR", help="fetch the two public archives into DIR")
    data.add_argument(
        "--sheet", type=_path, metavar="PNG", help="draw eight images a domain of the stand-ins, or of --data"
    )

    records = argparse.ArgumentParser(add_help=False)
    records.add_argument(
        "--from", dest="source", type=_path, metavar="DIR", help="a folder of records (default: --results)"
    )
    made = commands.add_parser("tables", parents=[records, folders], help="make the tables again from the records")
    made.add_argument(
        "--only",
        action=_Words,
        nargs="+",
        default=[],
        metavar="FIGURE",
        help="of the figures these: pareto, time, gap, steps, curves",
    )
    made.add_argument("--limited", action="store_true", help="rows of runs that LIMIT= cut, too")
    made.add_argument("--collect", type=_path, metavar="FILE", help="write the records into one Parquet file instead")

    against = commands.add_parser("compare", parents=[records, folders], help="two methods, paired by domain and seed")
    against.add_argument("a", metavar="A", help="a method as of run")
    against.add_argument("b", metavar="B", help="another")

    submit = commands.add_parser("submit", parents=[folders], help="pack a method's test predictions as a submission")
    submit.add_argument("--method", required=True, help="one method, as of run")
    submit.add_argument(
        "--from", dest="source", type=_path, metavar="DIR", help="the results of its runs (default: --results)"
    )
    submit.add_argument(
        "--data",
        type=_path,
        metavar="DIR",
        help="the release whose test images it must hold (default: the real one)",
    )
    submit.add_argument("--profile", help="of the runs, where there are several")
    submit.add_argument("--seed", type=int, help="of the runs (default: the least there is)")
    submit.add_argument("--out", type=_path, metavar="ZIP", help="what is written (default: results.zip in --results)")

    scored = commands.add_parser("score", help="check a submission, and score it where the test labels are at hand")
    scored.add_argument("--file", type=_path, required=True, help="a ZIP with results.json, or that file")
    checked = scored.add_mutually_exclusive_group()
    checked.add_argument(
        "--labels",
        type=_paths,
        action="extend",
        default=[],
        metavar="DIR|FILE",
        help="{domain}_test.json, or a folder of them; without it the file is only checked",
    )
    checked.add_argument(
        "--data", type=_path, metavar="DIR", help="check it against this release (default: the real one)"
    )

    sweep = commands.add_parser("sweep", parents=[folders], help="three rates a method on a held-out part of train")
    sweep.add_argument("--method", required=True, help="as of run")

    perf = commands.add_parser("perf", parents=[folders], help="measure speed against the usual ways")
    perf.add_argument("--only", action=_Words, nargs="+", default=[], metavar="PART", help="parts; all by default")

    kept = _folders(WORK / "results" / "perf")
    gpu = commands.add_parser("gpu", parents=[kept], help="test and measure all of it on a GPU, in eight minutes")
    gpu.add_argument("--only", action=_Words, nargs="+", default=[], metavar="STEP", help="steps; all by default")

    growth = commands.add_parser("growth", parents=[folders], help="measure how cost grows, and draw it")
    growth.add_argument("--only", action=_Words, nargs="+", default=[], metavar="GROWTH", help="these; all by default")
    return top


COMMANDS = {
    "run": "visual_decathlon.benchmark.cli.run",
    "rerun": "visual_decathlon.benchmark.cli.rerun",
    "sum": "visual_decathlon.benchmark.cli.sum",
    "methods": "visual_decathlon.benchmark.cli.methods",
    "data": "visual_decathlon.benchmark.cli.data",
    "tables": "visual_decathlon.benchmark.cli.tables",
    "compare": "visual_decathlon.benchmark.cli.compare",
    "submit": "visual_decathlon.benchmark.cli.submit",
    "score": "visual_decathlon.benchmark.cli.score",
    "sweep": "visual_decathlon.benchmark.cli.sweep",
    "perf": "visual_decathlon.benchmark.cli.perf",
    "gpu": "visual_decathlon.benchmark.cli.gpu",
    "growth": "visual_decathlon.benchmark.cli.growth",
}


def main(words: list[str] | None = None) -> int:
    args = parser().parse_args(words)
    with stoppable():
        try:
            return import_module(COMMANDS[args.command]).run(args)
        except InputError as error:
            print(error, file=sys.stderr)
            return 2
        except KeyboardInterrupt as stop:
            again = "goes on where it was"
            if args.command in ("perf", "gpu", "growth"):
                again = "measures anew, and what was measured so far is kept; ONLY= names what is still lacking"
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
    """End at once: all that was made is on disk, and Python would take torch apart for a second."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:  # nobody reads on, or a full disk
        code = code or 1
    os._exit(code)
