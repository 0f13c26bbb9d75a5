"""What commands share: the command line as records keep it, and folders that can be written."""

import os
import re
import shlex
import sys
from pathlib import Path

from visual_decathlon.benchmark.cli.main import program
from visual_decathlon.benchmark.records.store import remove_half_written
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.datasets.io import temporary_name
from visual_decathlon.datasets.text import printable


def ready(results: Path, cache: Path) -> None:
    """Both folders can be written, and nothing lies in them that a killed command left half-written."""
    probe(results)
    probe(cache)
    remove_half_written(results, cache)


def probe(folder: Path) -> None:
    """Refuse a folder that cannot be written before anything is trained for it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trial = temporary_name(folder / "probe")
        try:
            trial.write_bytes(b"probe")
        finally:
            trial.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written ({error.strerror}); make it writable or name another folder"
        ) from None


def command() -> str:
    """What the user typed, as a shell takes it again, with no path of the interpreter."""
    made = shlex.split(os.environ.get("BENCH_COMMAND", ""))
    return printable(" ".join(map(_quoted, made or [*program().split(), *sys.argv[1:]])))


def _quoted(word: str) -> str:
    """A word for the shell: of NAME=value the value alone is quoted, doubly where that is easier to read."""
    name, equals, value = word.partition("=") if re.match("[A-Z]+=", word) else ("", "", word)
    plain = "'" in value and not set(value) & set('"$`\\!')
    return name + equals + (f'"{value}"' if plain else shlex.quote(value))
