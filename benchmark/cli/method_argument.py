"""The methods that METHOD= asks for; a word that is a backbone, a setting or a profile instead is told so."""

import dataclasses
import typing

from visual_decathlon.benchmark.config import backbone_names
from visual_decathlon.benchmark.config.profiles import PROFILES, Profile, Recipe
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import select
from visual_decathlon.methods.words import letters


def asked_methods(expression: str) -> list[Method]:
    """`visual_decathlon.methods.registry.select` with this package's words. Raises InputError as that does."""
    return select(expression, _explained)


def _explained(word: str) -> str | None:
    for name in PROFILES:
        if letters(word) == letters(name):
            return f"{word} is a profile, not a method: PROFILE={name}"
    for kind in (Profile, Recipe):
        hints = typing.get_type_hints(kind)
        for field in dataclasses.fields(kind):
            if field.name in ("name", "adapt", "pretrain", "follows"):
                continue  # none of what SET= takes
            if letters(word) == letters(field.name):
                return f"{word} is a setting, not a method: SET={field.name}="
            choice = typing.get_origin(hints[field.name]) is typing.Literal
            for value in typing.get_args(hints[field.name]) if choice else ():
                if letters(word) == letters(value):
                    return f"{word} is a setting, not a method: SET={field.name}={value}"
    return backbone_names.backbone_as_method(word)
