"""A backbone that the user gives with BACKBONE=: read, renamed to our names, and kept beside the others."""

import dataclasses
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from visual_decathlon.benchmark.backbones.build import build, find_invalid_weights, load_strict
from visual_decathlon.benchmark.config.identity import digest, network_digest
from visual_decathlon.benchmark.config.profiles import Profile, fitting
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.datasets.text import printable

if TYPE_CHECKING:
    from torch import Tensor

    from visual_decathlon.benchmark.backbones.selection import Selected

SUFFIXES = (".safetensors", ".pt", ".pth", ".t7", ".ckpt", ".bin", ".tar")  # in a folder, damaged ones are refused


@dataclass(frozen=True)
class UserBackbone:
    """`weight_hashes`: structure -> hash of the weights; `profile`: the profile with what the file says of itself."""

    name: str
    weight_hashes: dict[str, str]
    profile: Profile
    mean_std: tuple[tuple[float, ...], tuple[float, ...]] | None  # mean and std of its training images
    headless: bool = False  # some file has no head: rows of zeros are in its place
    notes: tuple[str, ...] = ()  # what was chosen, taken off and left out


def read_user_backbone(path: Path, profile: Profile, settings: tuple[str, ...], cache: Path) -> UserBackbone:
    """Read a file, or a folder with a plain network and one with series adapters in it.

    `FILE:NAME` chooses one of a file's state dicts. The width and image size come from the file where SET= does not
    name them. Raises InputError where nothing usable is there, or two files of one structure are.
    """
    path, choice = _chosen(path)
    if not path.exists():
        raise InputError(f"BACKBONE={path} does not exist; give a .safetensors file or a folder of them")
    from visual_decathlon.benchmark.training import pretrain  # torch from here on

    contents: dict[str, str] = {}
    adapted = colours = None
    headless, sentences = False, []
    for file, selected, about in _read(path, profile, choice, sentences):
        sentences += [f"BACKBONE={file.name}: {sentence}" for sentence in selected.sentences]
        tensors, structure, width, lacks = _ours(selected.tensors, profile, file)
        if structure in contents:
            raise InputError(f"BACKBONE={path} holds two {structure} networks; keep one, or give the file itself")
        here = _adapted(profile, settings, _said(about, width, profile, file), file)
        if contents and here != adapted:
            raise InputError(f"BACKBONE={path}: its files differ in width or image size; give files of one network")
        adapted = here
        colours = _colours(about, file) or colours
        network = build(adapted, structure, len(tensors["head.weight"]))
        if fault := load_strict(network, tensors):
            raise InputError(
                f"BACKBONE={file} {fault}; give weights of that network, or name theirs by SET=network= and SET=width="
            )
        if fault := find_invalid_weights(network):
            raise InputError(f"BACKBONE={file} {fault}; get the file again")
        contents[structure] = network_digest(network.state_dict())
        target = cache / "backbones" / f"{digest(structure=structure, file=contents[structure])}.safetensors"
        says = {"structure": structure, "file": printable(file.name), "hash": target.stem, "network": adapted.network}
        says |= {"width": str(adapted.width), "image_size": str(adapted.crop)} | ({"head": "none"} if lacks else {})
        pretrain.write_safetensors(target, network.state_dict(), says)
        if lacks:
            headless = True
            sentences.append(f"BACKBONE={file.name}: no head on the features; a domain's own needs none, lwf does")
    name = f"{path.name}:{choice}" if choice else path.name
    return UserBackbone(printable(name), contents, adapted, colours, headless, tuple(map(printable, sentences)))


def _chosen(path: Path) -> tuple[Path, str]:
    """FILE and NAME of FILE:NAME; a path that is there is one, whatever colons it has."""
    text = str(path)
    if not path.exists():
        for at in (at for at in range(len(text) - 1, 0, -1) if text[at] == ":"):
            if text[at + 1 :] and Path(text[:at]).exists():
                return Path(text[:at]), text[at + 1 :]
    return path, ""


def _read(path: Path, profile: Profile, choice: str, sentences: list[str]) -> "Iterator[tuple[Path, Selected, dict]]":
    """The network in each file; what else a folder holds (an optimiser's state) is left out, with a sentence.

    Raises InputError where no file holds the network.
    """
    from visual_decathlon.benchmark.backbones.state_dicts import WithoutNetwork
    from visual_decathlon.benchmark.backbones.weights import is_weights, read_network

    if not path.is_dir():
        yield path, *read_network(path, profile.network, choice)
        return
    files = [p for p in sorted(path.iterdir()) if p.is_file() and (p.suffix in SUFFIXES or is_weights(p))]
    none = (
        None if files else InputError(f"BACKBONE={path} holds no file of weights ({', '.join(SUFFIXES)}, or another)")
    )
    some = False
    for file in files:
        try:
            read = read_network(file, profile.network, choice)
        except InputError as error:
            if file.suffix in SUFFIXES and not isinstance(error, WithoutNetwork):
                raise  # it is meant, and damaged
            none = none or error
            sentences.append(f"BACKBONE={path.name}: {file.name} is left out, as it holds no {profile.network}")
        else:
            some = True
            yield file, *read
    if not some:
        raise none


