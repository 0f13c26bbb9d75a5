"""The values of a method's options: read from a string, checked against the declared type, shown in messages."""

import ast
import contextlib
import math
import types
import typing


def non_finite(node: ast.expr) -> float | None:
    """The value of the words nan, inf and infinity, which are no literals, with or without a sign; None for others."""
    sign = 1.0
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.UAdd, ast.USub)):
        sign, node = (-1.0 if isinstance(node.op, ast.USub) else 1.0), node.operand
    if isinstance(node, ast.Name) and node.id.lower() in ("nan", "inf", "infinity"):
        return sign * float(node.id)
    return None


def shown(value) -> str:
    """A value for messages, its first characters where it is long."""
    try:
        text = repr(value)
    except ValueError:  # a number of thousands of digits
        text = hex(value) if type(value) is int else "..."
    return text if len(text) <= 60 else f"{text[:60]}..."


def is_finite(value) -> bool:
    """Whether a value is no number, or one that a float can hold."""
    try:
        return type(value) not in (int, float) or math.isfinite(value)
    except OverflowError:
        return False


def converted(wanted, value):
    """The value as the option's type; an int is accepted for a float, a list for a tuple.

    Raises TypeError, ValueError or OverflowError for a value of another type.
    """
    origin, args = typing.get_origin(wanted), typing.get_args(wanted)
    if origin is typing.Literal:
        if any(type(value) is type(v) and value == v for v in args):
            return value
    elif origin in (typing.Union, types.UnionType):
        for each in sorted(args, key=lambda each: each is not type(value)):  # `float | int` keeps a whole number
            with contextlib.suppress(TypeError, ValueError, OverflowError):
                return converted(each, value)
    elif origin in (tuple, list):
        if type(value) in (tuple, list):
            each = args[:1] * len(value) if origin is list or args[-1:] == (...,) else args
            return origin(converted(w, v) for w, v in zip(each, value, strict=True))
    elif wanted is float:
        if type(value) in (float, int) and math.isfinite(value):  # inf is no literal, a string could not name it
            return float(value)
    elif type(value) is wanted:
        return value
    raise TypeError


def kind(wanted) -> str:
    """A type in words, for messages."""
    origin, args = typing.get_origin(wanted), typing.get_args(wanted)
    if origin is typing.Literal:
        return " or ".join(map(repr, args))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(kind, args))
    if wanted is types.NoneType:
        return "None"
    return f"of type {wanted if origin else wanted.__name__}"
