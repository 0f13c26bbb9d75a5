"""Residual blocks in two copies, frozen and tuned, and the policy that chooses between them (SpotTune)."""

import dataclasses
import threading
from collections.abc import MutableMapping, Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from visual_decathlon.methods.layers.network import Adapter, Network, share


def choose(logits: Tensor, noise: Tensor, temperature: float) -> Tensor:
    """(N, blocks, 2) logits -> (N, blocks), 1 where the second one with its noise is larger, else 0.

    The values are exact; the gradient is that of softmax((logits + noise) / temperature).
    """
    noisy = logits + noise
    soft = (noisy / temperature).softmax(-1)[..., 1]
    return noisy.argmax(-1).to(soft.dtype) + (soft - soft.detach())


class Policy(nn.Module):
    """(N, 3, H, W) -> (N, blocks) of 0 and 1: whether an image takes the tuned copy of a block."""

    def __init__(self, blocks: int, temperature: float, widths: Sequence[int]):
        super().__init__()
        layers = []
        for cin, cout in zip((3, *widths), widths):
            layers += [nn.Conv2d(cin, cout, 3, 2, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], 2 * blocks)
        self.temperature = temperature
        # What the next step's noise is drawn from: training state, so that a resumed run draws the same.
        self.register_buffer("draw", torch.randint(2**62, ()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        logits = self.head(self.layers(x).mean(dim=(2, 3))).unflatten(1, (-1, 2)).float()
        if not self.training:
            return logits.argmax(-1).to(x.dtype)
        return choose(logits, self.noise(logits.shape).to(logits), self.temperature).to(x.dtype)

    def noise(self, shape: torch.Size) -> Tensor:
        """Gumbel noise, a function of the counter alone, which it moves on."""
        generator = torch.Generator().manual_seed(int(self.draw))
        self.draw += 1
        return -torch.empty(shape).exponential_(generator=generator).log()


class _Gates(threading.local):
    """Those of the pass that a thread is at: several threads may compute on one network."""

    def __init__(self):
        self.of: MutableMapping[Spot, Tensor] = WeakKeyDictionary()


_GATES = _Gates()


class Spot(Adapter):
    """A residual block that computes, for each image, what its frozen or its tuned copy does."""

    def __init__(self, frozen: nn.Module, tuned: nn.Module):
        super().__init__()
        self.frozen, self.tuned = frozen, tuned

    @property
    def gate(self) -> Tensor | None:
        """(N,), set by the policy before each pass of a thread, which takes it."""
        return _GATES.of.get(self)

    @gate.setter
    def gate(self, gate: Tensor) -> None:
        _GATES.of[self] = gate

    def forward(self, x: Tensor) -> Tensor:
        gate = _GATES.of.pop(self).view(-1, 1, 1, 1)
        return gate * self.tuned(x) + (1 - gate) * self.frozen(x)


class PolicyConv(Adapter):
    """The first convolution, with the policy that sees the same images and tells every Spot its gate."""

    def __init__(self, conv: nn.Conv2d, policy: Policy, spots: Sequence[Spot]):
        super().__init__()
        self.conv, self.policy = conv, policy
        self.spots = tuple(spots)  # in a tuple they are not this module's children

    def forward(self, x: Tensor) -> Tensor:
        for spot, gate in zip(self.spots, self.policy(x).unbind(1), strict=True):
            spot.gate = gate
        return self.conv(x)


def put_choices(network: Network, source: Network, temperature: float, widths: Sequence[int]) -> None:
    """Put the source's frozen blocks beside the network's own, and the policy at its first convolution."""
    spots = []
    for path in network.blocks:
        spots.append(Spot(share(source.get_submodule(path)), network.get_submodule(path)))
        network.set_submodule(path, spots[-1])
    site, conv = next(network.conv_sites())
    like = {"device": conv.weight.device, "dtype": conv.weight.dtype}
    network.set_submodule(site.conv, PolicyConv(conv, Policy(len(spots), temperature, widths).to(**like), spots))

    def now(path: str) -> str:
        inside = [block for block in network.blocks if path.startswith(f"{block}.")]
        return f"{inside[0]}.tuned{path.removeprefix(inside[0])}" if inside else path

    network.sites = tuple(dataclasses.replace(s, conv=now(s.conv), norm=now(s.norm)) for s in network.sites)
