"""The exceptions that mean: the input is wrong, and here is how to mend it."""

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
    """Wrong input from outside: one clear sentence naming the file, the domain and the mend.

    The command line prints the sentence and exits with 2; nothing else in the suite turns an
    exception into an exit code, so every other exception is a defect and keeps its traceback. What it
    quotes cannot steer a terminal.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


class BadImage(InputError):
    """One image file that cannot be taken: where it is, what is wrong with it, and the mend."""

    def __init__(self, domain: str, path: Path, what: str, mend: str):
        super().__init__(f"{domain}: {path} {what}; {mend}")
        self.domain, self.path, self.what, self.mend = domain, path, what, mend

    def __reduce__(self):
        return BadImage, (self.domain, self.path, self.what, self.mend)


class BadImages(InputError):
    """All images of a split that cannot be taken: how many, the first of them, and the mend."""

    NAMED = 5

    def __init__(self, domain: str, split: str):
        super().__init__()
        self.domain, self.split, self.total, self.first = domain, split, 0, []

    def add(self, image: BadImage) -> None:
        self.total += 1
        if len(self.first) < self.NAMED:
            self.first.append(image)

    @property
    def what(self) -> str:
        """What is wrong, without the mend."""
        if self.total == 1:
            (image,) = self.first
            return f"{self.domain}: {image.path} {image.what}"
        named = ", ".join(f"{image.path} {image.what}" for image in self.first)
        more = f", and {self.total - self.NAMED:,} more" if self.total > self.NAMED else ""
        return f"{self.domain}: {self.total:,} images of {self.split} cannot be read: {named}{more}"

    def __str__(self) -> str:
        return printable(f"{self.what}; {self.first[0].mend if self.total == 1 else 'restore or remove them'}")


class Unwritable(InputError):
    """A place that takes nothing now (full, over quota, read-only, failing): whatever writes there meets it again."""


class Faults:
    """What is wrong with several domains, raised together, so that a person can mend all of it at once."""

    def __init__(self):
        self.found: list[InputError] = []

    def kept(self, read: Callable[..., T], *args) -> T | None:
        """What `read(*args)` returns; None where it raises InputError, which is kept for later."""
        try:
            return read(*args)
        except InputError as error:
            self.found.append(error)

    def raise_all(self) -> None:
        """Raise InputError with the sentences of all that were kept, if any was."""
        if len(self.found) == 1:
            raise self.found[0]
        if self.found:
            raise InputError("; ".join(map(str, self.found)))
