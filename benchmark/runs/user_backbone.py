"""Reads a backbone that the user gives with BACKBONE=, renames its tensors and copies it to the cache."""

import dataclasses
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from visual_decathlon.benchmark.config.backbone_names import OWN, RESNETS
from visual_decathlon.benchmark.config.identity import digest, network_digest
from visual_decathlon.benchmark.config.profiles import Profile, checked, current_name
from visual_decathlon.datasets.errors import InputError, option
from visual_decathlon.datasets.text import printable

if TYPE_CHECKING:
    from torch import Tensor

    from visual_decathlon.benchmark.backbones.selection import Selected
    from visual_decathlon.methods.layers.network import Network

SUFFIXES = (".safetensors", ".pt", ".pth", ".t7", ".ckpt", ".bin", ".tar")  # in a folder, damaged ones are refused

MeanStd = tuple[tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True)
class UserBackbone:
    """A backbone out of the user's file or folder, checked and copied to the cache.

    `weight_hashes`: structure -> hash of the weights. `profile`: the asked profile with the width and image size that
    the file states.
    """

    name: str
    weight_hashes: dict[str, str]
    profile: Profile
    mean_std: MeanStd | None  # of its training images
    headless: bool = False  # a file has no head; a head of zeros was added
    notes: tuple[str, ...] = ()  # sentences on what was chosen, removed and left out


class _Converted(NamedTuple):
    """The tensors of one file under the suite's names."""

    tensors: dict
    structure: str  # plain or series
    width: float | None  # None where one width exists
    headless: bool  # the file has no head; the one here is all zeros


def read_user_backbone(path: Path, profile: Profile, settings: tuple[str, ...], cache: Path) -> UserBackbone:
    """Read a file, or a folder with a plain network and one with series adapters in it.

    `FILE:NAME` selects one of a file's state dicts. The width and image size come from the file where SET= does not
    name them; where the file states no image size, mean or std, those of a library's configuration are used. Raises
    InputError where no usable network is in it, or two networks of one structure.
    """
    path, choice = _split_choice(path)
    if not path.exists():
        raise InputError(f"{path} does not exist; give a .safetensors file or a folder of them", field="backbone")
    weight_hashes: dict[str, str] = {}
    fitted = mean_std = None
    headless, notes = False, []
    for file, selected, metadata in _read_files(path, profile, choice, notes):
        notes += [f"{option('backbone')}{file.name}: {note}" for note in selected.sentences]
        converted = _convert(selected.tensors, profile, file)
        structure = converted.structure
        if structure in weight_hashes:
            raise InputError(
                f"{path} holds two {structure} networks; keep one, or give the file itself", field="backbone"
            )
        sizes = _stated_sizes(metadata, converted.width, profile, file) or _library_sizes(profile, settings, notes)
        here = _fit_profile(profile, settings, sizes, file)
        if weight_hashes and here != fitted:
            raise InputError(
                f"{path}: its files differ in width or image size; give files of one network", field="backbone"
            )
        fitted = here
        mean_std = _stated_mean_std(metadata, file) or mean_std
        weight_hashes[structure] = _copy_to_cache(converted, fitted, file, cache)
        if converted.headless:
            headless = True
            notes.append(
                f"{option('backbone')}{file.name}: no head on the features; a domain's own needs none, lwf does"
            )
    mean_std = mean_std or _library_mean_std(profile.network, notes)
    notes = tuple(map(printable, dict.fromkeys(notes)))
    name = f"{path.name}:{choice}" if choice else path.name
    return UserBackbone(printable(name), weight_hashes, fitted, mean_std, headless, notes)


def _split_choice(path: Path) -> tuple[Path, str]:
    """(FILE, NAME) of FILE:NAME; a path that exists is a path, even if it has colons."""
    text = str(path)
    if not path.exists():
        for at in (at for at in range(len(text) - 1, 0, -1) if text[at] == ":"):
            if text[at + 1 :] and Path(text[:at]).exists():
                return Path(text[:at]), text[at + 1 :]
    return path, ""


