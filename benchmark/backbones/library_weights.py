"""The tensors of a file for a library's network: its names for them, their prefixes, and the library's own conversions.

A linear layer is (cout, cin) in the libraries' files and (cout, cin, 1, 1) here. Position embeddings of another grid,
tables of relative positions of another window and the names that a network's authors use are converted by timm's own
function for that network, as `timm.create_model(pretrained=True)` does; torchvision has one for its ViT.
"""

import inspect
import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from visual_decathlon.benchmark.backbones.library import (
    body_without_values,
    head_paths,
    library_network,
    without_values,
)
from visual_decathlon.benchmark.backbones.state_dicts import left_out
from visual_decathlon.benchmark.config.backbone_names import split_name
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.layers.series import put_series

OTHER_PARTS = re.compile(  # entries next to a backbone that are no part of it: heads, projections, queues, colours
    r"(fc|heads?|classifiers?|linear|last_linear|aux\w*|proj\w*|predict\w*|queue\w*|prototypes?|logit_scale|normali[sz]e"
    r"|mean|std|loss\w*|criterion|\w+_head|head_\w+)\d*",
    re.I,
)
_UNUSED = re.compile(r"mask_token|(.*\.)?(relative_position_index|attn_mask|num_batches_tracked)")
_COUNTER = "num_batches_tracked"  # missing in checkpoints of 2018
_LEAST = 1 / 3  # of a network's names, so that a file's prefix is its place
_OLDER = (  # names of torchvision before 0.12 and 0.3, which it replaces itself: MLPBlock, densenet._load_state_dict
    (re.compile(r"(encoder_layer_\d+\.mlp)\.linear_1\."), r"\1.0."),
    (re.compile(r"(encoder_layer_\d+\.mlp)\.linear_2\."), r"\1.3."),
    (re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\."), r"\1\2."),
)

Shape = tuple[int, ...]


@dataclass(frozen=True)
class LibraryNames:
    """The names of a body's tensors with their shapes here, its features, and its classifiers' paths in the library."""

    shapes: Mapping[str, Shape]
    dim: int
    heads: tuple[str, ...]


@cache
def library_names(network: str, structure: str = "plain") -> LibraryNames:
    """The names of `torchvision/...` or `timm/...`. Raises InputError for no such network."""
    built = without_values(partial(library_network, network, 1))
    if structure == "series":
        put_series(built)
    shapes = {name: tuple(tensor.shape) for name, tensor in built.body.state_dict().items()}
    return LibraryNames(shapes, built.shapes.dim, head_paths(network))


def current_names(names: Mapping[str, Any]) -> dict[str, Any]:
    """The same with names of an older torchvision replaced by those of today."""
    result = {}
    for name, tensor in names.items():
        for older, newer in _OLDER:
            name = older.sub(newer, name)
        result[name] = tensor
    return result


def places(names: Iterable[str], known: Iterable[str]) -> list[str]:
    """The prefixes under which a third of the known names or more are, and half as many as under the best one.

    Counters are not counted, because files of 2018 have none.
    """
    known = {name for name in known if not name.endswith(_COUNTER)}
    longest = max(name.count(".") for name in known) + 1
    counts: Counter[str] = Counter()
    for name in names:
        parts = name.rsplit(".", longest)
        for k in range(1, len(parts) + 1):
            end = ".".join(parts[-k:])
            if end in known:
                counts[name[: len(name) - len(end)]] += 1
    least = max(_LEAST * len(known), max(counts.values(), default=0) / 2)
    return [prefix for prefix, count in counts.items() if count >= least]


# --- the library's own conversions --------------------------------------------------------------------------------


def foreign_place(shapes: Mapping[str, Shape], network: str) -> str | None:
    """The prefix of a network whose authors' names timm's own function replaces; None where there is none.

    The shapes alone decide: the function runs on tensors without values.
    """
    convert = timm_conversion(network)
    if convert is None:
        return None
    known = library_names(network).shapes
    prefix = ""
    while True:
        inside = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
        with torch.device("meta"):
            renamed = _tried(lambda given: convert({n: torch.empty(s) for n, s in given.items()}), inside)
        if renamed is not None and sum(name in known for name in renamed) >= len(known) / 2:
            return prefix
        firsts = Counter(name.partition(".")[0] for name in inside if "." in name)
        part, count = max(firsts.items(), key=lambda pair: pair[1], default=("", 0))
        if not part or 2 * count < len(inside):
            return None
        prefix += f"{part}."


def timm_conversion(network: str) -> Callable[[dict], dict] | None:
    """timm's own function of checkpoints for this network, bound to the network; None where timm has none."""
    library, model, _ = split_name(network)
    if library != "timm":
        return None
    import timm

    module = sys.modules[timm.model_entrypoint(model).__module__]
    convert = getattr(module, "checkpoint_filter_fn", None)
    if convert is None:
        return None
    options = {"adapt_layer_scale": True} if "adapt_layer_scale" in inspect.signature(convert).parameters else {}
    return partial(convert, model=body_without_values(network), **options)


def _tried(convert: Callable[[dict], dict], tensors: Mapping[str, Any]) -> dict[str, Tensor] | None:
    """What the library's function returns; None where it fails, as it may on tensors of another network."""
    try:
        with torch.no_grad():
            converted = dict(convert(dict(tensors)))
    except Exception:
        return None
    tensors_only = all(type(name) is str and isinstance(tensor, Tensor) for name, tensor in converted.items())
    return converted if tensors_only else None


def _resized(network: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Position embeddings at the network's grid, where timm has no function for this network, and torchvision's ViT."""
    library, body = split_name(network)[0], body_without_values(network)
    tensors = dict(tensors)
    if library == "torchvision":
        if (name := "encoder.pos_embedding") in tensors and hasattr(body, "patch_size"):
            from torchvision.models.vision_transformer import interpolate_embeddings

            tensors[name] = tensors[name].float()
            return dict(interpolate_embeddings(body.image_size, body.patch_size, tensors))
        return tensors
    from timm.layers import resample_abs_pos_embed

    grid = getattr(getattr(body, "patch_embed", None), "grid_size", None)
    wanted = getattr(body, "pos_embed", None)
    given = tensors.get("pos_embed")
    if grid and wanted is not None and given is not None and wanted.ndim == given.ndim == 3:
        tokens = wanted.shape[1] - math.prod(grid)
        tensors["pos_embed"] = resample_abs_pos_embed(given, list(grid), num_prefix_tokens=tokens)
    return tensors


# --- to the names and shapes here -----------------------------------------------------------------------------------


def fitted(network: str, tensors: Mapping[str, Tensor], foreign: bool) -> tuple[dict[str, Tensor], list[str]]:
    """A file's tensors at the shapes of this network, as far as they are its own, and sentences about the changes.

    Names begin with `body.` and `head.`; with `foreign` they are those of the network's authors. Tensors that do not
    fit are returned as they are.
    """
    sentences = []
    if foreign:
        tensors, sentences = _with_own_names(network, tensors)
    structure = "series" if any(".mix." in name for name in tensors) else "plain"
    try:
        wanted = library_names(network, structure).shapes
    except InputError:  # this network has no series adapters
        wanted = library_names(network).shapes
    head = {name: t for name, t in tensors.items() if not name.startswith("body.")}
    body = {name[5:]: _as(t, wanted.get(name[5:])) for name, t in tensors.items() if name.startswith("body.")}
    if _misfits(body, wanted) and structure == "plain":
        for convert in (timm_conversion(network), partial(_resized, network)):
            converted = _tried(convert, body) if convert is not None else None
            converted = {name: _as(t, wanted.get(name)) for name, t in (converted or {}).items()}
            if converted and _misfits(converted, wanted) < _misfits(body, wanted):
                sentences += _changes(network, body, converted, wanted)
                body = converted
    if unused := [name for name in body if name not in wanted and _UNUSED.fullmatch(name)]:
        sentences.append(left_out(unused))
        body = {name: tensor for name, tensor in body.items() if name not in unused}
    if "head.weight" in head:
        weight = head["head.weight"]
        head["head.weight"] = _as(weight, tuple(weight.shape[:2]))
    return {f"body.{name}": tensor for name, tensor in body.items()} | head, sentences


def _as(tensor: Tensor, wanted: Shape | None) -> Tensor:
    """The tensor, a linear layer's as (cout, cin, 1, 1) or a 1x1 convolution's as (cout, cin) where that is wanted."""
    shape = tuple(tensor.shape)
    if wanted is not None and shape != wanted and fits(shape, wanted):
        return tensor.reshape(wanted)
    return tensor


def fits(shape: Shape, wanted: Shape) -> bool:
    """Whether the shapes are equal, a linear layer's (cout, cin) being that of a 1x1 convolution."""
    return wanted in (shape, (*shape, 1, 1)) or (*wanted, 1, 1) == shape


def _misfits(body: Mapping[str, Tensor], wanted: Mapping[str, Shape]) -> int:
    """How many names are missing, of no use, or of another shape."""
    missing = sum(name not in body and not name.endswith(_COUNTER) for name in wanted)
    return missing + sum(tuple(tensor.shape) != wanted.get(name) for name, tensor in body.items())


def _with_own_names(network: str, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors under `body.` and `head.`, from the names of the network's authors."""
    names = library_names(network)
    converted = _tried(timm_conversion(network), dict(tensors)) or {}
    own = {f"body.{name}": tensor for name, tensor in converted.items() if name in names.shapes}
    rest = {name: tensor for name, tensor in converted.items() if name not in names.shapes}
    for path in names.heads:
        weight = rest.get(f"{path}.weight")
        if weight is not None and fits(tuple(weight.shape), (len(weight), names.dim)):
            own |= {f"head.{part}": rest.pop(n) for part in ("weight", "bias") if (n := f"{path}.{part}") in rest}
            break
    sentences = [f"names of the network's authors are replaced by timm's own function for {network}"]
    if dropped := [name for name in rest if OTHER_PARTS.fullmatch(name.partition(".")[0])]:
        sentences.append(left_out(dropped))
    own |= {f"body.{name}": tensor for name, tensor in rest.items() if name not in dropped}
    return own, sentences


# --- sentences ------------------------------------------------------------------------------------------------------


def _changes(network: str, before: Mapping[str, Tensor], after: Mapping[str, Tensor], wanted: Mapping) -> list[str]:
    """What a library's function resized, and what it renamed and left out."""
    resized = [n for n in wanted if n in before and n in after and after[n].shape != before[n].shape]
    body = body_without_values(network)
    each: dict[str, list[str]] = {}
    for name in resized:
        each.setdefault(_sizes(name, tuple(before[name].shape), tuple(after[name].shape), body), []).append(name)
    library = split_name(network)[0]
    sentences = [
        f"`{names[0]}`{f' and {len(names) - 1} more are' if len(names) > 1 else ' is'} resized {sizes} by {library}'s "
        "own function"
        for sizes, names in each.items()
    ]
    kept = {id(tensor) for tensor in after.values()}
    gone = [name for name, tensor in before.items() if name not in after]
    if renamed := [name for name in gone if id(before[name]) in kept]:
        sentences.append(f"`{renamed[0]}` and {len(renamed) - 1} more names are replaced by those of {network}")
    if dropped := [n for n in gone if n not in renamed and n not in wanted]:
        sentences.append(left_out(dropped))
    return sentences


def _sizes(name: str, before: Shape, after: Shape, body: nn.Module) -> str:
    """From which grid, window or patch to which, in words."""
    if name.endswith("relative_position_bias_table"):
        old, new = ((math.isqrt(shape[0]) + 1) // 2 for shape in (before, after))  # (2 w - 1)² offsets of a window
        return f"from windows of {old}x{old} to {new}x{new}"
    if len(before) == 4:
        return f"from {before[2]}x{before[3]} to {after[2]}x{after[3]}"
    if len(before) == len(after) == 3:
        new = _grid(body, after[1])
        old = math.isqrt(before[1] - (after[1] - math.prod(new)))
        if old**2 == before[1] - (after[1] - math.prod(new)):
            return f"from a grid of {old}x{old} to {new[0]}x{new[1]} positions"
    return f"from {before} to {after}"


def _grid(body: nn.Module, tokens: int) -> tuple[int, int]:
    """Rows and columns of the positions among so many tokens."""
    grid = getattr(getattr(body, "patch_embed", None), "grid_size", None)
    return tuple(grid) if grid else (math.isqrt(tokens),) * 2
