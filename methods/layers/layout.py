"""How the maps of a module lie in memory: (N, C, H, W), (N, H, W, C), or tokens (N, L, C) on a grid of patches."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from visual_decathlon.methods.layers.linear import as_map, as_tokens
from visual_decathlon.methods.shapes import BlockShape, GridShape, Shapes

Change = Callable[[Tensor], Tensor]


def joined(args: tuple) -> Tensor:
    """The map that a block reads: its first argument, or the maps of a list one behind the other along channels."""
    return args[0] if isinstance(args[0], Tensor) else torch.cat(list(args[0]), 1)


@dataclass(frozen=True)
class Layout:
    """Where the channels of a map are, the second axis or the last, and the grid of its tokens, where it is known."""

    last: bool = False
    grid: GridShape | None = None

    @classmethod
    def of_block(cls, shapes: Shapes, block: BlockShape) -> "Layout":
        """The layout of what a block gives, and reads."""
        return cls(block.tokens, shapes.grid(block.name))

    @classmethod
    def of_layer(cls, shapes: Shapes, path: str, layer: nn.Module) -> "Layout":
        """The layout of what a convolution, linear layer or norm gives."""
        return cls(getattr(layer, "linear", False), shapes.grid(path))

    def positions(self, x: Tensor) -> Tensor:
        """All positions, prefix tokens among them, as (N, C, H, W), or (N, C, L, 1) of tokens (N, L, C)."""
        if not self.last:
            return x
        return x.permute(0, 3, 1, 2) if x.ndim == 4 else as_map(x)

    def of_positions(self, y: Tensor, like: Tensor) -> Tensor:
        """The inverse of `positions`, as the layout has it for `like`."""
        if not self.last:
            return y
        return y.permute(0, 2, 3, 1) if like.ndim == 4 else as_tokens(y, like.shape[:-1])

    def patches(self, x: Tensor) -> Tensor:
        """The map (N, C, H, W) of the patches, without prefix tokens. Raises InputError for tokens of no grid."""
        if not self.last or x.ndim == 4:
            return self.positions(x)
        front = self.grid.prefix
        return x[:, front:].mT.unflatten(2, self.grid.sides(x.shape[1]))

    def changed(self, x: Tensor, change: Change, front: Change = lambda pixels: pixels) -> Tensor:
        """x with its map of patches (N, C, H, W) changed, and its prefix tokens by `front`, as maps of one pixel."""
        if not self.last or x.ndim == 4:
            return self.of_positions(change(self.positions(x)), x)
        patches = change(self.patches(x)).flatten(2).mT
        tokens = x[:, : self.grid.prefix]
        if not tokens.shape[1]:
            return patches
        pixels = front(tokens.flatten(0, 1)[:, :, None, None]).flatten(1)
        return torch.cat([pixels.unflatten(0, tokens.shape[:2]), patches], 1)
