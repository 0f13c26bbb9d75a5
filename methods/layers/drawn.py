"""Frozen random tensors that are not stored: a seed and a shape give the same bits on every machine.

torch's normal numbers depend on the processor's vector instructions, and so does a mean or a deviation. These are
uniform numbers from the CPU generator, multiples of 2⁻²³, and permutations: both are made of integers alone.
"""

from math import sqrt

import torch
from torch import Tensor


def uniform(seed: int, *shape: int, like: Tensor) -> Tensor:
    """Numbers of mean 0 and variance 1, uniform in ±√3, of this shape, on the device and in the type of `like`."""
    drawn = torch.rand(shape, dtype=torch.float32, generator=torch.Generator().manual_seed(seed))
    return ((2 * drawn - 1) * sqrt(3)).to(like)  # exact but for the last product, which is rounded once


def positions(seed: int, count: int, among: int, like: Tensor) -> Tensor:
    """(count,) int64: different numbers below `among`, each set of them as likely, in ascending order."""
    order = torch.randperm(among, generator=torch.Generator().manual_seed(seed))
    return order[:count].sort().values.to(like.device)
