"""Finds the state dicts in the object of a PyTorch checkpoint, and removes wrappers from their names.

A checkpoint is a state dict, a module, or a dictionary with one of them next to an optimiser's state, a Namespace and
so on: under `model` (torchvision), `state_dict` (timm, Lightning), `net` (the residual adapters' authors), `module`
(DeepSpeed), and often another under `model_ema` or the like; or a list or tuple of these, whose places are `0`, `1` and
so on. Entries of a state dict that are not tensors are left out.
"""

import re
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from visual_decathlon.benchmark.backbones.pickle_names import Described, Inert, Refused, Unreadable
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.datasets.text import printable

MOST_VISITS = 300_000  # modules, parameters and buffers of a network, shared ones counted at each place
_DEEPEST, _LONGEST_NAME = 32, 128
_DEEPEST_DICT = 5  # VISSL's is the fourth: classy_state_dict, base_model, model, trunk
_NO_WEIGHTS = re.compile(r"(optim|opt_|lr_|sched|(grad_)?scaler|amp|rng|random|loops|hparams|hyper_param).*|opt", re.I)


class WithoutNetwork(InputError):
    """A readable file without a network of the requested kind."""


class NoWeights(Refused):
    """`Refused` for a readable file without such a network."""

    error = WithoutNetwork


@dataclass(frozen=True)
class StateDict:
    """Tensors by name (as described in a file, or real ones), and their place: keys joined by dots, "" is the top.

    `left_out` are the names of other entries, which hold no tensor.
    """

    place: str
    tensors: Mapping[str, Any]
    left_out: tuple[str, ...] = field(default=())


def state_dicts(top: Any) -> list[StateDict]:
    """Every state dict in a checkpoint's object, in its order; only those with names of weights, if there are any.

    Raises Refused where there is none.
    """
    result: list[StateDict] = []
    waiting: deque[tuple[tuple[str, ...], Any]] = deque([((), top)])
    visits, looked_into = 0, {}
    while waiting:
        place, value = waiting.popleft()
        if type(value) is Inert and value.is_module:
            tensors, left_out = _of_module(value)
            visits += len(tensors) + len(left_out)
        else:
            value = value.items if type(value) is Inert else value
            if type(value) not in (dict, list, tuple):
                continue
            if id(value) in looked_into:  # an object at one place is no longer than the pickle
                visits += 1 + len(value)
            else:
                looked_into[id(value)] = _inside(value)
            tensors, left_out = _of_dict(value) if type(value) is dict else ({}, ())
            if len(place) < _DEEPEST_DICT:
                waiting += [((*place, key), item) for key, item in looked_into[id(value)]]
        if visits > MOST_VISITS:
            raise Refused("unfolds to more dictionaries than a checkpoint has: do not trust the file.")
        if tensors:
            result.append(StateDict(".".join(place), tensors, left_out))
    if not result:
        raise NoWeights(f"holds no weights{_instead(top)}: give a checkpoint with a network or a state dict in it.")
    with_weights = [each for each in result if any(name.endswith("weight") for name in each.tensors)]
    return with_weights or result


def _of_dict(value: dict) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Its tensors by name, and the names of the other entries."""
    tensors = {k: item for k, item in value.items() if type(k) is str and type(item) in (Described, Unreadable)}
    return tensors, tuple(key for key in value if type(key) is str and key not in tensors)


def _inside(value: Any) -> list[tuple[str, Any]]:
    """Entries of a dictionary, list or tuple that may hold state dicts, by key or index (numbers as text)."""
    if type(value) is dict:
        pairs = [(key, item) for key, item in value.items() if type(key) in (str, int)]
    else:
        pairs = list(enumerate(value)) if type(value) in (list, tuple) else []
    held = ((str(key), item) for key, item in pairs if type(item) in (dict, list, tuple, Inert))
    return [(key, item) for key, item in held if not _NO_WEIGHTS.fullmatch(key)]


def _instead(top: Any) -> str:
    if type(top) is Inert:
        return f" but an object of {top.kind[:80]!a} without modules"
    if type(top) is dict and top:
        keys = [f"{key[:80]!a}" for key in top if type(key) is str][:8]
        return (
            f": under {', '.join(keys) or 'numbers'}{', ...' * (len(keys) < len(top))} is something that is no tensor"
        )
    return ""


def _of_module(root: Inert) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Flat names of a tree of modules, in the order of `state_dict`, and the names of entries that hold no tensor.

    A module may have several places in the tree.
    """
    entries: dict[str, Any] = {}
    waiting, visits = [("", root, 0)], 0
    while waiting:
        prefix, module, depth = waiting.pop()
        if type(module) is not Inert or not module.is_module or depth > _DEEPEST:
            raise Refused("holds something in place of a module, or modules without end: get the file again.")
        state, children = module.state, module.state["_modules"]
        hidden = state.get("_non_persistent_buffers_set") or []
        parameters, buffers = state.get("_parameters"), state.get("_buffers")
        visits += 1 + len(hidden) + len(parameters) + len(buffers) + len(children)
        if visits > MOST_VISITS:
            raise Refused("unfolds to more modules than a network has: do not trust the file.")
        hidden = {name for name in hidden if type(name) is str}
        tensors = [*parameters.items(), *((key, value) for key, value in buffers.items() if key not in hidden)]
        for key in (*children, *parameters, *buffers):
            if type(key) is not str or len(key) > _LONGEST_NAME:
                raise Refused("has a parameter whose name is no name: the file is damaged, get it again.")
        entries.update((prefix + key, value) for key, value in tensors if value is not None)
        waiting += [
            (f"{prefix}{key}.", child, depth + 1) for key, child in reversed(children.items()) if child is not None
        ]
    left_out = tuple(name for name, value in entries.items() if type(value) not in (Described, Unreadable))
    return {name: value for name, value in entries.items() if name not in left_out}, left_out


