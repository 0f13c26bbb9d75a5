"""Exceptions for wrong input: each one names the problem and the remedy."""

import os
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from visual_decathlon.datasets.text import printable

T = TypeVar("T")


def reason(error: Exception) -> str:
    """The message of a library's or the system's error, as one line without its number."""
    message = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return textwrap.shorten(message, 160, placeholder=" …")


_SPELLING = "VISUAL_DECATHLON_SPELLING"  # in the environment, because worker processes write sentences too
_VARIABLES = {"settings": "SET", "source": "FROM"}  # of make; the other ones are the capital letters of the option


def option(name: str) -> str:
    """`name=`, for a sentence that says what was wrong or what to give, spelled as the user writes it.

    In a Python program this is `data=`; for a command it is `DATA=`, the variable of make.
    """
    return f"{_VARIABLES.get(name, name.upper()) if os.environ.get(_SPELLING) == 'make' else name}="


def setting(assignment: str) -> str:
    """`SET=name=value`, for a sentence that says what to give; quoted where a shell would read its parentheses."""
    return option("settings") + (f"'{assignment}'" if "(" in assignment else assignment)


@contextmanager
def make_variables() -> Iterator[None]:
    """Context of a command line: `option` gives make's variables, in this process and in those that it starts."""
    before = os.environ.get(_SPELLING)
    os.environ[_SPELLING] = "make"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_SPELLING]
        else:
            os.environ[_SPELLING] = before


class InputError(ValueError):
    """Wrong input from outside: one clear sentence that names the file, the domain and the remedy.

    `field` is the option whose value is wrong, such as "data", or None where it is not a single one; the sentence
    begins with it. The command line prints the sentence and exits with 2. Nothing else in the suite turns an exception
    into an exit code, so every other exception is a defect and keeps its traceback. Text quoted in the sentence cannot
    control a terminal, see `printable`.
    """

    def __init__(self, sentence: str = "", field: str | None = None):
        super().__init__(sentence)
        self.field = field

    def __str__(self) -> str:
        return printable(f"{option(self.field) if self.field else ''}{super().__str__()}")


class ImageError(InputError):
    """One image file that cannot be used: its path, the problem and the remedy."""

    def __init__(self, domain: str, path: Path, problem: str, remedy: str):
        super().__init__(f"{domain}: {path} {problem}; {remedy}")
        self.domain, self.path, self.problem, self.remedy = domain, path, problem, remedy

    def __reduce__(self):
        return ImageError, (self.domain, self.path, self.problem, self.remedy)


class ImageErrors(InputError):
    """All images of a split that cannot be used: their number, the first few of them, and the remedy."""

    NAMED = 5

    def __init__(self, domain: str, split: str):
        super().__init__()
        self.domain, self.split, self.total, self.first = domain, split, 0, []

    def add(self, image: ImageError) -> None:
        """Counts an image, and keeps it if it is one of the first `NAMED`."""
        self.total += 1
        if len(self.first) < self.NAMED:
            self.first.append(image)

    @property
    def problem(self) -> str:
        """The sentence without the remedy."""
        if self.total == 1:
            (image,) = self.first
            return f"{self.domain}: {image.path} {image.problem}"
        named = ", ".join(f"{image.path} {image.problem}" for image in self.first)
        more = f", and {self.total - self.NAMED:,} more" if self.total > self.NAMED else ""
        return f"{self.domain}: {self.total:,} images of {self.split} cannot be read: {named}{more}"

    def __str__(self) -> str:
        return printable(f"{self.problem}; {self.first[0].remedy if self.total == 1 else 'restore or remove them'}")


class Unwritable(InputError):
    """A place that cannot be written to (full, over quota, read-only, failing): every later write there fails too."""


class Faults:
    """Collects the errors of several domains and raises them together, so that a person can fix them all at once."""

    def __init__(self):
        self.errors: list[InputError] = []

    def collect(self, read: Callable[..., T], *args) -> T | None:
        """Returns `read(*args)`, or None if it raises InputError, which is kept for `raise_all`."""
        try:
            return read(*args)
        except InputError as error:
            self.errors.append(error)

    def raise_all(self) -> None:
        """Raises InputError with the sentences of all collected errors, if there are any."""
        if len(self.errors) == 1:
            raise self.errors[0]
        if self.errors:
            raise InputError("; ".join(map(str, self.errors)))
