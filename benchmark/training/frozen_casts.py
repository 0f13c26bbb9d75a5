"""Casts frozen weights to low precision once: autocast casts them again at every step."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visual_decathlon.benchmark.training.swap_class import SwappedClass, swap_class


class _Low(NamedTuple):
    """A frozen weight, the version of its values, and those values in low precision."""

    of: nn.Parameter
    version: int
    weight: Tensor


@contextmanager
def cast_once(network: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Context in which frozen weights of nn.Conv2d and nn.Linear are not cast again where autocast uses `dtype`.

    `dtype` is torch.bfloat16 or torch.float16. Loss and gradients are the same to the bit. Only calls of the modules
    use the copies: `.weight` is still the float32 parameter. A weight that requires a gradient, now or at a call, is
    left to autocast. Parameters, names, state dict and copies of the modules are unchanged. Raises RuntimeError at the
    end where a frozen weight was changed meanwhile, because the steps did not use the new values.
    """
    lows: dict[int, _Low] = {}  # by the weight, which several modules may share
    for module in network.modules():
        if type(module) in (nn.Conv2d, nn.Linear) and isinstance(module.weight, nn.Parameter):
            weight = module.weight
            if weight.dtype == torch.float32 and not weight.requires_grad:
                if id(weight) not in lows:
                    lows[id(weight)] = _Low(weight, weight._version, weight.detach().to(dtype))
                module._low = lows[id(weight)]
    chosen = [m for m in network.modules() if "_low" in m.__dict__]
    with swap_class(chosen, _CastConv), swap_class(chosen, _CastLinear):
        yield
    if any(low.of._version != low.version and not low.of.requires_grad for low in lows.values()):
        raise RuntimeError("a frozen weight changed while a copy of it in low precision was in use")


class _Cast(SwappedClass):
    """A module that computes with the copy `_low` of its weight, where autocast would make the same copy."""

    drops = ("_low",)

    def _now(self, x: Tensor) -> Tensor:
        weight, low = self.weight, self._low
        kind = x.device.type
        if weight is not low.of or weight.requires_grad or not torch.is_autocast_enabled(kind):
            return weight
        return low.weight if torch.get_autocast_dtype(kind) == low.weight.dtype else weight


class _CastConv(_Cast, nn.Conv2d):
    plain = nn.Conv2d

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self._now(x), self.bias)


class _CastLinear(_Cast, nn.Linear):
    plain = nn.Linear

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self._now(x), self.bias)
