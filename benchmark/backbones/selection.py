"""Selects one network from a file's state dicts, and gives its tensors the network's own names.

The decathlon ResNet-26 is recognised by a name that only it has, a library's network by the names of its own tensors,
behind any prefix. A place in a file is written as keys and prefixes joined by dots: `model_ema`,
`state_dict.encoder_q`. Only names and shapes of tensors are used, so the tensors of a checkpoint are selected before
any is read.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from visual_decathlon.benchmark.backbones.pickle_names import Described, Refused, Unreadable
from visual_decathlon.benchmark.backbones.state_dicts import (
    COUNTERS,
    NoWeights,
    StateDict,
    left_out,
    plainest,
    readable,
    shown,
    some_of,
    unwrapped,
)
from visual_decathlon.benchmark.config.backbone_names import OWN
from visual_decathlon.datasets.errors import option

if TYPE_CHECKING:
    from visual_decathlon.benchmark.backbones.library_weights import LibraryNames

_OURS = re.compile(r"((?:.*\.)?)(?:pre_layers_conv\..*|body\.(?:norm|stem\.bn|stem\.conv(?:\.conv)?)\.weight)")
_RESNET = re.compile(r"((?:.*\.)?)layer[1-4]\.\d+\.conv\d\.(?:conv\.)?weight")
_HEADS = ("fc", "head.fc", "head", "classifier", "linear", "last_linear", "heads.head")


@dataclass(frozen=True)
class Selected:
    """A network's tensors under its own names (a library's as `body.…` and `head.…`), and sentences about the changes.

    A library's `head.weight`, or only its `head.bias`, is missing where no tensor in the file fits. With `foreign` the
    names are those of a library network's authors, which `library_weights.fitted` replaces when the tensors are read.
    """

    tensors: dict[str, Any]
    sentences: tuple[str, ...]
    foreign: bool = False


@dataclass(frozen=True)
class _Candidate:
    label: str
    names: Mapping[str, Any]  # without wrappers
    prefix: str
    left_out: tuple[str, ...]
    sentences: list[str]
    foreign: bool = False


def select_network(state_dicts: list[StateDict], network: str, choice: str = "") -> Selected:
    """Selects the network of this name at the place of the user's `choice`, or at the plainest place.

    Raises NoWeights where the file holds none, Refused where several are possible and none is chosen.
    """
    library = _library(state_dicts, network)
    candidates = _candidates(state_dicts) if library is None else _library_candidates(state_dicts, network, library)
    if not candidates or (library is not None and _of_another_network(candidates, library)):
        raise NoWeights(_without(state_dicts, network, library.shapes if library else ()))
    chosen = _chosen(candidates, choice)
    if library is not None and (sentence := _of_other_size(chosen.names, chosen.prefix, network, library.shapes)):
        raise NoWeights(sentence)
    start = len(chosen.prefix)
    inside = {name[start:]: t for name, t in chosen.names.items() if name.startswith(chosen.prefix)}
    excluded = {name for name in inside if COUNTERS.fullmatch(name)}
    sentences = [_which(chosen, candidates)] if len(candidates) > 1 else []
    sentences += chosen.sentences
    if chosen.prefix not in ("", "body."):  # `body.` and `head.` are our own names
        sentences.append(f"prefix {shown(chosen.prefix)} of {some_of(len(inside), len(chosen.names))} names taken off")
    head: dict[str, str] = {}
    if library is not None and not chosen.foreign:
        head = _head(chosen, inside, library)
        excluded |= _other_parts(inside, library)
        sentences += _about_head(chosen, head, library)
    # From here on: own names -> the file's names without wrappers.
    kept = {name: chosen.prefix + name for name in inside if name not in excluded}
    if library is not None and not chosen.foreign:
        kept = {f"body.{name}": in_file for name, in_file in kept.items()} | head
    elsewhere = tuple(other.prefix for other in candidates if other.names is chosen.names and other is not chosen)
    used = set(kept.values())
    left = [name for name in chosen.names if name not in used and not name.startswith(elsewhere)]
    if left := left + list(chosen.left_out):
        sentences.append(left_out(left))
    readable({name: chosen.names[name] for name in kept.values()})
    tensors = {name: chosen.names[in_file] for name, in_file in kept.items()}
    return Selected(tensors, tuple(sentences), chosen.foreign)


def _candidates(state_dicts: list[StateDict]) -> list[_Candidate]:
    """The places of decathlon ResNet-26s."""
    candidates = []
    for each in state_dicts:
        names, sentences = unwrapped(each.tensors)
        for prefix in dict.fromkeys(match[1] for match in map(_OURS.fullmatch, names) if match):
            candidates.append(_Candidate(_label(each.place, prefix), names, prefix, each.left_out, sentences))
    return candidates


def _library(state_dicts: list[StateDict], network: str) -> "LibraryNames | None":
    """The names of a library's network, with series adapters where the file has some; None for the ResNet-26."""
    if network == OWN:
        return None
    from visual_decathlon.benchmark.backbones.library_weights import library_names

    series = any(".mix." in name for each in state_dicts for name in each.tensors)
    return library_names(network, "series" if series else "plain")