def _read_files(path: Path, profile: Profile, choice: str, notes: list[str]) -> "Iterator[tuple[Path, Selected, dict]]":
    """Yield (file, tensors of its network, metadata) for each file with a network.

    Other files of a folder, such as an optimizer's state, are left out with a note. Raises InputError where no file
    holds the network.
    """
    from visual_decathlon.benchmark.backbones.state_dicts import WithoutNetwork
    from visual_decathlon.benchmark.backbones.weights import is_weights, read_network

    if not path.is_dir():
        yield path, *read_network(path, profile.network, choice)
        return
    files = [p for p in sorted(path.iterdir()) if p.is_file() and (p.suffix in SUFFIXES or is_weights(p))]
    first_error = (
        None
        if files
        else InputError(f"{path} holds no file of weights ({', '.join(SUFFIXES)}, or another)", field="backbone")
    )
    any_network = False
    for file in files:
        try:
            read = read_network(file, profile.network, choice)
        except InputError as error:
            if file.suffix in SUFFIXES and not isinstance(error, WithoutNetwork):
                raise  # a damaged file of weights
            first_error = first_error or error
            notes.append(f"{option('backbone')}{path.name}: {file.name} is left out, as it holds no {profile.network}")
        else:
            any_network = True
            yield file, *read
    if not any_network:
        raise first_error


def _convert(tensors: dict, profile: Profile, file: Path) -> _Converted:
    """Rename tensors, which have the suite's own names or those of the reference code, and add a head if none is there.

    Raises InputError where they are not those of a plain network or one with series adapters.
    """
    if profile.network != OWN:
        return _convert_library(tensors, profile.network, file)
    from visual_decathlon.benchmark.backbones import reference_names

    is_reference = any(name.startswith("pre_layers_conv.") for name in tensors)
    head, last = ("linears.0", "end_bns.0.0.weight") if is_reference else ("head", "body.norm.weight")
    tensors, headless = _with_head(tensors, head, tensors.get(last))
    mode = reference_names.mode(tensors, file)
    if mode == "parallel":
        raise InputError(
            f"{file} has parallel adapters in it; give a plain network or one with series adapters", field="backbone"
        )
    width = reference_names.width(tensors, file)
    renamed = reference_names.from_reference(tensors, path=file) if is_reference else tensors
    _check_head(renamed, file)
    return _Converted(renamed, "series" if mode == "series" else "plain", width, headless)


def _convert_library(tensors: dict, network: str, file: Path) -> _Converted:
    """The same for a network of a library (torchvision, timm), whose tensors have the suite's names already."""
    from visual_decathlon.benchmark.backbones.library_weights import library_names

    headless = not any(name.startswith("head.") for name in tensors)
    if headless:
        tensors = tensors | _zero_head("head", library_names(network).dim)
    if "head.weight" in tensors and "head.bias" not in tensors:  # `read_network` has a note on it
        tensors |= {"head.bias": tensors["head.weight"].new_zeros(len(tensors["head.weight"]))}
    _check_head(tensors, file)
    structure = "series" if any(".mix." in name for name in tensors) else "plain"
    return _Converted(tensors, structure, None, headless)


def _check_head(tensors: dict, file: Path) -> None:
    head = tensors.get("head.weight")
    if head is None or head.ndim != 2 or not head.numel():
        raise InputError(f"{file} has no head.weight of classes x features; give a whole network", field="backbone")


def _with_head(tensors: dict, head: str, last: "Tensor | None") -> tuple[dict, bool]:
    """Add a head of one class, all zeros, if there is none; also returns whether there was none.

    `last` is a tensor with as many rows as the body has features.
    """
    if last is None or not last.ndim or any(name.startswith(head.split(".")[0]) for name in tensors):
        return tensors, False
    return tensors | _zero_head(head, len(last)), True


def _zero_head(head: str, features: int) -> "dict[str, Tensor]":
    import torch

    return {f"{head}.weight": torch.zeros(1, features), f"{head}.bias": torch.zeros(1)}


def _fit_profile(profile: Profile, settings: tuple[str, ...], stated: dict, file: Path) -> Profile:
    """The profile with the values that the file states, except those that SET= names."""
    given = {current_name(setting.partition("=")[0]) for setting in settings}
    changes = {k: v for k, v in stated.items() if k not in given}
    try:
        return checked(dataclasses.replace(profile, **changes))
    except InputError as error:
        words = " ".join(f"{name}={value:g}" for name, value in changes.items())
        raise InputError(f"{file} says {words}: {error}", field="backbone") from None


def _stated_sizes(metadata: dict[str, str], width: float | None, profile: Profile, file: Path) -> dict:
    """Fields of the profile from a file: its width, and the image size that its metadata state."""
    sizes = {} if width is None else {"width": width}
    if "image_size" in metadata:
        size = re.match(r"\d{1,4}(?!\d)", metadata["image_size"])
        if not size or int(size.group()) < 8:
            raise InputError(
                f"{file}: its metadata say image_size={metadata['image_size'][:40]!r}; "
                "it must be a number of pixels from 8 to 9999",
                field="backbone",
            )
        crop = int(size.group())
        resize = crop * 9 // 8  # 64 of 72 as the paper's, 32 of 36
        sizes |= {"crop": crop, "resize": resize}
        if profile.uncropped_size:
            sizes["uncropped_size"] = resize // 8 * 8
    return sizes


