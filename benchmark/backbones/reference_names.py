"""Translates parameter names between the residual adapters' released code (RA) and our decathlon ResNet-26.

RA keeps all tasks of a network in one module, its batch norms, adapters and heads in lists by task T; ours holds one
task. With P the path of a convolution in RA (`pre_layers_conv`, `layer1.0.conv1`, `layer1.0.conv2.1`) and U the path of
our unit (`body.stem`, `body.stages.0.0.unit1`, `body.stages.0.0.unit2`):

                 bn                        series                          parallel
    3x3          P.conv          U.conv    P.conv               U.conv.conv  P.conv                  U.conv.conv
    inner norm                             P.bns.T.0.conv.0     U.conv.norm
    1x1                                    P.bns.T.0.conv.1     U.conv.mix   P.parallel_conv.T.conv  U.conv.side
    norm         P.bns.T         U.bn      P.bns.T.1            U.bn         P.bns.T                 U.bn
    last norm    end_bns.T.0     body.norm   in all modes
    head         linears.T       head        in all modes

RA: https://github.com/srebuffi/residual_adapters, models.py
"""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from visual_decathlon.datasets.errors import InputError

if TYPE_CHECKING:
    import torch

Mode = Literal["bn", "series", "parallel"]

_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
_PLACES = [("pre_layers_conv", "body.stem")] + [
    (f"layer{stage + 1}.{block}.{conv}", f"body.stages.{stage}.{block}.{unit}")
    for stage in range(3)
    for block in range(4)
    for conv, unit in (("conv1", "unit1"), ("conv2.1", "unit2"))
]
_STEM_WIDTH = 32  # output channels of the stem at width factor 1


def _names(mode: Mode, task: int) -> dict[str, str]:
    """RA's name -> our name, for every tensor of one task's network."""
    pairs: dict[str, str] = {}

    def norm(reference: str, own: str) -> None:
        pairs.update({f"{reference}.{part}": f"{own}.{part}" for part in _NORM})

    for place, unit in _PLACES:
        pairs[f"{place}.conv.weight"] = f"{unit}.conv.weight" if mode == "bn" else f"{unit}.conv.conv.weight"
        if mode == "series":
            norm(f"{place}.bns.{task}.0.conv.0", f"{unit}.conv.norm")
            pairs[f"{place}.bns.{task}.0.conv.1.weight"] = f"{unit}.conv.mix.weight"
            norm(f"{place}.bns.{task}.1", f"{unit}.bn")
        else:
            if mode == "parallel":
                pairs[f"{place}.parallel_conv.{task}.conv.weight"] = f"{unit}.conv.side.weight"
            norm(f"{place}.bns.{task}", f"{unit}.bn")
    norm(f"end_bns.{task}.0", "body.norm")
    pairs |= {f"linears.{task}.{part}": f"head.{part}" for part in ("weight", "bias")}
    return pairs


def mode(names: Collection[str], path: Path | str = "the weights") -> Mode:
    """Detects the adapters of a network by its names, RA's or ours; `path` names the file in an error."""
    if {"pre_layers_conv.parallel_conv.0.conv.weight", "body.stem.conv.side.weight"} & set(names):
        return "parallel"
    if {"pre_layers_conv.bns.0.0.conv.1.weight", "body.stem.conv.mix.weight"} & set(names):
        return "series"
    if {"pre_layers_conv.bns.0.weight", "body.stem.conv.weight"} & set(names):
        return "bn"
    raise InputError(f"{path}: these are not the names of a decathlon ResNet-26: give weights of that network.")


def tasks(names: Collection[str], path: Path | str = "the weights") -> int:
    """Number of tasks, that is of heads, under RA's names."""
    heads = sum(name.startswith("linears.") and name.endswith(".weight") for name in names)
    if not heads or any(f"linears.{task}.weight" not in names for task in range(heads)):
        raise InputError(f"{path}: the heads linears.0, linears.1, … have gaps or are missing: give the whole network.")
    return heads