def _library_candidates(state_dicts: list[StateDict], network: str, library: "LibraryNames") -> list[_Candidate]:
    """The places of a library's network: by its own names, else by those of its authors that the library replaces."""
    from visual_decathlon.benchmark.backbones.library_weights import current_names, foreign_place, places

    read = []
    for each in state_dicts:
        names, sentences = unwrapped(each.tensors)
        read.append((each, current_names(names), sentences))
    candidates = [
        _Candidate(_label(each.place, prefix), names, prefix, each.left_out, sentences)
        for each, names, sentences in read
        for prefix in places(names, library.shapes)
    ]
    if candidates:
        return candidates
    for each, names, sentences in read:
        prefix = foreign_place({name: _shape(tensor) for name, tensor in names.items()}, network)
        if prefix is not None:
            label = _label(each.place, prefix)
            candidates.append(_Candidate(label, names, prefix, each.left_out, sentences, foreign=True))
    return candidates


def _of_another_network(candidates: list[_Candidate], library: "LibraryNames") -> bool:
    """Whether they are parts of another network, as the stages of a Swin are, which have the names of a ViT's blocks.

    None of them has one of the names with which the network begins.
    """
    first = list(library.shapes)[:3]
    return len(candidates) > 1 and not any(each.prefix + name in each.names for each in candidates for name in first)


def _label(place: str, prefix: str) -> str:
    return ".".join(part for part in (place, prefix.removesuffix(".")) if part)


def _chosen(candidates: list[_Candidate], choice: str) -> _Candidate:
    labels = [candidate.label for candidate in candidates]
    named = [label for label in labels if label == choice] or [
        label for label in labels if f".{choice}." in f".{label}." or not choice
    ]
    if not named:
        raise Refused(f"has no network at {shown(choice)}: choose one of {_listed(labels)}.")
    best = plainest(named)
    if len(best) > 1:
        raise Refused(
            f"has several networks: choose one of {_listed(best)}, spelled as {option('backbone')}FILE:{best[0][:80]}"
        )
    return next(candidate for candidate in candidates if candidate.label == best[0])


def _which(chosen: _Candidate, candidates: list[_Candidate]) -> str:
    others = [candidate.label for candidate in candidates if candidate is not chosen]
    return f"{shown(chosen.label)} is taken; {option('backbone')}FILE:NAME takes another ({_listed(others)})"


def _without(state_dicts: list[StateDict], network: str, own: Collection[str]) -> str:
    """The rest of the sentence on a file that does not hold the network, whose names are `own`."""
    from visual_decathlon.benchmark.backbones.other_networks import known_network

    tensors = {name: tensor for each in state_dicts for name, tensor in unwrapped(each.tensors)[0].items()}
    names = list(tensors)
    first = ", ".join(map(shown, names[:3])) + (", ..." if len(names) > 3 else "")
    places = [each.place for each in state_dicts]
    place = "" if places == [""] else f" under {_listed(places)}"
    resnet = next(filter(None, map(_RESNET.fullmatch, names)), None)
    blocks, kind = _size(names, resnet[1]) if resnet else ("", "")
    setting = f"{option('settings')}network="
    if network == OWN and kind:
        return f"has the names of a torchvision or timm ResNet: add {setting}torchvision/{kind} or timm/{kind}."
    if network != OWN and resnet and (sentence := _of_other_size(names, resnet[1], network, own)):
        return sentence
    if known := known_network({name: _shape(tensor) for name, tensor in tensors.items()}):
        return f"holds a {known}, not a {network}: add {setting}{known}."
    if resnet and network == OWN:
        return f"is a ResNet of {blocks} blocks a stage: name it by {setting}, as in {setting}torchvision/resnet101."
    if network != OWN and any(map(_OURS.fullmatch, names)):
        return f"has the names of a decathlon ResNet-26, not of {network}: leave {setting} out."
    hint = f"for a network of torchvision or timm add {setting}, as in {setting}torchvision/resnet18"
    if network != OWN:
        hint = f"give weights of {network}, or name another network by {setting}"
    return f"has none of the names known here{place} (first: {first}): {hint}."


