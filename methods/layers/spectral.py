"""ΔW from a few Fourier coefficients (FourierFT) and from circulant blocks (C³A)."""

from math import sqrt

import torch
from torch import Tensor, nn

from visual_decathlon.methods.layers.delta import DeltaConv
from visual_decathlon.methods.layers.drawn import positions
from visual_decathlon.methods.layers.shira import sparse_delta


def fourier_delta(values: Tensor, at: Tensor, rows: int, columns: int) -> Tensor:
    """Real part of the orthonormal inverse 2D Fourier transform, (rows, columns), of a spectrum with few entries.

    `values` (count,) are its real entries, `at` (count,) int64 their different places in row-major order; all others
    are 0.
    """
    return torch.fft.ifft2(sparse_delta(values, at, torch.Size((rows, columns))), norm="ortho").real


def circulants(kernels: Tensor) -> Tensor:
    """(..., b) -> (..., b, b), entry [i, j] is kernel[(j - i) mod b]: the first row is the kernel."""
    *lead, b = kernels.shape
    # Copies of a cyclic sequence, cut into rows one longer than it: each row starts one place later than the last.
    cyclic = kernels.roll(-1, -1)[..., None, :].expand(*lead, b + 1, b)
    return cyclic.reshape(*lead, b, b + 1)[..., :b].flip(-2)


def circulant_delta(kernels: Tensor) -> Tensor:
    """ΔW (cout, cin / groups, taps) of kernels (cout / b, cin / groups / b, taps, b): b x b circulant blocks a tap."""
    blocks = circulants(kernels)  # (rows, columns, taps, b, b)
    rows, columns, taps, b, _ = blocks.shape
    return blocks.permute(0, 3, 1, 4, 2).reshape(rows * b, columns * b, taps)


class FourierConv(DeltaConv):
    """W + `scale` Re F⁻¹(spectrum) on the weight as a matrix; the spectrum's entries start at zero: the identity."""

    def __init__(self, conv: nn.Conv2d, count: int, scale: float, seed: int):
        super().__init__(conv)
        self.scale = scale
        self.spectrum = self.zeros(count)
        at = positions(seed, count, conv.weight.numel(), conv.weight)
        self.register_buffer("at", at, persistent=False)  # not stored: the seed gives them again

    def adapted_weight(self) -> Tensor:
        """W' = W + `scale` Re F⁻¹(spectrum)."""
        shape = self.conv.weight.shape
        delta = fourier_delta(self.spectrum, self.at, shape[0], shape[1:].numel())
        return self.conv.weight + self.scale * delta.view(shape)


class CirculantConv(DeltaConv):
    """W + s C, C of b x b circulant blocks over the channels of each tap, s = 1 / √b; C from zero: the identity."""

    def __init__(self, conv: nn.Conv2d, block: int):
        super().__init__(conv)
        cout, cin, *kernel = conv.weight.shape
        self.scale = 1 / sqrt(block)  # a kernel's entry stands at b places: so it changes W by a length of one
        self.kernels = self.zeros(cout // block, cin // block, torch.Size(kernel).numel(), block)

    def adapted_weight(self) -> Tensor:
        """W' = W + s C."""
        return self.conv.weight + circulant_delta(self.scale * self.kernels).view(self.conv.weight.shape)