def _library_sizes(profile: Profile, settings: tuple[str, ...], notes: list[str]) -> dict:
    """Image sizes for a library's network whose file states none: its own where it does not take the profile's."""
    if profile.network in (OWN, *RESNETS) or "crop" in {current_name(each.partition("=")[0]) for each in settings}:
        return {}
    from visual_decathlon.benchmark.backbones.library_config import native, takes

    size = native(profile.network)
    setting = f"{option('settings')}crop="
    if size == profile.crop or not takes(profile.network, size):
        return {}
    if takes(profile.network, profile.crop):
        notes.append(
            f"{profile.network} is made for images of {size} pixels and gets {profile.crop} here; {setting} changes it"
        )
        return {}
    notes.append(f"images are shown at {size} pixels, as {profile.network} does not take {profile.crop}")
    sizes = {"crop": size, "resize": size * 9 // 8}
    return sizes | ({"uncropped_size": size} if profile.uncropped_size else {})


def _stated_mean_std(metadata: dict[str, str], file: Path) -> MeanStd | None:
    """Mean and std of the training images, where the metadata state them; JSON lists of three numbers."""
    if not metadata.keys() & {"mean", "std"}:
        return None
    try:
        mean, std = (tuple(map(float, json.loads(metadata[key]))) for key in ("mean", "std"))
        if len(mean) == len(std) == 3 and all(map(math.isfinite, mean + std)) and min(std) > 0:
            return mean, std
    except (LookupError, ValueError, TypeError, OverflowError, RecursionError):
        pass  # the error below covers these too
    values = " ".join(f"{key}={metadata.get(key, '')[:40]!r}" for key in ("mean", "std"))
    raise InputError(
        f"{file}: its metadata say {values}; give three numbers each, those of std above 0", field="backbone"
    )


def _library_mean_std(network: str, notes: list[str]) -> MeanStd | None:
    """Mean and std of a library's configuration for a network whose file states none."""
    if network in (OWN, *RESNETS):  # domains keep their own, as in all records with these
        return None
    from visual_decathlon.benchmark.backbones.library_config import normalisation

    own = normalisation(network)
    if own is None:
        return None
    mean, std = (", ".join(f"{value:g}" for value in values) for values in own)
    notes.append(
        f"mean ({mean}) and std ({std}) are those of {network.partition('/')[0]}'s configuration of the network; "
        "a safetensors file may state others in its metadata"
    )
    return own.mean, own.std


def _copy_to_cache(converted: _Converted, profile: Profile, file: Path, cache: Path) -> str:
    """Check the tensors in a network of the profile and write that to the cache; returns the hash of its weights."""
    from visual_decathlon.benchmark.backbones.safetensors_file import write_safetensors

    network = _loaded(converted, profile, file)
    content = network_digest(network.state_dict())
    target = cache / "backbones" / f"{digest(structure=converted.structure, file=content)}.safetensors"
    metadata = {
        "structure": converted.structure,
        "file": printable(file.name),
        "hash": target.stem,
        "network": profile.network,
        "width": str(profile.width),
        "image_size": str(profile.crop),
    }
    write_safetensors(target, network.state_dict(), metadata | ({"head": "none"} if converted.headless else {}))
    return content


def _loaded(converted: _Converted, profile: Profile, file: Path) -> "Network":
    from visual_decathlon.benchmark.backbones.build import build, find_invalid_weights, load_strict  # loads torch

    network = build(profile, converted.structure, len(converted.tensors["head.weight"]))
    if problem := load_strict(network, converted.tensors):
        raise InputError(f"{file} {problem}; {_remedy(converted.tensors, profile.network)}", field="backbone")
    if problem := find_invalid_weights(network):
        raise InputError(f"{file} {problem}; get the file again", field="backbone")
    return network


def _remedy(tensors: dict, network: str) -> str:
    """What to do with a file of another network, which is named where it is well known."""
    setting = f"{option('settings')}network="
    if network == OWN:
        return f"give weights of that network, or name theirs by {setting} and {option('settings')}width="
    from visual_decathlon.benchmark.backbones.other_networks import known_network

    known = known_network({name: tuple(tensor.shape) for name, tensor in tensors.items()})
    if known and known != network:
        return f"give weights of {network}, or name theirs by {setting}{known}"
    return f"give weights of {network}, or name theirs by {setting}"
