"""Random numbers of a training step that are a function of a counter on the device.

Unlike those of torch's generators they are the same on every device and after a resumed run, since the counter is one
of the network's tensors, and a CUDA graph that draws them draws other ones at every replay.
"""

from math import prod

import torch
from torch import Tensor, nn

# Steele, Lea, Flood 2014, SplitMix64: its increment and the two factors of its mixing, as signed integers.
STEP, FIRST, SECOND = (n - 2**64 for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def _shifted(words: Tensor, bits: int) -> Tensor:
    """words >> bits of int64 with zeros from the left."""
    return words >> bits & (1 << 64 - bits) - 1


def splitmix64(index: Tensor) -> Tensor:
    """int64 -> int64 of the same shape: the outputs of SplitMix64 at these positions of its sequence, seed 0."""
    words = index * STEP
    words = (words ^ _shifted(words, 30)) * FIRST
    words = (words ^ _shifted(words, 27)) * SECOND
    return words ^ _shifted(words, 31)


class Noise(nn.Module):
    """Draws random numbers; `drawn` is the position in the sequence, which starts at a random one."""

    def __init__(self):
        super().__init__()
        self.register_buffer("drawn", torch.randint(2**62, ()), persistent=False)

    def words(self, count: int) -> Tensor:
        """(count,) int64, all 64 bits random; the position moves on by `count`."""
        words = splitmix64(self.drawn + torch.arange(count, device=self.drawn.device))
        self.drawn += count
        return words

    def gumbel(self, shape: torch.Size) -> Tensor:
        """Float32 of this shape from the standard Gumbel distribution, -log(-log u) with u uniform in (0, 1)."""
        uniform = (_shifted(self.words(prod(shape)), 40) + 0.5) * 2**-24
        return -(-uniform.log()).log().view(shape)

    def dropout(self, x: Tensor, rate: float) -> Tensor:
        """(N, C, H, W) -> the same shape: each number is 0 with probability `rate`, or divided by 1 - `rate`.

        The rate is rounded to a multiple of 2⁻¹⁶. What an entry draws does not depend on the strides of x.
        """
        n, c, h, w = x.shape
        low = round(rate * 2**16)
        kept = self.words((x.numel() + 3) // 4).view(torch.int16)[: x.numel()] >= low - 2**15
        # In the order of channels_last, in which images are trained on most devices.
        return x * (kept.view(n, h, w, c).permute(0, 3, 1, 2).to(x.dtype) * (2**16 / (2**16 - low)))
