"""The registry: methods by name, each written with its options as one string, `lora(rank=8)`.

Every module of this package defines entries. Packages outside register theirs with `register` in a module that their
entry point in the group `visual_decathlon.methods` names.
"""

import ast
import dataclasses
import difflib
import fnmatch
import importlib
import importlib.metadata
import inspect
import keyword
import pkgutil
import re
import sys
import typing
from collections.abc import Callable
from functools import cache

from visual_decathlon.datasets.errors import InputError, option
from visual_decathlon.datasets.old_names import new_import
from visual_decathlon.datasets.text import comma_list
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.values import converted, is_finite, kind, non_finite, shown
from visual_decathlon.methods.words import explained, letters

_NOT_ENTRIES = {"layers", "method", "param_groups", "per_block", "per_conv", "registry", "shapes", "values", "words"}
_REQUIRED = ("name", "label", "family", "fidelity", "paper", "mergeable", "lr")
_LARGEST = 2**31  # a whole number must be below it
_registry: dict[str, type[Method]] = {}

_RENAMED = {
    "source": "backbone_structure",
    "views": "cached_views",
    "widen": "width_multiplier",
    "bound": "start_tolerance",
    "joint": "has_joint_stage",
    "alone": "trains_per_domain",
    "once": "shared_params",
    "together": "build_joint",
    "served": "inference_module",
    "why_not": "skip_reason",
    "refusal": "unsupported_reason",
}
"""Attributes of Method by their names of before 2026-12: nothing reads those any more."""

GROUPS = {
    "table1": (
        "scratch",
        "scratch_plus",
        "feature",
        "finetune",
        "lwf",
        "bn_adapt",
        "res_adapter",
        "res_adapter_decay",
        "res_adapter_finetune_all",
        "res_adapter_dom_pred",
        "res_adapter_large",
    ),
    "grid": tuple(
        f"adapter(arrangement={arrangement!r}, conv={conv!r}, scale={scale!r})"
        for arrangement in ("serial", "parallel")
        for conv in ("matching", "copy_concat", "group")
        for scale in ("learned", "none")
    ),
}
"""Words for several methods: the rows of the published Table 1, the twelve adapters of the talk."""


def _group_words() -> tuple[str, ...]:
    """Words that select several methods."""
    return ("all", *GROUPS)


def register(entry: type[Method]) -> type[Method]:
    """Class decorator: lists a method under its `name`.

    Raises InputError for a name that is taken (naming both places) or that METHOD= cannot name, for an option without
    a default, which listings and wildcards need, and for an attribute under its old name.
    """
    if not isinstance(getattr(entry, "name", None), str):
        raise InputError(f"the method {_location(entry)} has no name; set it as methods/README.md shows")
    if not entry.name.isidentifier() or not entry.name.isascii() or keyword.iskeyword(entry.name):
        raise InputError(
            f"the method name {entry.name!r} of {_location(entry)} is no word that {option('method')} can name; "
            "use letters, digits and underscores"
        )
    if entry.name in _group_words():
        raise InputError(
            f"the method name {entry.name!r} of {_location(entry)} is the suite's word for several methods; rename it"
        )
    taken = _registry.get(entry.name)
    if taken is not None and taken.__qualname__ + taken.__module__ != entry.__qualname__ + entry.__module__:
        places = f"{_location(taken)} and by {_location(entry)}"
        raise InputError(f"the method name {entry.name!r} is taken twice, by {places}; rename one")
    _check_names(entry)
    _check_defaults(entry)
    _registry[entry.name] = entry
    return entry


def _check_names(entry: type[Method]) -> None:
    """Raises InputError for an attribute or hook of Method under its old name, which would have no effect.

    An old name may be an option, or have any meaning in a class that defines the new name too. But an option `views`
    of a class with a `split` and without `cached_views` is the old attribute.
    """
    if "__dataclass_params__" not in vars(entry):
        return  # with @dataclass above @register the options are not known yet; `_load` checks again
    options = {field.name for field in dataclasses.fields(entry)}
    defined = {name for c in entry.__mro__ if c not in (Method, object) for name in vars(c)}
    for old, new in _RENAMED.items():
        is_option = old in options and not (old == "views" and "split" in defined)
        if old in defined and new not in defined and not is_option:
            raise InputError(
                f"the method {entry.name!r} of {_location(entry)} defines {old!r}, which is now {new!r}; rename it"
            )


