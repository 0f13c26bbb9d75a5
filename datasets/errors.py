"""The exceptions that mean: the input is wrong, and here is how to remedy it."""

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from visual_decathlon.datasets.text import printable

T = TypeVar("T")


def reason(error: Exception) -> str:
    """What an error of a library or the system says, in one line and without its number, for "cannot be read (...)"."""
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return textwrap.shorten(said, 160, placeholder=" …")


class InputError(ValueError):
    """Wrong input from outside: one clear sentence naming the file, the domain and the remedy.

    The command line prints the sentence and exits with 2; nothing else in the suite turns an
    exception into an exit code, so every other exception is a defect and keeps its traceback. What it
    quotes cannot steer a terminal.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


class ImageError(InputError):
    """One image file that cannot be taken: where it is, what is wrong with it, and the remedy."""

    def __init__(self, domain: str, path: Path, problem: str, remedy: str):
        super().__init__(f"{domain}: {path} {problem}; {remedy}")
        self.domain, self.path, self.problem, self.remedy = domain, path, problem, remedy

    def __reduce__(self):
        return ImageError, (self.domain, self.path, self.problem, self.remedy)


class ImageErrors(InputError):
    """All images of a split that cannot be taken: how many, the first of them, and the remedy."""

    NAMED = 5

    def __init__(self, domain: str, split: str):
        super().__init__()
        self.domain, self.split, self.total, self.first = domain, split, 0, []

    def add(self, image: ImageError) -> None:
        self.total += 1
        if len(self.first) < self.NAMED:
            self.first.append(image)

    @property
    def problem(self) -> str:
        """What is wrong, without the remedy."""
        if self.total == 1:
            (image,) = self.first
            return f"{self.domain}: {image.path} {image.problem}"
        named = ", ".join(f"{image.path} {image.problem}" for image in self.first)
        more = f", and {self.total - self.NAMED:,} more" if self.total > self.NAMED else ""
        return f"{self.domain}: {self.total:,} images of {self.split} cannot be read: {named}{more}"

    def __str__(self) -> str:
        return printable(f"{self.problem}; {self.first[0].remedy if self.total == 1 else 'restore or remove them'}")


class Unwritable(InputError):
    """A place that takes nothing now (full, over quota, read-only, failing): whatever writes there meets it again."""


class Faults:
    """What is wrong with several domains, raised together, so that a person can remedy all of it at once."""

    def __init__(self):
        self.errors: list[InputError] = []

    def collect(self, read: Callable[..., T], *args) -> T | None:
        """What `read(*args)` returns; None where it raises InputError, which is kept for later."""
        try:
            return read(*args)
        except InputError as error:
            self.errors.append(error)

    def raise_all(self) -> None:
        """Raise InputError with the sentences of all that were kept, if any was."""
        if len(self.errors) == 1:
            raise self.errors[0]
        if self.errors:
            raise InputError("; ".join(map(str, self.errors)))