_RESNETS = {
    ("2-2-2-2", False): "resnet18",
    ("3-4-6-3", False): "resnet34",
    ("3-4-6-3", True): "resnet50",
    ("3-4-23-3", True): "resnet101",
    ("3-8-36-3", True): "resnet152",
}


def _size(names: Iterable[str], prefix: str) -> tuple[str, str]:
    """(blocks of each stage, such as 2-2-2-2; the ResNet that has so many, else "")."""
    start = len(prefix)
    inside = {name[start:].replace(".conv.weight", ".weight") for name in names if name.startswith(prefix)}
    each = [sum(bool(re.fullmatch(rf"layer{n}\.\d+\.conv1\.weight", name)) for name in inside) for n in (1, 2, 3, 4)]
    blocks = "-".join(map(str, each))
    return blocks, _RESNETS.get((blocks, "layer1.0.conv3.weight" in inside), "")


def _of_other_size(names: Iterable[str], prefix: str, network: str, own: Collection[str]) -> str:
    """The fault of a ResNet with other blocks than the network, whose names are `own`; "" where there is none."""
    blocks, kind = here = _size(names, prefix)
    if here == _size(own, "") or set(blocks) <= {"0", "-"}:
        return ""
    setting = f"{option('settings')}network="
    if kind:
        return f"holds a {kind}, not a {network}: name it by {setting}{network.partition('/')[0]}/{kind}."
    return f"holds a ResNet of {blocks} blocks a stage, not a {network}: name the network of these weights by {setting}"


# --- a library's head -------------------------------------------------------------------------------------------


def _shape(tensor: Any) -> tuple[int, ...]:
    return tensor.size if type(tensor) is Described else tuple(getattr(tensor, "shape", ()))


def _other_parts(inside: Mapping[str, Any], library: "LibraryNames") -> set[str]:
    """Entries next to the body that are no part of it."""
    from visual_decathlon.benchmark.backbones.library_weights import OTHER_PARTS

    return {n for n in inside if n not in library.shapes and OTHER_PARTS.fullmatch(n.partition(".")[0])}


def _head(chosen: _Candidate, inside: Mapping[str, Any], library: "LibraryNames") -> dict[str, str]:
    """`head.weight` and maybe `head.bias` -> their names in the file: a linear layer on the body's features.

    It may be stored as a 1x1 convolution. Not a classifier behind further layers, which the body does not have.
    """
    last = [name for name, shape in library.shapes.items() if shape and shape[0] == library.dim and name in inside]
    features = _shape(inside[last[-1]])[:1] if last else (library.dim,)
    no_heads = {f"{path}.weight" for path in library.heads if _behind_others(path, inside, library)}
    no_heads = {chosen.prefix + name for name in (*no_heads, *library.shapes)}
    base = chosen.prefix
    while True:
        for name in dict.fromkeys((*library.heads, *_HEADS)):
            if f"{base}{name}.weight" in no_heads:
                continue
            weight = chosen.names.get(f"{base}{name}.weight")
            shape = _shape(weight)
            if type(weight) is Unreadable:
                return {"head.weight": f"{base}{name}.weight"}  # and it is refused
            if shape[1:] in (features, (*features, 1, 1)) and shape[0]:
                bias = _shape(chosen.names.get(f"{base}{name}.bias")) == shape[:1]
                return {f"head.{part}": f"{base}{name}.{part}" for part in ("weight", *("bias",) * bias)}
        if not base:
            return {}
        base = base[: base[:-1].rfind(".") + 1]  # next to the backbone, where it is a part of a larger module


def _behind_others(path: str, inside: Mapping[str, Any], library: "LibraryNames") -> bool:
    """Whether the file has layers next to this classifier that the body does not have, such as a norm before it."""
    parent = path.rpartition(".")[0]
    own = {f"{path}.weight", f"{path}.bias"}
    return bool(parent) and any(
        name.startswith(f"{parent}.") and name not in library.shapes and name not in own for name in inside
    )


def _about_head(chosen: _Candidate, head: Mapping[str, str], library: "LibraryNames") -> list[str]:
    if not head:
        return []  # the caller reports the new head that it adds
    name = head["head.weight"].removesuffix(".weight")
    usual = {*(chosen.prefix + path for path in ("fc", *library.heads))}
    mine = name in usual or (name, chosen.prefix) == ("head", "body.")
    return ([] if mine else [f"{shown(name)} is its head"]) + (
        [] if "head.bias" in head else [f"{shown(name)} has no bias, which is taken as 0"]
    )


def _listed(labels: list[str]) -> str:
    return ", ".join(map(shown, labels[:8])) + (", ..." if len(labels) > 8 else "")
