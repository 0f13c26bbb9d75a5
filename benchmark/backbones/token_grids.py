"""Where the tokens that a transformer's modules give lie in the image, read from the sizes of one pass."""

from collections.abc import Iterable, Mapping
from math import prod

import torch
from torch import nn

from visual_decathlon.methods.layers.token_pool import extra_tokens
from visual_decathlon.methods.shapes import GridShape

Calls = Mapping[str, tuple[torch.Size, int]]
"""By module path, the size of what its first call gives, and the number of that call in the pass."""


def token_grids(body: nn.Module, calls: Calls, blocks: Iterable[str], layers: Iterable[str]) -> tuple[GridShape, ...]:
    """The grids of the blocks, and of the linear layers in them, of which the sides are known.

    Tokens (1, L, C) lie on the map of the last convolution before them, or of their block, whose pixels are L, or L
    less the prefix. What a layer gives for windows of the image is on no grid.
    """
    prefixes = list(dict.fromkeys((extra_tokens(body)[0], 0)))
    maps = [(number, tuple(size[2:])) for name, (size, number) in calls.items() if _is_conv(body, name, size)]
    found: dict[str, GridShape] = {}
    for block in blocks:
        size, number = calls[block]
        inside = [layer for layer in layers if layer.startswith(f"{block}.")]
        sides = [shape for at, shape in sorted(maps, reverse=True) if at < number]
        if len(size) == 4:
            sides = [tuple(size[1:3]), tuple(size[2:4]), *sides]
        for name in (block, *inside):
            for prefix in prefixes:
                for shape in sides if name not in found else ():
                    if _lies_on(calls[name][0], shape, prefix):
                        found.setdefault(name, GridShape(f"body.{name}", *shape, prefix))
    return tuple(found.values())


def _is_conv(body: nn.Module, name: str, size: torch.Size) -> bool:
    return len(size) == 4 and isinstance(body.get_submodule(name), nn.Conv2d)


def _lies_on(size: torch.Size, sides: tuple[int, int], prefix: int) -> bool:
    """Whether (1, L, C) or (1, H, W, C) of this size are the tokens of a grid with these sides."""
    if len(size) == 4:
        return size[0] == 1 and tuple(size[1:3]) == sides and not prefix
    return len(size) == 3 and size[0] == 1 and size[1] == prefix + prod(sides)
