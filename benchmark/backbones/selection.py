"""Selects one network from a file's state dicts, and gives its tensors the network's own names.

A network is recognised by a name that only its kind has, behind any prefix. A place in a file is written as keys and
prefixes joined by dots: `model_ema`, `state_dict.encoder_q`. Only the shapes of tensors are used, so the tensors of a
checkpoint are selected before any is read.
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
from visual_decathlon.benchmark.config.backbone_names import EXAMPLES as NAMES
from visual_decathlon.datasets.errors import option
from visual_decathlon.datasets.text import printable

_OURS = re.compile(r"((?:.*\.)?)(?:pre_layers_conv\..*|body\.(?:norm|stem\.bn|stem\.conv(?:\.conv)?)\.weight)")
_LIBRARY = re.compile(r"((?:.*\.)?)layer[1-4]\.\d+\.conv\d\.(?:conv\.)?weight")
_HEADS = ("fc", "head.fc", "head", "classifier", "linear", "last_linear", "heads.head")
_OTHER_PARTS = re.compile(  # entries next to a backbone that are no part of it: heads, projections, queues, colours
    r"(fc|heads?|classifiers?|linear|last_linear|aux\w*|proj\w*|predict\w*|queue\w*|prototypes?|logit_scale|normali[sz]e"
    r"|mean|std|loss\w*|criterion|\w+_head|head_\w+)\d*"
)


@dataclass(frozen=True)
class Selected:
    """A network's tensors under its own names (a library's as `body.…` and `head.…`), and sentences about the changes.

    A library's `head.weight`, or only its `head.bias`, is missing where no tensor in the file fits.
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


def select_network(state_dicts: list[StateDict], network: str, choice: str = "") -> Selected:
    """Selects the network of this name at the place of the user's `choice`, or at the plainest place.

    Raises NoWeights where the file holds none, Refused where several are possible and none is chosen.
    """
    candidates = _candidates(state_dicts, _OURS if network == "resnet26" else _LIBRARY)
    if not candidates:
        raise NoWeights(_without(state_dicts, network))
    chosen = _chosen(candidates, choice)
    if network != "resnet26" and (sentence := _of_other_size(chosen, network)):
        raise NoWeights(sentence)
    start = len(chosen.prefix)
    inside = {name[start:]: t for name, t in chosen.names.items() if name.startswith(chosen.prefix)}
    excluded = [name for name in inside if COUNTERS.fullmatch(name)]
    sentences = [_which(chosen, candidates)] if len(candidates) > 1 else []
    sentences += chosen.sentences
    if chosen.prefix not in ("", "body."):  # `body.` and `head.` are our own names
        sentences.append(f"prefix {shown(chosen.prefix)} of {some_of(len(inside), len(chosen.names))} names taken off")
    head: dict[str, str] = {}
    if network != "resnet26":
        head = _head(chosen, inside)
        excluded += [name for name in inside if _OTHER_PARTS.fullmatch(name.split(".")[0]) and name not in excluded]
        sentences += _about_head(chosen, head)
    # From here on: own names -> the file's names without wrappers.
    kept = {name: chosen.prefix + name for name in inside if name not in set(excluded)}
    if network != "resnet26":
        kept = {f"body.{name}": in_file for name, in_file in kept.items()} | head
    elsewhere = tuple(other.prefix for other in candidates if other.names is chosen.names and other is not chosen)
    used = set(kept.values())
    left = [name for name in chosen.names if name not in used and not name.startswith(elsewhere)]
    if left := left + list(chosen.left_out):
        some = ", ".join(map(shown, left[:3])) + (", ..." if len(left) > 3 else "")
        sentences.append(f"left out, as no part of the network: {some} ({len(left)} in all)")
    readable({name: chosen.names[name] for name in kept.values()})
    return Selected({name: chosen.names[in_file] for name, in_file in kept.items()}, tuple(sentences))


