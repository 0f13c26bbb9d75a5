"""Ladder side-tuning: a thin side network that reads the maps of a frozen body, without gradients through the body."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visual_decathlon.methods.layers.layout import Layout, joined
from visual_decathlon.methods.layers.network import Network, move_sites

TEMPERATURE = 0.1
GATE = 0.2  # the gates' start, μ = 0.88; twelve steps of the paper's 0, μ = 0.5, leave the first ones no gradient


def gated(gate: Tensor, side: Tensor, lateral: Tensor) -> Tensor:
    """μ side + (1 - μ) lateral, μ = sigmoid(gate / 0.1) of a scalar gate."""
    mu = torch.sigmoid(gate / TEMPERATURE)
    return mu * side + (1 - mu) * lateral


def averaged(s: Tensor, size: torch.Size) -> Tensor:
    """(N, C, h, w) -> (N, C, *size): means over windows of as many pixels as a side shrinks by."""
    if s.shape[2:] == size:
        return s
    pairs = list(zip(s.shape[2:], size, strict=True))
    steps = [-(-large // small) for large, small in pairs]
    if all(-(-large // step) == small for (large, small), step in zip(pairs, steps, strict=True)):
        return F.avg_pool2d(s, steps, ceil_mode=True)
    # A side of 7 that becomes 5, or of 15 that becomes 7, as by a convolution without padding: windows that overlap.
    steps = [max(1, large // small) for large, small in pairs]
    return F.avg_pool2d(
        s, [large - (small - 1) * step for (large, small), step in zip(pairs, steps, strict=True)], steps
    )


class _Reading(threading.local):
    """Maps that the current pass of a thread through a body has read so far; None outside of a Trunk."""

    maps: list[Tensor] | None = None


_READING = _Reading()


@dataclass(frozen=True)
class _Keep:
    """Hooks of a block that is read."""

    layout: Layout

    def input(self, block: nn.Module, args: tuple) -> None:
        if _READING.maps is not None:
            _READING.maps.append(self.layout.patches(joined(args)))

    def output(self, block: nn.Module, args: tuple, y: Tensor) -> None:
        if _READING.maps is not None:
            _READING.maps.append(self.layout.patches(y))


class Trunk(nn.Module):
    """(N, 3, H, W) -> the body's features (N, dim) and its maps, the first block's input and every block's output."""

    def __init__(self, body: nn.Module, blocks: Mapping[str, Layout]):
        super().__init__()
        self.body = body
        first = next(iter(blocks))
        body.get_submodule(first).register_forward_pre_hook(_Keep(blocks[first]).input)
        for path, layout in blocks.items():
            body.get_submodule(path).register_forward_hook(_Keep(layout).output)

    @torch.no_grad()
    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(N, 3, H, W) -> (N, dim) and a list of (N, C, h, w), none of which has a graph."""
        before, _READING.maps = _READING.maps, []
        try:
            return self.body(x), _READING.maps
        finally:
            _READING.maps = before


class SideBlock(nn.Module):
    """(N, cin, h, w) -> (N, cout, h', w'): conv3x3(relu(norm(s))) of the averaged s, plus s where its width stays."""

    def __init__(self, cin: int, cout: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(cin)
        self.conv = nn.Conv2d(cin, cout, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")

    def forward(self, s: Tensor, size: torch.Size) -> Tensor:
        """(N, cin, h, w) -> (N, cout, *size)."""
        s = averaged(s, size)
        y = self.conv(F.relu(self.norm(s), inplace=True))
        return y + s if y.shape[1] == s.shape[1] else y


class Ladder(nn.Module):
    """(N, 3, H, W) -> (N, dim): a frozen body's features plus those of a side network that reads its maps.

    `channels` are those of the maps, `widths` those of the side network.
    """

    trunk: Trunk  # set by `put_ladder`

    def __init__(self, channels: Sequence[int], widths: Sequence[int], dim: int):
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(c, w, 1, bias=False) for c, w in zip(channels, widths, strict=True))
        self.steps = nn.ModuleList(SideBlock(*pair) for pair in zip(widths, widths[1:], strict=False))
        self.gates = nn.Parameter(torch.full((len(widths) - 1,), GATE))
        self.norm = nn.BatchNorm2d(widths[-1])
        self.up = nn.Linear(widths[-1], dim, bias=False)
        for lateral in self.laterals:
            nn.init.kaiming_normal_(lateral.weight, nonlinearity="linear")
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, dim)."""
        features, (first, *maps) = self.trunk(x)
        s = self.laterals[0](first)
        for gate, lateral, step, y in zip(self.gates, self.laterals[1:], self.steps, maps, strict=True):
            s = gated(gate, step(s, y.shape[2:]), lateral(y))
        return features + self.up(F.relu(self.norm(s)).mean((2, 3)))


def put_ladder(network: Network, channels: Sequence[int], widths: Sequence[int], layouts: Mapping[str, Layout]) -> None:
    """Replaces the network's body by a Ladder on it; `layouts` are those of its blocks, by path."""

    def moved(path: str) -> str:
        return path.replace("body.", "body.trunk.body.", 1)

    inside = {path.removeprefix("body."): layout for path, layout in layouts.items()}
    ladder = Ladder(channels, widths, network.head.in_features).to(network.head.weight)
    ladder.trunk = Trunk(network.body, inside)  # after `.to`, which would replace shared tensors of another type
    network.body = ladder
    move_sites(network, moved)
    network.blocks = tuple(map(moved, network.blocks))
