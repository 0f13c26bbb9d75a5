"""DTL: a sum of low-rank maps of what frozen blocks read, added behind the later blocks."""

import threading
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from visual_decathlon.methods.layers.layout import Layout, joined
from visual_decathlon.methods.layers.lst import averaged
from visual_decathlon.methods.layers.network import Network

SHARPNESS = 100.0  # of the swish, as released


class _Running(threading.local):
    """What the current pass of a thread has summed in the stage that it is in."""

    read: Tensor | None = None  # D x of the block that runs
    total: Tensor | None = None  # the sum over the blocks of the stage before it
    mix: nn.Module | None = None  # the stage's


_RUNNING = _Running()


class SideMap(nn.Module):
    """U D x of the input x of one block: D a 1x1 convolution to `rank` channels, U one to the block's, from zero.

    The stage's sum starts at its `first` block and ends at its `last`; behind a block that `adds` it is added. `layout`
    is that of the block's maps.
    """

    def __init__(
        self, cin: int, cout: int, rank: int, first: bool, last: bool, adds: bool, kernel: int, layout: Layout
    ):
        super().__init__()
        self.layout = layout
        self.down = nn.Conv2d(cin, rank, 1, bias=False)
        self.up = nn.Conv2d(rank, cout, 1, bias=False)
        # One depthwise convolution for the whole stage; it is stored with the first block.
        mixes = kernel and first
        self.mix = nn.Conv2d(cout, cout, kernel, padding=kernel // 2, groups=cout, bias=False) if mixes else None
        self.first, self.last, self.adds = first, last, adds
        nn.init.kaiming_uniform_(self.down.weight, a=5**0.5)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor, *args, **kwargs) -> Tensor:
        """The identity: a block that calls each of its children calls its map too, which the hooks compute."""
        return x

    def read(self, block: nn.Module, args: tuple) -> None:
        """Before the block, with its input, into which the block may write."""
        _RUNNING.read = self.down(self.layout.positions(joined(args)))

    def add(self, block: nn.Module, args: tuple, y: Tensor) -> Tensor:
        """Behind the block: y -> y, or y + mix(swish(the sum up to this block))."""
        total = self.up(averaged(_RUNNING.read, self.layout.positions(y).shape[2:]))
        if self.first:
            _RUNNING.mix = self.mix
        else:
            total = _RUNNING.total + total
        if self.adds:
            added = self.layout.of_positions(F.silu(SHARPNESS * total) / SHARPNESS, y)
            y = y + (added if _RUNNING.mix is None else self.layout.changed(added, _RUNNING.mix))
        _RUNNING.read, _RUNNING.total = None, total
        if self.last:  # no tensor outlives a pass that ends
            _RUNNING.total = _RUNNING.mix = None
        return y


def put_side_maps(network: Network, maps: Sequence[tuple[str, SideMap]]) -> None:
    """Gives each of these blocks (module paths) its map, and the hooks that read before and add behind the block."""
    for path, side in maps:
        block = network.get_submodule(path)
        block.add_module("side", side.to(network.head.weight))
        block.register_forward_pre_hook(side.read)
        block.register_forward_hook(side.add)