def _check_defaults(entry: type[Method]) -> None:
    """Raises InputError for an option without a default, and for one that has the name of the method's revision."""
    for field in dataclasses.fields(entry):
        if field.name == "revision":
            raise InputError(
                f"the method {entry.name!r} of {_location(entry)} has an option 'revision', the word that its hashes "
                "use for its version; rename it, or remove the annotation if it is the version"
            )
        if field.default is dataclasses.MISSING:
            raise InputError(
                f"the option {field.name!r} of {entry.name!r} has no default in {_location(entry)}; "
                "give it a value there, not a factory"
            )


def _location(entry: type[Method]) -> str:
    """Module, class and file of an entry, for messages."""
    return f"{entry.__module__}.{entry.__qualname__} ({inspect.getsourcefile(entry)})"


@cache
def _import() -> None:
    """Imports the modules of this package and the entry points of others, once."""
    for module in pkgutil.iter_modules(sys.modules[__package__].__path__):
        if module.name not in _NOT_ENTRIES:
            try:
                importlib.import_module(f"{__package__}.{module.name}")
            except ImportError as error:
                if sentence := new_import(error):
                    raise InputError(sentence) from error
                raise
    for point in importlib.metadata.entry_points(group="visual_decathlon.methods"):
        try:
            point.load()
        except InputError:
            raise
        except (Exception, SystemExit) as error:
            if sentence := new_import(error):
                raise InputError(sentence) from error
            raise InputError(
                f"the entry point {point.name} = {point.value} of group visual_decathlon.methods does not load "
                f"({type(error).__name__}: {error}); fix or uninstall that package"
            ) from error


@cache
def _load() -> None:
    """Imports all entries, once, and checks them."""
    _import()
    for entry in _registry.values():  # again: with @dataclass above @register, the options are defined later
        _check_defaults(entry)
        _check_usable(entry)
        _check_names(entry)


def _check_usable(entry: type[Method]) -> None:
    """Raises InputError for an entry on which a listing or a run would fail."""
    if missing := [name for name in _REQUIRED if not hasattr(entry, name)]:
        raise InputError(f"the method {_location(entry)} has no {missing[0]}; set it as methods/README.md shows")
    if "__dataclass_params__" not in vars(entry):
        raise InputError(
            f"the method {_location(entry)} is no dataclass, so it has no options; put @dataclass above it"
        )
    if entry.has_joint_stage is True and entry.trains_per_domain is True:
        raise InputError(
            f"the method {_location(entry)} has a joint stage, which trains the domains' networks, and trains them per "
            "domain too; set trains_per_domain = False, or for a classifier of domains classifies_domains = True in "
            "place of has_joint_stage"
        )
    try:
        entry()
    except Exception as error:
        raise InputError(
            f"{entry.name!r} of {_location(entry)} cannot be made with its defaults ({type(error).__name__}: {error}); "
            "fix them"
        ) from error


def entries() -> list[type[Method]]:
    """Every registered method, by name."""
    _load()
    return [_registry[name] for name in sorted(_registry)]


def select(expression: str, explain: Callable[[str], str | None] = lambda word: None) -> list[Method]:
    """The methods that an expression names, each once, in order.

    An expression is `name`, `name(option=value)`, a wildcard (`res*`), `all`, a group, or a comma list of these. `all`
    is every entry with its defaults; the groups are `table1` and `grid`. `explain` returns a sentence about a word that
    this package does not know (a backbone, a setting), or None.

    Raises InputError for an unknown name (with the closest ones), an unknown option, or a value of the wrong type.
    """
    _load()
    selected: dict[str, Method] = {}
    for part in comma_list(expression):
        if part == "all":
            chosen = [entry() for entry in entries()]
        elif part in GROUPS:
            chosen = [_parse(spec) for spec in GROUPS[part]]
        elif set(part) & set("*?[") and "(" not in part:
            chosen = [_registry[name]() for name in sorted(fnmatch.filter(_registry, part))]
            if not chosen:
                raise InputError(f"{part} fits no method; there are {', '.join(sorted(_registry))}", field="method")
        else:
            chosen = [_parse(part, explain)]
        selected |= {method.spec: method for method in chosen}
    if not selected:
        raise InputError(" is empty; name a method, see `make methods`", field="method")
    return list(selected.values())


