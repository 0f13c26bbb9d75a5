"""A backbone that the user gives with BACKBONE=: read, renamed to our names, and kept beside the others."""

import dataclasses
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

from benchmark.identity import digest, network_digest
from benchmark.profiles import Profile, fitting
from datasets.errors import BadInput
from datasets.text import printable

SUFFIXES = (".safetensors", ".pt", ".pth", ".t7")


@dataclass(frozen=True)
class GivenBackbone:
    """`contents`: structure -> hash of the weights; `profile`: the profile with what the file says of itself."""

    name: str
    contents: dict[str, str]
    profile: Profile
    colours: tuple[tuple[float, ...], tuple[float, ...]] | None  # mean and std of its training images


def read_given(path: Path, profile: Profile, settings: tuple[str, ...], cache: Path) -> GivenBackbone:
    """Read a file, or a folder with a plain network and one with series adapters in it.

    The width and image size come from the file where SET= does not name them. Raises BadInput where
    nothing usable is there, or two files of one structure are.
    """
    if not path.exists():
        raise BadInput(f"BACKBONE={path} does not exist; give a .safetensors file or a folder of them")
    files = sorted(p for p in path.iterdir() if p.suffix in SUFFIXES) if path.is_dir() else [path]
    if not files:
        raise BadInput(f"BACKBONE={path} holds no {', '.join(SUFFIXES)} file")
    from benchmark import networks  # torch from here on
    from benchmark.backbones.weights import read_weights

    set_by_hand = {setting.partition("=")[0] for setting in settings}
    contents: dict[str, str] = {}
    adapted = colours = None
    for file in files:
        tensors, about = read_weights(file)
        tensors, structure, found = _ours(tensors, profile, file)
        head = tensors.get("head.weight")
        if head is None or head.ndim != 2 or not head.numel():
            raise BadInput(f"BACKBONE={file} has no head.weight of classes x features; give a whole network")
        if structure in contents:
            raise BadInput(f"BACKBONE={path} holds two {structure} networks; keep one")
        said = {k: v for k, v in _said(about, found, profile, file).items() if k not in set_by_hand}
        try:
            here = fitting(dataclasses.replace(profile, **said))
        except BadInput as error:
            words = " ".join(f"{name}={value:g}" for name, value in said.items())
            raise BadInput(f"BACKBONE={file} says {words}: {error}") from None
        if contents and here != adapted:
            raise BadInput(f"BACKBONE={path}: its files differ in width or image size; give files of one network")
        adapted = here
        colours = _colours(about, file) or colours
        network = networks.build(adapted, structure, len(head))
        if fault := networks.fit(network, tensors):
            raise BadInput(
                f"BACKBONE={file} {fault}; give weights of that network, or name theirs by SET=network= and SET=width="
            )
        if fault := networks.damage(network):
            raise BadInput(f"BACKBONE={file} {fault}; get the file again")
        content = network_digest(network.state_dict())
        target = cache / "backbones" / f"{digest(structure=structure, file=content)}.safetensors"
        says = {"structure": structure, "file": printable(file.name), "hash": target.stem, "network": adapted.network}
        says |= {"width": str(adapted.width), "image_size": str(adapted.crop)}
        networks.write_safetensors(target, network.state_dict(), says)
        contents[structure] = content
    return GivenBackbone(printable(path.name), contents, adapted, colours)


def _ours(tensors: dict, profile: Profile, file: Path) -> tuple[dict, str, float | None]:
    """(tensors under our names, structure, width or None) of our own, the reference's or a library's names."""
    if any(name.startswith(("pre_layers_conv", "body.stem.")) for name in tensors):
        from benchmark.backbones import reference_names

        mode = reference_names.mode(tensors, file)
        if mode == "parallel":
            raise BadInput(
                f"BACKBONE={file} has parallel adapters in it; give a plain network or one with series adapters"
            )
        width = reference_names.width(tensors, file)
        theirs = "pre_layers_conv.conv.weight" in tensors
        ours = reference_names.from_reference(tensors, path=file) if theirs else tensors
        return ours, "series" if mode == "series" else "plain", width
    if profile.network != "resnet26" and "head.weight" in tensors:  # pretrained by this suite
        return tensors, "series" if any(".mix." in name for name in tensors) else "plain", None
    if profile.network != "resnet26":
        body = {f"body.{name}": t for name, t in tensors.items() if not name.startswith("fc.")}
        if lacking := {"fc.weight", "fc.bias"} - tensors.keys():
            raise BadInput(f"BACKBONE={file} has no {min(lacking)}; give the library's whole state dict")
        return body | {f"head.{n}": tensors[f"fc.{n}"] for n in ("weight", "bias")}, "plain", None
    raise BadInput(
        f"BACKBONE={file} has none of the names known here (first: {next(iter(tensors), 'none at all')}); "
        "for a torchvision or timm ResNet add SET=network=torchvision/resnet18 or the like"
    )


def _said(about: dict[str, str], width: float | None, profile: Profile, file: Path) -> dict:
    said = {} if width is None else {"width": width}
    if "image_size" in about:
        size = re.match(r"\d{1,4}(?!\d)", about["image_size"])
        if not size or int(size.group()) < 8:
            raise BadInput(
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
    raise BadInput(f"BACKBONE={file}: its metadata say {said}; give three numbers each, those of std above 0")
