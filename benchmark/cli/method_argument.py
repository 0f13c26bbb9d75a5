"""The methods that METHOD= names. The error for a backbone, a setting or a profile says which variable takes it."""

import dataclasses
import typing

from visual_decathlon.benchmark.config import backbone_names
from visual_decathlon.benchmark.config.profiles import FIXED, PROFILES, Profile, Recipe
from visual_decathlon.datasets.errors import InputError, option
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import select
from visual_decathlon.methods.words import letters


def asked_methods(expression: str, field: str = "method") -> list[Method]:
    """The methods of an expression, see `methods.registry.select`. Raises InputError of the option `field`."""
    try:
        return select(expression, _explain)
    except InputError as error:
        error.field = error.field and field
        raise


def _explain(word: str) -> str | None:
    for name in PROFILES:
        if letters(word) == letters(name):
            return f"{word} is a profile, not a method: {option('profile')}{name}"
    for kind in (Profile, Recipe):
        hints = typing.get_type_hints(kind)
        for field in dataclasses.fields(kind):
            if field.name in ("name", "adapt", "pretrain", *FIXED):
                continue  # SET= does not take these
            if letters(word) == letters(field.name):
                return f"{word} is a setting, not a method: {option('settings')}{field.name}="
            choice = typing.get_origin(hints[field.name]) is typing.Literal
            for value in typing.get_args(hints[field.name]) if choice else ():
                if letters(word) == letters(value):
                    return f"{word} is a setting, not a method: {option('settings')}{field.name}={value}"
    return backbone_names.backbone_as_method(word)