# --- names ------------------------------------------------------------------------------------------------------

# Parts that a wrapper adds to the names of its network: torch.compile, FSDP (old and new),
# activation checkpoints, Lightning Fabric. DataParallel's and AveragedModel's `module` only before all of them.
_WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_fpw_module", "_checkpoint_wrapped_module", "_forward_module"}
COUNTERS = re.compile(r"(.*\.)?(n_averaged|total_ops|total_params|ema_decay|_extra_state)")  # thop, AveragedModel, ...


def unwrapped(tensors: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The tensors without wrappers in their names, and a sentence for each kind of prefix that was removed.

    Raises Refused where two names become one.
    """
    sentences = []
    inside = {name: ".".join(part for part in name.split(".") if part not in _WRAPPERS) for name in tensors}
    for wrapper in sorted(_WRAPPERS):
        if held := [name for name in tensors if wrapper in name.split(".")]:
            sentences.append(f"prefix `{wrapper}.` of {some_of(len(held), len(tensors))} names taken off")
    counted = {name: short for name, short in inside.items() if not COUNTERS.fullmatch(short)}
    depth = 0
    while counted and all(short.startswith("module.") for short in counted.values()):
        counted = {name: short.removeprefix("module.") for name, short in counted.items()}
        depth += 1
    if depth:
        sentences.append(f"prefix `{'module.' * depth}` of {some_of(len(counted), len(tensors))} names taken off")
    short = inside | counted
    if twice := [name for name, times in Counter(short.values()).items() if times > 1]:
        raise Refused(f"has {twice[0][:80]!a} twice, with and without a wrapper's prefix: keep one.")
    return {short[name]: tensor for name, tensor in tensors.items()}, sentences


def some_of(some: int, every: int) -> str:
    """A count in a sentence: "all 7", "3 of 7"."""
    return f"all {every}" if some == every else f"{some} of {every}"


def shown(name: str) -> str:
    """A name from a file for a sentence: in quotes, printable, not too long."""
    return f"`{printable(name)[:80]}`"


def left_out(names: Sequence[str]) -> str:
    """The sentence on entries of a file that no network has."""
    some = ", ".join(map(shown, names[:3])) + (", ..." if len(names) > 3 else "")
    return f"left out, as no part of the network: {some} ({len(names)} in all)"


# --- the choice -------------------------------------------------------------------------------------------------

_PLAIN = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "weights", "params")
_SECOND = re.compile(r"(.*_)?(ema|swa|averaged|avg|shadow|momentum|target|k|key|student|old|init)(_.*)?", re.I)
# A copy next to the trained network: an average of it, MoCo's and BYOL's slow encoder, DINO's student.


def plainest(labels: list[str]) -> list[str]:
    """The default of several places in a file: the plainest one, or several where they are equally plain."""

    def rank(label: str) -> tuple[int, int, int]:
        parts = label.split(".") if label else []
        plain = min((_PLAIN.index(part) for part in parts if part in _PLAIN), default=len(_PLAIN))
        return sum(bool(_SECOND.fullmatch(part)) for part in parts), plain if parts else -1, len(parts)

    least = min(map(rank, labels))
    return [label for label in labels if rank(label) == least]


def only(state_dicts: list[StateDict]) -> dict[str, Described]:
    """The tensors of the plainest state dict, where the kind of network is not known."""
    places = plainest([each.place for each in state_dicts])
    if len(places) > 1:
        raise Refused(
            f"holds several networks ({', '.join(places)[:300]!a}), each as plain as the others: save one alone."
        )
    (chosen,) = (each for each in state_dicts if each.place == places[0])
    return readable(unwrapped(chosen.tensors)[0])


def readable(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors unchanged. Raises Refused for a tensor of a kind that cannot be read."""
    for name, tensor in tensors.items():
        if type(tensor) is Unreadable:
            raise Refused(f"has under {name[:80]!a} {tensor.fault}.")
    return dict(tensors)
