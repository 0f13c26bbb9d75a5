"""Residual blocks in two copies, frozen and tuned, and the policy that chooses between them (SpotTune)."""

import threading
from collections.abc import MutableMapping, Sequence
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from visual_decathlon.methods.layers.adapter import Adapter
from visual_decathlon.methods.layers.network import Network, move_sites, own, share, start_afresh
from visual_decathlon.methods.layers.noise import Noise


def choose(logits: Tensor, noise: Tensor, temperature: float) -> Tensor:
    """(N, blocks, 2) logits -> (N, blocks): 1 where the second logit plus its noise is larger, else 0.

    The values are exact; the gradient is that of softmax((logits + noise) / temperature).
    """
    noisy = logits + noise
    soft = (noisy / temperature).softmax(-1)[..., 1]
    return noisy.argmax(-1).to(soft.dtype) + (soft - soft.detach())


class PolicyBlock(nn.Module):
    """A basic residual block of stride 2: (N, cin, H, W) -> (N, 2 cin, H / 2, W / 2), an odd side rounded up."""

    def __init__(self, cin: int):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(cin, 2 * cin, 3, 2, padding=1, bias=False), nn.BatchNorm2d(2 * cin)
        self.conv2, self.bn2 = nn.Conv2d(2 * cin, 2 * cin, 3, padding=1, bias=False), nn.BatchNorm2d(2 * cin)

    def forward(self, x: Tensor) -> Tensor:
        """Its shortcut is 2x2 average pooling and zero channels."""
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)), inplace=True)))
        x = F.avg_pool2d(x, 2, ceil_mode=True)
        return F.relu(y + torch.cat([x, torch.zeros_like(x)], dim=1), inplace=True)


class Policy(nn.Module):
    """(N, 3, H, W) -> (N, blocks) of 0 and 1: whether an image uses the tuned copy of a block.

    A ResNet of `widths`: a convolution, a residual block for each further width, the mean, and two logits a block.
    """

    def __init__(self, blocks: int, temperature: float, widths: Sequence[int]):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, widths[0], 3, padding=1, bias=False), nn.BatchNorm2d(widths[0])
        self.blocks = nn.Sequential(*map(PolicyBlock, widths[:-1]))
        self.norm = nn.BatchNorm2d(widths[-1])
        self.head = nn.Linear(widths[-1], 2 * blocks)
        start_afresh(self)
        self.temperature = temperature
        self.noise = Noise()

    def logits(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, blocks, 2): of the frozen and of the tuned copy."""
        features = F.relu(self.norm(self.blocks(self.bn(self.conv(x)))), inplace=True).mean(dim=(2, 3))
        return self.head(features).unflatten(1, (-1, 2)).float()

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, blocks) of 0 and 1, in training drawn with Gumbel noise."""
        logits = self.logits(x)
        if not self.training:
            return logits.argmax(-1).to(x.dtype)
        return choose(logits, self.noise.gumbel(logits.shape), self.temperature).to(x.dtype)


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

    def forward(self, *args, **kwargs) -> Tensor:
        """What the block reads -> its outputs (N, ...), gate * tuned(x) + (1 - gate) * frozen(x)."""
        gate, tuned = GATES.take(self), self.tuned(*args, **kwargs)
        gate = gate.view(-1, *[1] * (tuned.ndim - 1))
        return gate * tuned + (1 - gate) * self.frozen(*args, **kwargs)


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


def frozen_block(source: Network, path: str) -> nn.Module:
    """The source's block with its frozen convolutions and batch norms of its own, which are trained."""
    block = share(source.get_submodule(path))
    own(*(module for module in block.modules() if isinstance(module, _BatchNorm)))
    return block


def put_choices(network: Network, source: Network, temperature: float, widths: Sequence[int]) -> None:
    """Pairs the network's own blocks with the source's frozen ones, and puts the policy at its first convolution."""
    spots = []
    for path in network.blocks:
        spots.append(Spot(frozen_block(source, path), network.get_submodule(path)))
        network.set_submodule(path, spots[-1])
    site, conv = next(network.conv_sites())
    like = {"device": conv.weight.device, "dtype": conv.weight.dtype}
    network.set_submodule(site.conv, PolicyConv(conv, Policy(len(spots), temperature, widths).to(**like), spots))

    def moved(path: str) -> str:
        inside = [block for block in network.blocks if path.startswith(f"{block}.")]
        return f"{inside[0]}.tuned{path.removeprefix(inside[0])}" if inside else path

    move_sites(network, moved)


def policy_of(network: nn.Module) -> Policy:
    """The policy of a network in which `put_choices` put one."""
    return next(module for module in network.modules() if isinstance(module, Policy))