def _adapted(profile: Profile, settings: tuple[str, ...], about: dict, file: Path) -> Profile:
    """The profile with what the file says of itself, where SET= does not say it."""
    said = {k: v for k, v in about.items() if k not in {setting.partition("=")[0] for setting in settings}}
    try:
        return fitting(dataclasses.replace(profile, **said))
    except InputError as error:
        words = " ".join(f"{name}={value:g}" for name, value in said.items())
        raise InputError(f"BACKBONE={file} says {words}: {error}") from None


def _ours(tensors: dict, profile: Profile, file: Path) -> tuple[dict, str, float | None, bool]:
    """(tensors under our names, structure, width or None, whether zeros had to stand in for a head).

    `tensors` are under our own names, or those of the reference.
    """
    from visual_decathlon.benchmark.backbones import reference_names

    if profile.network != "resnet26":
        tensors, lacks = _with_head(tensors, "head", _features(tensors))
        if "head.weight" in tensors and "head.bias" not in tensors:  # as was said
            tensors |= {"head.bias": tensors["head.weight"].new_zeros(len(tensors["head.weight"]))}
        return _checked(tensors, file), "series" if any(".mix." in name for name in tensors) else "plain", None, lacks
    theirs = any(name.startswith("pre_layers_conv.") for name in tensors)
    head, last = ("linears.0", "end_bns.0.0.weight") if theirs else ("head", "body.norm.weight")
    tensors, lacks = _with_head(tensors, head, tensors.get(last))
    mode = reference_names.mode(tensors, file)
    if mode == "parallel":
        raise InputError(
            f"BACKBONE={file} has parallel adapters in it; give a plain network or one with series adapters"
        )
    width = reference_names.width(tensors, file)
    ours = reference_names.from_reference(tensors, path=file) if theirs else tensors
    return _checked(ours, file), "series" if mode == "series" else "plain", width, lacks


def _checked(tensors: dict, file: Path) -> dict:
    head = tensors.get("head.weight")
    if head is None or head.ndim != 2 or not head.numel():
        raise InputError(f"BACKBONE={file} has no head.weight of classes x features; give a whole network")
    return tensors


def _features(tensors: dict) -> "Tensor | None":
    """The last convolution of a library's ResNet, which has a channel for each feature."""
    places = (f"body.layer4.1.conv{n}.{inner}weight" for n in (3, 2) for inner in ("", "conv."))
    return next((tensors[name] for name in places if name in tensors), None)


def _with_head(tensors: dict, head: str, last: "Tensor | None") -> tuple[dict, bool]:
    """(tensors with a head of one class, all zeros, where there is none, and whether there was none).

    `last` has as many rows as the body has features.
    """
    if last is None or not last.ndim or any(name.startswith(head.split(".")[0]) for name in tensors):
        return tensors, False
    made = {f"{head}.weight": last.new_zeros(1, len(last)), f"{head}.bias": last.new_zeros(1)}
    return tensors | made, True


def _said(about: dict[str, str], width: float | None, profile: Profile, file: Path) -> dict:
    said = {} if width is None else {"width": width}
    if "image_size" in about:
        size = re.match(r"\d{1,4}(?!\d)", about["image_size"])
        if not size or int(size.group()) < 8:
            raise InputError(
                f"BACKBONE={file}: its metadata say image_size={about['image_size'][:40]!r}; "
                "it must be a number of pixels from 8 to 9999"
            )
        crop = int(size.group())
        shorter = crop * 9 // 8  # 64 of 72 as the paper's, 32 of 36
        said |= {"crop": crop, "shorter": shorter}
        if profile.whole:
            said["whole"] = shorter // 8 * 8
    return said


def _colours(about: dict[str, str], file: Path) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    if not about.keys() & {"mean", "std"}:
        return None
    try:
        mean, std = (tuple(map(float, json.loads(about[key]))) for key in ("mean", "std"))
        if len(mean) == len(std) == 3 and all(map(math.isfinite, mean + std)) and min(std) > 0:
            return mean, std
    except (LookupError, ValueError, TypeError, OverflowError, RecursionError):
        pass  # the sentence below is for these too
    said = " ".join(f"{key}={about.get(key, '')[:40]!r}" for key in ("mean", "std"))
    raise InputError(f"BACKBONE={file}: its metadata say {said}; give three numbers each, those of std above 0")
