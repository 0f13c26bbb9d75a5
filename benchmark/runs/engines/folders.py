"""Moves a job from the folders of one machine to those of another."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

T = TypeVar("T")


class Folders(NamedTuple):
    """The folders that all paths of a job are below."""

    results: Path
    cache: Path

    def in_other(self, path: Path, other: "Folders") -> Path:
        """The path in the folders of another machine, of a path in these."""
        for mine, theirs in zip(self, other):
            if path.is_relative_to(mine):
                return theirs / path.relative_to(mine)
        return path

    def moved(self, job: T, other: "Folders") -> T:
        """A job whose paths are in these folders, with all of them in the other ones."""
        return with_paths(job, lambda path: self.in_other(path, other))

    def reworded(self, text: str, other: "Folders") -> str:
        """A sentence that names paths in these folders, with those in the other ones."""
        for mine, theirs in zip(self, other):
            text = text.replace(str(mine), str(theirs))
        return text


def with_paths(value: T, change: Callable[[Path], Path]) -> T:
    """A copy of a value of dataclasses and tuples, with every path in it changed."""
    if isinstance(value, Path):
        return change(value)
    if type(value) is tuple:
        return tuple(with_paths(item, change) for item in value)
    if dataclasses.is_dataclass(value):
        fields = [field.name for field in dataclasses.fields(value) if field.init]
        return dataclasses.replace(value, **{name: with_paths(getattr(value, name), change) for name in fields})
    return value
