"""Exceptions for wrong input: each one names the problem and the remedy."""

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from visual_decathlon.datasets.text import printable

T = TypeVar("T")


def reason(error: Exception) -> str:
    """The message of a library's or the system's error, as one line without its number."""
    message = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return textwrap.shorten(message, 160, placeholder=" …")


class InputError(ValueError):
    """Wrong input from outside: one clear sentence that names the file, the domain and the remedy.

    The command line prints the sentence and exits with 2. Nothing else in the suite turns an exception into an exit
    code, so every other exception is a defect and keeps its traceback. Text quoted in the sentence cannot control a
    terminal, see `printable`.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


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
