"""The command line as records keep it. Imports nothing heavy."""

import os
import re
import shlex
import sys

from visual_decathlon.benchmark.cli.arguments import program
from visual_decathlon.datasets.text import printable


def command() -> str:
    """The command as it was typed, quoted for a shell and without the path of the interpreter."""
    made = shlex.split(os.environ.get("BENCH_COMMAND", ""))
    return printable(" ".join(map(_quoted, made or [*program().split(), *sys.argv[1:]])))


def _quoted(word: str) -> str:
    """A word quoted for a shell: only the value of NAME=value, in double quotes where that is easier to read."""
    name, equals, value = word.partition("=") if re.match("[A-Z]+=", word) else ("", "", word)
    plain = "'" in value and not set(value) & set('"$`\\!')
    return name + equals + (f'"{value}"' if plain else shlex.quote(value))
