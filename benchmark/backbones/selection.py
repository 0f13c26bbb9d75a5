"""Selects one network of a file's state dicts, and gives its tensors the network's own names.

The network is known by a name that only its kind has, so any prefix before it will do. A place in a file is spelled as
keys and prefixes joined by dots: `model_ema`, `state_dict.encoder_q`. Tensors are not looked into but for their shapes,
so those of a checkpoint are selected before any is read.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from visual_decathlon.benchmark.backbones.pickle_names import Described, Refused, Unreadable
from visual_decathlon.benchmark.backbones.state_dicts import (
    COUNTERS,
    NoWeights,
    StateDict,
    plainest,
    readable,
    some_of,
    unwrapped,
)
from visual_decathlon.benchmark.config.backbone_names import NAMES
from visual_decathlon.datasets.text import printable

_OURS = re.compile(r"((?:.*\.)?)(?:pre_layers_conv\..*|body\.(?:norm|stem\.bn|stem\.conv(?:\.conv)?)\.weight)")
_LIBRARY = re.compile(r"((?:.*\.)?)layer[1-4]\.\d+\.conv\d\.(?:conv\.)?weight")
_HEADS = ("fc", "head.fc", "head", "classifier", "linear", "last_linear", "heads.head")
_BESIDE = re.compile(  # entries beside a backbone that are no part of it: heads, projections, queues, colours
    r"(fc|heads?|classifiers?|linear|last_linear|aux\w*|proj\w*|predict\w*|queue\w*|prototypes?|logit_scale|normali[sz]e"
    r"|mean|std|loss\w*|criterion|\w+_head|head_\w+)\d*"
)


@dataclass(frozen=True)
class Selected:
    """A network's tensors under its own names (a library's as `body.…` and `head.…`), and what was done, in sentences.

    A library's `head.weight`, or only `head.bias`, is missing where the file has none that fits.
    """

    tensors: dict[str, Any]
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class _Candidate:
    label: str
    names: Mapping[str, Any]  # without wrappers
    prefix: str
    left_out: tuple[str, ...]
    sentences: list[str]


def select_network(found: list[StateDict], network: str, choice: str = "") -> Selected:
    """The network of this name at the place of the user's `choice`, or at the plainest place.

    Raises NoWeights where the file holds none, Refused where it is not told which of several is meant.
    """
    candidates = _candidates(found, _OURS if network == "resnet26" else _LIBRARY)
    if not candidates:
        raise NoWeights(_without(found, network))
    chosen = _chosen(candidates, choice)
    if network != "resnet26" and (sentence := _of_other_size(chosen, network)):
        raise NoWeights(sentence)
    start = len(chosen.prefix)
    inside = {name[start:]: t for name, t in chosen.names.items() if name.startswith(chosen.prefix)}
    beside = [name for name in inside if COUNTERS.fullmatch(name)]
    sentences = [_which(chosen, candidates)] if len(candidates) > 1 else []
    sentences += chosen.sentences
    if chosen.prefix not in ("", "body."):  # `body.` and `head.` are our own names
        sentences.append(f"prefix {shown(chosen.prefix)} of {some_of(len(inside), len(chosen.names))} names taken off")
    head: dict[str, str] = {}
    if network != "resnet26":
        head = _head(chosen, inside)
        beside += [name for name in inside if _BESIDE.fullmatch(name.split(".")[0]) and name not in beside]
        sentences += _about_head(chosen, head)
    # From here on names of ours -> those of the file without wrappers.
    kept = {name: chosen.prefix + name for name in inside if name not in set(beside)}
    if network != "resnet26":
        kept = {f"body.{name}": theirs for name, theirs in kept.items()} | head
    elsewhere = tuple(other.prefix for other in candidates if other.names is chosen.names and other is not chosen)
    used = set(kept.values())
    left = [name for name in chosen.names if name not in used and not name.startswith(elsewhere)]
    if left := left + list(chosen.left_out):
        some = ", ".join(map(shown, left[:3])) + (", ..." if len(left) > 3 else "")
        sentences.append(f"left out, as no part of the network: {some} ({len(left)} in all)")
    readable({name: chosen.names[name] for name in kept.values()})
    return Selected({name: chosen.names[theirs] for name, theirs in kept.items()}, tuple(sentences))


def _candidates(found: list[StateDict], anchor: re.Pattern) -> list[_Candidate]:
    made = []
    for each in found:
        names, sentences = unwrapped(each.tensors)
        if anchor is _LIBRARY and any(map(_OURS.fullmatch, names)):
            continue  # the reference's names hold the library's
        for prefix in dict.fromkeys(match[1] for match in map(anchor.fullmatch, names) if match):
            label = ".".join(part for part in (each.place, prefix.removesuffix(".")) if part)
            made.append(_Candidate(label, names, prefix, each.left_out, sentences))
    return made


def _chosen(candidates: list[_Candidate], choice: str) -> _Candidate:
    labels = [candidate.label for candidate in candidates]
    named = [label for label in labels if label == choice] or [
        label for label in labels if f".{choice}." in f".{label}." or not choice
    ]
    if not named:
        raise Refused(f"has no network at {shown(choice)}: choose of {_listed(labels)}.")
    best = plainest(named)
    if len(best) > 1:
        raise Refused(f"has several networks: choose one of {_listed(best)}, spelled as BACKBONE=FILE:{best[0][:80]}")
    return next(candidate for candidate in candidates if candidate.label == best[0])


def _which(chosen: _Candidate, candidates: list[_Candidate]) -> str:
    others = [candidate.label for candidate in candidates if candidate is not chosen]
    return f"{shown(chosen.label)} is taken; BACKBONE=FILE:NAME takes another ({_listed(others)})"


def _without(found: list[StateDict], network: str) -> str:
    """The rest of the sentence on a file that does not hold the network."""
    names = [name for each in found for name in unwrapped(each.tensors)[0]]
    first = ", ".join(map(shown, names[:3])) + (", ..." if len(names) > 3 else "")
    place = "" if len(found) == 1 and not found[0].place else f" under {_listed([each.place for each in found])}"
    if network == "resnet26" and (match := next(filter(None, map(_LIBRARY.fullmatch, names)), None)):
        blocks, kind = _size(names, match[1])
        if kind:
            return f"has the names of a torchvision or timm ResNet: add SET=network=torchvision/{kind} or timm/{kind}."
        return f"is a ResNet of {blocks} blocks: the networks here are resnet26, {', '.join(NAMES)}."
    if network != "resnet26" and any(map(_OURS.fullmatch, names)):
        return f"has the names of a decathlon ResNet-26, not of {network}: leave SET=network= out."
    hint = "for a torchvision or timm ResNet add SET=network=torchvision/resnet18 or the like"
    if network != "resnet26":
        hint = f"give weights of {network}, or name another network by SET=network="
    return f"has none of the names known here{place} (first: {first}): {hint}."


def _size(names: Iterable[str], prefix: str) -> tuple[str, str]:
    """(blocks of each stage, such as 2-2-2-2; resnet18 or resnet50 where it is that, else "")."""
    start = len(prefix)
    inside = {name[start:].replace(".conv.weight", ".weight") for name in names if name.startswith(prefix)}
    each = [sum(bool(re.fullmatch(rf"layer{n}\.\d+\.conv1\.weight", name)) for name in inside) for n in (1, 2, 3, 4)]
    deep = "layer1.0.conv3.weight" in inside
    kinds = {(2, 2, 2, 2, False): "resnet18", (3, 4, 6, 3, True): "resnet50"}
    return "-".join(map(str, each)), kinds.get((*each, deep), "")


def _of_other_size(chosen: _Candidate, network: str) -> str:
    """Why it is no network of this name, where another is told by the number of its blocks; "" where none is."""
    blocks, kind = _size(chosen.names, chosen.prefix)
    if kind and kind in network:
        return ""
    if kind:
        library = network.partition("/")[0]
        return f"holds a {kind}, not a {network}: name it by SET=network={library}/{kind}."
    return f"holds a ResNet of {blocks} blocks a stage, not a {network}: the networks here are {', '.join(NAMES)}."


# --- a library's head -------------------------------------------------------------------------------------------


def _shape(tensor: Any) -> tuple[int, ...]:
    return tensor.size if type(tensor) is Described else tuple(getattr(tensor, "shape", ()))


def _head(chosen: _Candidate, inside: Mapping[str, Any]) -> dict[str, str]:
    """`head.weight` and maybe `head.bias` -> their names in the file: a linear layer on the body's features."""
    last = (inside.get(f"layer4.1.conv{n}.weight") for n in (3, 2))
    features = next((_shape(tensor)[0] for tensor in last if len(_shape(tensor)) == 4), None)
    base = chosen.prefix
    while True:
        for name in _HEADS:
            weight = chosen.names.get(f"{base}{name}.weight")
            shape = _shape(weight)
            if type(weight) is Unreadable:
                return {"head.weight": f"{base}{name}.weight"}  # and it is refused
            if len(shape) == 2 and features in (None, shape[1]) and shape[0]:
                bias = _shape(chosen.names.get(f"{base}{name}.bias")) == shape[:1]
                return {f"head.{part}": f"{base}{name}.{part}" for part in ("weight", *("bias",) * bias)}
        if not base:
            return {}
        base = base[: base[:-1].rfind(".") + 1]  # beside the backbone, where that is a part of a larger module


def _about_head(chosen: _Candidate, head: Mapping[str, str]) -> list[str]:
    if not head:
        return []  # said by who puts another in its place
    name = head["head.weight"].removesuffix(".weight")
    usual = name == f"{chosen.prefix}fc" or (name, chosen.prefix) == ("head", "body.")
    return ([] if usual else [f"{shown(name)} is its head"]) + (
        [] if "head.bias" in head else [f"{shown(name)} has no bias, which is taken as 0"]
    )


def _listed(labels: list[str]) -> str:
    return ", ".join(map(shown, labels[:8])) + (", ..." if len(labels) > 8 else "")


def shown(name: str) -> str:
    """A name from a file as it can stand in a sentence: printable, and not too long."""
    return f"`{printable(name)[:80]}`"