def from_reference(
    state: "dict[str, torch.Tensor]", task: int = 0, path: Path | str = "the weights"
) -> "dict[str, torch.Tensor]":
    """One task's network under our names, from RA's network of all tasks; the tensors are not copied.

    `num_batches_tracked` is 0 where PyTorch before 0.4 left it out. Raises InputError, which names `path`, for a name
    that is missing and for one that no task has.
    """
    import torch

    kind, count = mode(state, path), tasks(state, path)
    if not 0 <= task < count:
        raise InputError(f"{path}: has no task {task}: its {count} tasks count from 0.")
    _complete(state, (_names(kind, each) for each in range(count)), path)
    return {
        own: state[reference] if reference in state else torch.zeros((), dtype=torch.int64)
        for reference, own in _names(kind, task).items()
    }


def to_reference(state: "dict[str, torch.Tensor]", path: Path | str = "the weights") -> "dict[str, torch.Tensor]":
    """One task's network under RA's names, from ours; the tensors are not copied. Raises as `from_reference`."""
    pairs = {own: reference for reference, own in _names(mode(state, path), 0).items()}
    _complete(state, [pairs], path)
    return {reference: state[own] for own, reference in pairs.items() if own in state}


def _complete(state: Collection[str], networks: Iterable[Collection[str]], path: Path | str) -> None:
    """Raises InputError unless `state` has every name of every task's network, and no other."""
    known: set[str] = set()
    for wanted in networks:
        missing = [name for name in wanted if name not in state and not name.endswith("num_batches_tracked")]
        if missing:
            raise InputError(f"{path}: {_some(missing)} missing: give the whole network.")
        known.update(wanted)
    unknown = [name for name in state if name not in known]
    if unknown:
        raise InputError(f"{path}: {_some(unknown)} not part of a decathlon ResNet-26: take the extra tensors out.")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 1} more are" if len(names) > 1 else " is"
    return f"{names[0][:80]!a}{more}"


def width(state: "dict[str, torch.Tensor]", path: Path | str = "the weights") -> float:
    """The width factor: the stem's output channels / 32. Names are ours or RA's, with which every task is checked.

    Raises InputError where any tensor has another shape than a decathlon ResNet-26 of that width.
    """
    if "pre_layers_conv.conv.weight" in state:
        kind, networks = (
            mode(state, path),
            [(task, from_reference(state, task, path)) for task in range(tasks(state))],
        )
    else:
        to_reference(state, path)  # all names are there
        kind, networks = mode(state, path), [(0, state)]
    for task, network in networks:
        stem = network["body.stem.conv.weight" if kind == "bn" else "body.stem.conv.conv.weight"]
        channels = stem.shape[0] if stem.ndim == 4 else 0
        head = network["head.weight"]
        shapes = _shapes(kind, channels, head.shape[0] if head.ndim == 2 else 0)
        for name, tensor in network.items():
            if tuple(tensor.shape) != shapes[name]:
                fault = f"{name!r} of task {task} has shape {tuple(tensor.shape)} where {shapes[name]} is due"
                raise InputError(f"{path}: {fault}, with {channels} channels in the stem: give a decathlon ResNet-26.")
    return channels / _STEM_WIDTH


def _shapes(kind: Mode, channels: int, classes: int) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor under our names, for a stem of `channels` and a head of `classes`."""
    shapes: dict[str, tuple[int, ...]] = {}

    def norm(name: str, size: int) -> None:
        shapes.update({f"{name}.{part}": (size,) for part in _NORM})
        shapes[f"{name}.num_batches_tracked"] = ()

    before = 3
    for index, (_, unit) in enumerate(_PLACES):
        after = channels if index == 0 else channels << (1 + (index - 1) // 8)  # a stage has eight units
        shapes[f"{unit}.conv.weight" if kind == "bn" else f"{unit}.conv.conv.weight"] = (after, before, 3, 3)
        if kind == "series":
            norm(f"{unit}.conv.norm", after)
            shapes[f"{unit}.conv.mix.weight"] = (after, after, 1, 1)
        elif kind == "parallel":
            shapes[f"{unit}.conv.side.weight"] = (after, before, 1, 1)
        norm(f"{unit}.bn", after)
        before = after
    norm("body.norm", before)
    return shapes | {"head.weight": (classes, before), "head.bias": (classes,)}
