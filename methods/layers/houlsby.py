"""Bottleneck adapters: behind a layer (Houlsby, Pfeiffer), or parallel to a module (AdaptFormer)."""

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from visual_decathlon.methods.layers.adapter import Adapter
from visual_decathlon.methods.layers.network import Network, move_sites


def channels_of(layer: nn.Module) -> int:
    """The channels that a batch norm, a convolution or a linear layer gives."""
    return layer.num_features if isinstance(layer, _BatchNorm) else layer.out_channels


class Bottleneck(Adapter):
    """x -> up(relu(down(x))) at each position; `last` tells that channels are the last axis and not the second.

    Biases start at zero.
    """

    def _bottleneck(self, channels: int, bottleneck: int, biased: bool, last: bool, like: Tensor) -> None:
        """Adds `down` and `up`, from zero, of the type and on the device of `like`."""
        how = {"device": like.device, "dtype": like.dtype, "bias": biased}
        self.last = last
        self.down = nn.Conv2d(channels, bottleneck, 1, **how)
        self.up = nn.Conv2d(bottleneck, channels, 1, **how)
        nn.init.zeros_(self.up.weight)
        if biased:
            nn.init.zeros_(self.down.bias)
            nn.init.zeros_(self.up.bias)

    def _pointwise(self, conv: nn.Conv2d, x: Tensor) -> Tensor:
        last = self.last or x.ndim == 2
        y = F.linear(x, conv.weight.flatten(1)) if last else F.conv2d(x, conv.weight)
        # Its bias is added afterwards: on a CPU a 1x1 with bias has other bits with another number of threads.
        return y if conv.bias is None else y + (conv.bias if last else conv.bias[:, None, None])

    def branch(self, x: Tensor) -> Tensor:
        """(N, C, H, W), or with `last` (N, ..., C), -> the same shape."""
        return self._pointwise(self.up, F.relu(self._pointwise(self.down, x), inplace=True))


class BottleneckNorm(Bottleneck):
    """h = norm(x), then h + up(relu(down(h))). `norm` is a batch norm, or a convolution or linear layer without one.

    Behind a batch norm, whose shift is the domain's own, the two projections have no biases.
    """

    def __init__(self, norm: nn.Module, bottleneck: int):
        super().__init__()
        self.norm = norm
        biased, last = not isinstance(norm, _BatchNorm), getattr(norm, "linear", False)
        self._bottleneck(channels_of(norm), bottleneck, biased, last, norm.weight)
        nn.init.kaiming_normal_(self.down.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W), or (N, ..., C) of a linear layer, -> the same shape but for the layer's own channels."""
        h = self.norm(x)
        return h + self.branch(h)


class ParallelBottleneck(Bottleneck):
    """(N, ..., C) -> the same shape: inner(x) + scale * up(relu(down(x))), `inner` an attention layer or an MLP."""

    def __init__(self, inner: nn.Module, channels: int, bottleneck: int, scale: float):
        super().__init__()
        self.inner, self.scale = inner, scale
        self._bottleneck(channels, bottleneck, True, True, next(inner.parameters()))
        nn.init.kaiming_uniform_(self.down.weight, a=5**0.5)

    def forward(self, x: Tensor, *args, **kwargs) -> Tensor:
        """(N, ..., C) -> the same shape; further arguments are those of `inner`."""
        return self.inner(x, *args, **kwargs) + self.scale * self.branch(x)


def put_parallel(network: Network, path: str, channels: int, bottleneck: int, scale: float) -> None:
    """Puts a bottleneck parallel to the module of this path, which maps `channels` to as many."""
    network.set_submodule(path, ParallelBottleneck(network.get_submodule(path), channels, bottleneck, scale))

    def moved(name: str) -> str:
        return f"{path}.inner{name.removeprefix(path)}" if name.startswith(f"{path}.") else name

    move_sites(network, moved)