def named(spec: str) -> Method:
    """The one method of `name` or `name(option=value)`, for an entry that has another method as its option.

    Raises InputError as `select` does, also for a wildcard or a group.
    """
    _import()  # the entries are not checked, since checking makes every entry with its defaults
    return _parse(spec)


def select_named(expression: str) -> set[str]:
    """The strings of the methods that the expression names by their own name, not by a wildcard or a group."""
    _load()
    parts = comma_list(expression)
    return {_parse(part).spec for part in parts if part.partition("(")[0].strip() in _registry}


def _known(spec: str, explain: Callable[[str], str | None]) -> None:
    """Raises InputError where the name in `spec` is a word, in any spelling, that no method has."""
    word, words = spec.partition("(")[0].strip(), [*sorted(_registry), *_group_words()]
    if word in words or not letters(word):
        return
    alike = any(letters(name) == letters(word) for name in words)
    if not alike and (sentence := explained(word) or explain(word)):
        raise InputError(f"{spec}: {sentence}; `make methods` lists the methods", field="method")
    if alike or re.fullmatch(r"[A-Za-z][\w -]*", word):
        raise _unknown(word)


def _unknown(name: str) -> InputError:
    """The error for a name that no method has, with the closest names."""
    words = [*sorted(_registry), *_group_words()]
    alike = [word for word in words if letters(word) == letters(name)]
    near = alike or difflib.get_close_matches(name.lower().replace("-", "_").replace(" ", "_"), words, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(words)}"
    return InputError(f"no method is called {name!r}; {hint}")


def _parse(spec: str, explain: Callable[[str], str | None] = lambda word: None) -> Method:
    """The method of one `name` or `name(option=value, ...)`; nothing in the string is evaluated but literals."""
    hint = ""
    _known(spec, explain)
    try:
        tree = ast.parse(spec, mode="eval").body
        if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and not tree.args:
            name = tree.func.id
            values = {k: non_finite(k.value) for k in tree.keywords}
            unquoted = [k for k in tree.keywords if k.arg and isinstance(k.value, ast.Name) and values[k] is None]
            hint = f" (quote words: {unquoted[0].arg}={unquoted[0].value.id!r})" if unquoted else ""
            options = {k.arg: ast.literal_eval(k.value) if values[k] is None else values[k] for k in tree.keywords}
            if len(options) < len(tree.keywords):
                raise ValueError  # an option twice
        elif isinstance(tree, ast.Name):
            name, options = tree.id, {}
        else:
            raise ValueError
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        raise InputError(
            f"{spec} is not of the form name or name(option=value, ...){hint}; see `make methods`", field="method"
        ) from None
    if name in _group_words():
        raise InputError(
            f"{spec}: {name} stands for several methods and has no options; give it as a bare word", field="method"
        )
    if name not in _registry:
        raise _unknown(name)
    entry = _registry[name]
    return entry(**_checked(entry, options))


def _checked(entry: type[Method], options: dict) -> dict:
    """The options, each as the type that the entry declares. Raises InputError for an unknown one or a wrong type."""
    options = _without_revision(entry, options)
    hints = typing.get_type_hints(entry)
    known = {field.name: hints[field.name] for field in dataclasses.fields(entry)}
    for key, value in options.items():
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"its options are: {', '.join(known) or 'none'}"
            raise InputError(f"{entry.name} has no option {key!r}; {hint}")
        if type(value) is int and known[key] is not float and abs(value) >= _LARGEST:
            bound = "below 2**31" if value > 0 else "above -2**31"
            raise InputError(f"{entry.name}({key}={shown(value)}): {key} must be {bound}")
        if known[key] is float and not is_finite(value):
            raise InputError(f"{entry.name}({key}={shown(value)}): {key} must be a finite number")
        try:
            options = {**options, key: converted(known[key], value)}
        except (TypeError, ValueError, OverflowError):
            raise InputError(f"{entry.name}({key}={shown(value)}): {key} must be {kind(known[key])}") from None
    return options


def _without_revision(entry: type[Method], options: dict) -> dict:
    """The options without the word that `full_spec` appends. Raises InputError for another revision than this one."""
    recorded = options.get("revision", entry.revision)
    if type(recorded) is not int or recorded != entry.revision:
        raise InputError(
            f"{entry.name}(revision={shown(recorded)}) is not in this version of the suite, which has revision "
            f"{entry.revision} of {entry.name} with other numbers; check out the commit in the run's record"
        )
    return {key: value for key, value in options.items() if key != "revision"}