def _candidates(state_dicts: list[StateDict], anchor: re.Pattern) -> list[_Candidate]:
    candidates = []
    for each in state_dicts:
        names, sentences = unwrapped(each.tensors)
        if anchor is _LIBRARY and any(map(_OURS.fullmatch, names)):
            continue  # the reference's names contain the library's
        for prefix in dict.fromkeys(match[1] for match in map(anchor.fullmatch, names) if match):
            label = ".".join(part for part in (each.place, prefix.removesuffix(".")) if part)
            candidates.append(_Candidate(label, names, prefix, each.left_out, sentences))
    return candidates


def _chosen(candidates: list[_Candidate], choice: str) -> _Candidate:
    labels = [candidate.label for candidate in candidates]
    named = [label for label in labels if label == choice] or [
        label for label in labels if f".{choice}." in f".{label}." or not choice
    ]
    if not named:
        raise Refused(f"has no network at {shown(choice)}: choose of {_listed(labels)}.")
    best = plainest(named)
    if len(best) > 1:
        raise Refused(
            f"has several networks: choose one of {_listed(best)}, spelled as {option('backbone')}FILE:{best[0][:80]}"
        )
    return next(candidate for candidate in candidates if candidate.label == best[0])


def _which(chosen: _Candidate, candidates: list[_Candidate]) -> str:
    others = [candidate.label for candidate in candidates if candidate is not chosen]
    return f"{shown(chosen.label)} is taken; {option('backbone')}FILE:NAME takes another ({_listed(others)})"


def _without(state_dicts: list[StateDict], network: str) -> str:
    """The rest of the sentence on a file that does not hold the network."""
    names = [name for each in state_dicts for name in unwrapped(each.tensors)[0]]
    first = ", ".join(map(shown, names[:3])) + (", ..." if len(names) > 3 else "")
    places = [each.place for each in state_dicts]
    place = "" if places == [""] else f" under {_listed(places)}"
    if network == "resnet26" and (match := next(filter(None, map(_LIBRARY.fullmatch, names)), None)):
        blocks, kind = _size(names, match[1])
        if kind:
            add = f"{option('settings')}network=torchvision/{kind} or timm/{kind}"
            return f"has the names of a torchvision or timm ResNet: add {add}."
        return f"is a ResNet of {blocks} blocks: the networks here are resnet26, {', '.join(NAMES)}."
    if network != "resnet26" and any(map(_OURS.fullmatch, names)):
        return f"has the names of a decathlon ResNet-26, not of {network}: leave {option('settings')}network= out."
    hint = f"for a torchvision or timm ResNet add {option('settings')}network=torchvision/resnet18 or the like"
    if network != "resnet26":
        hint = f"give weights of {network}, or name another network by {option('settings')}network="
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
    """The fault of a network with another number of blocks than this name has; "" where there is none."""
    blocks, kind = _size(chosen.names, chosen.prefix)
    if kind and kind in network:
        return ""
    if kind:
        library = network.partition("/")[0]
        return f"holds a {kind}, not a {network}: name it by {option('settings')}network={library}/{kind}."
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
        base = base[: base[:-1].rfind(".") + 1]  # next to the backbone, where it is a part of a larger module


def _about_head(chosen: _Candidate, head: Mapping[str, str]) -> list[str]:
    if not head:
        return []  # the caller reports the new head that it adds
    name = head["head.weight"].removesuffix(".weight")
    usual = name == f"{chosen.prefix}fc" or (name, chosen.prefix) == ("head", "body.")
    return ([] if usual else [f"{shown(name)} is its head"]) + (
        [] if "head.bias" in head else [f"{shown(name)} has no bias, which is taken as 0"]
    )


def _listed(labels: list[str]) -> str:
    return ", ".join(map(shown, labels[:8])) + (", ..." if len(labels) > 8 else "")


def shown(name: str) -> str:
    """A name from a file for a sentence: in quotes, printable, not too long."""
    return f"`{printable(name)[:80]}`"
