"""Residual blocks in two copies, frozen and tuned, and the policy that chooses between them (SpotTune)."""

import dataclasses
import threading
from collections.abc import MutableMapping, Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from visual_decathlon.methods.layers.network import Adapter, Network, share


def choose(logits: Tensor, noise: Tensor, temperature: float) -> Tensor:
    """(N, blocks, 2) logits -> (N, blocks): 1 where the second logit plus its noise is larger, else 0.

    The values are exact; the gradient is that of softmax((logits + noise) / temperature).
    """
    noisy = logits + noise
    soft = (noisy / temperature).softmax(-1)[..., 1]
    return noisy.argmax(-1).to(soft.dtype) + (soft - soft.detach())


class Policy(nn.Module):
    """(N, 3, H, W) -> (N, blocks) of 0 and 1: whether an image uses the tuned copy of a block."""

    def __init__(self, blocks: int, temperature: float, widths: Sequence[int]):
        super().__init__()
        layers = []
        for cin, cout in zip((3, *widths), widths):
            layers += [nn.Conv2d(cin, cout, 3, 2, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], 2 * blocks)
        self.temperature = temperature
        # Seed of the next step's noise. It is training state, so that a resumed run draws the same noise.
        self.register_buffer("draw", torch.randint(2**62, ()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, blocks) of 0 and 1."""
        logits = self.head(self.layers(x).mean(dim=(2, 3))).unflatten(1, (-1, 2)).float()
        if not self.training:
            return logits.argmax(-1).to(x.dtype)
        return choose(logits, self.noise(logits.shape).to(logits), self.temperature).to(x.dtype)

    def noise(self, shape: torch.Size) -> Tensor:
        """Gumbel noise of this shape, drawn from the counter `draw`, which is increased by one."""
        generator = torch.Generator().manual_seed(int(self.draw))
        self.draw += 1
        return -torch.empty(shape).exponential_(generator=generator).log()


class _Gates(threading.local):
    """Gates (N,) from the policy to the blocks of one pass, per thread: several threads may use one network."""

    def __init__(self):
        self._of: MutableMapping[Spot, Tensor] = WeakKeyDictionary()

    def put(self, spot: "Spot", gate: Tensor) -> None:
        """Sets the gate (N,) of a block for its next pass on this thread."""
        self._of[spot] = gate

    def take(self, spot: "Spot") -> Tensor:
        """Removes and returns the gate (N,) of a block. Raises KeyError where none was put since its last pass."""
        return self._of.pop(spot)


GATES = _Gates()


class Spot(Adapter):
    """A residual block that uses its frozen or its tuned copy, chosen for each image by the gate in `GATES`."""

    def __init__(self, frozen: nn.Module, tuned: nn.Module):
        super().__init__()
        self.frozen, self.tuned = frozen, tuned

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the block's outputs, gate * tuned(x) + (1 - gate) * frozen(x)."""
        gate = GATES.take(self).view(-1, 1, 1, 1)
        return gate * self.tuned(x) + (1 - gate) * self.frozen(x)


class PolicyConv(Adapter):
    """The first convolution, with the policy that gets the same images and sets the gate of every Spot."""

    def __init__(self, conv: nn.Conv2d, policy: Policy, spots: Sequence[Spot]):
        super().__init__()
        self.conv, self.policy = conv, policy
        self.spots = tuple(spots)  # in a tuple, so that torch does not register them as submodules

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, cout, H', W') of the convolution."""
        for spot, gate in zip(self.spots, self.policy(x).unbind(1), strict=True):
            GATES.put(spot, gate)
        return self.conv(x)


def put_choices(network: Network, source: Network, temperature: float, widths: Sequence[int]) -> None:
    """Pairs the network's own blocks with the source's frozen ones, and puts the policy at its first convolution."""
    spots = []
    for path in network.blocks:
        spots.append(Spot(share(source.get_submodule(path)), network.get_submodule(path)))
        network.set_submodule(path, spots[-1])
    site, conv = next(network.conv_sites())
    like = {"device": conv.weight.device, "dtype": conv.weight.dtype}
    network.set_submodule(site.conv, PolicyConv(conv, Policy(len(spots), temperature, widths).to(**like), spots))

    def moved(path: str) -> str:
        inside = [block for block in network.blocks if path.startswith(f"{block}.")]
        return f"{inside[0]}.tuned{path.removeprefix(inside[0])}" if inside else path

    network.sites = tuple(dataclasses.replace(s, conv=moved(s.conv), norm=moved(s.norm)) for s in network.sites)
