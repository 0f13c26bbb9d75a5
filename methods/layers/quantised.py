"""Adapters whose trained tensors are read, and stored, in a few bits for each number.

The tensors are trained in full precision. Every forward pass reads them rounded, and the gradient of a rounded number
is used as that of the number itself (straight through), so training knows the rounding. With one bit a number is one
of two levels (Jie 2023, arXiv 2307.16867), with more it is a multiple of a scale.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from math import ceil
from statistics import NormalDist

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.layers.adapter import Adapter
from visual_decathlon.methods.layers.masks import pack, unpack
from visual_decathlon.methods.layers.network import Network, copied

LARGEST = 65504.0  # of a half-precision number
SPREAD = NormalDist().inv_cdf(0.75)  # 0.6745: the medians of the two halves of a normal distribution are at ± this


def scales_of(sizes: Sequence[int], total: int) -> list[int]:
    """How many of `total` scales (or pairs of levels) each tensor of these sizes gets: one each, the rest by size.

    Raises InputError where there are fewer scales than tensors.
    """
    left = total - len(sizes)
    if left < 0:
        raise InputError(
            f"an adapter has {len(sizes)} trained tensors and only {total} scales for them; quantise with a smaller "
            "block, or take a larger rank"
        )
    shares = [1 + left * size // sum(sizes) for size in sizes]
    shares[sizes.index(max(sizes))] += total - sum(shares)
    return shares


def in_blocks(x: Tensor, scales: int) -> Tensor:
    """(scales, length): the numbers of x in row-major order, with zeros behind the last one.

    The length is ceil(count / scales), rounded up to a multiple of 8, so that the last blocks may be empty.
    """
    length = 8 * ceil(x.numel() / scales / 8)
    return F.pad(x.flatten(), (0, scales * length - x.numel())).view(scales, length)


def to_codes(blocks: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Whole numbers (k, length) from -2^(bits - 1) to 2^(bits - 1) - 1, and one half-precision scale (k, 1) a block.

    The scale is the block's number of the largest size, with its sign; it gets the code -2^(bits - 1) and is kept up
    to half precision, and 0 is kept exactly.
    """
    low, high = blocks.aminmax(dim=1, keepdim=True)
    scale = torch.where(high >= -low, high, low).clamp(-LARGEST, LARGEST).half()
    step = step_of(scale, bits, blocks.dtype)
    most = 2 ** (bits - 1)
    return (blocks / torch.where(step == 0, 1, step)).round().clamp(-most, most - 1), scale


def to_levels(blocks: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Codes (k, length), -1 for the lower level and 0 for the upper, and the half-precision levels (k, 2) of a block.

    `count` numbers are in `blocks` (k, length), zeros behind the last one. The levels are mean ± SPREAD times the
    deviation of a block's numbers, and a number gets the nearer one. A block with at most two different numbers has
    these as its levels: so zeros stay zeros, and what is rounded stays.
    """
    rows, length = blocks.shape
    total, filled = length, blocks
    if count < blocks.numel():  # the last blocks have fewer numbers, or none
        total = (count - length * torch.arange(rows, device=blocks.device)).clamp(0, length)[:, None]
        inside = torch.arange(length, device=blocks.device) < total
        filled = blocks.where(inside, blocks.flatten()[count - 1])
        total = total.clamp(min=2)  # a single number is its own level
    mean = blocks.sum(1, keepdim=True) / total
    centred = blocks - mean if filled is blocks else (blocks - mean) * inside
    # torch's std, as in the authors' code; std itself takes ten times as long on rows as short as these.
    spread = SPREAD * torch.linalg.vector_norm(centred, dim=1, keepdim=True) / (total - 1) ** 0.5
    low, high = filled.aminmax(dim=1, keepdim=True)
    pair = torch.minimum(filled - low, high - filled).amax(1, keepdim=True) == 0
    levels = torch.cat([low.where(pair, mean - spread), high.where(pair, mean + spread)], 1)
    levels = levels.clamp(-LARGEST, LARGEST).half()
    middle = levels.to(blocks.dtype).mean(1, keepdim=True)
    return (blocks > middle).to(blocks.dtype) - 1, levels


def step_of(scale: Tensor, bits: int, dtype: torch.dtype) -> Tensor:
    """The difference of two neighbouring codes: -scale / 2^(bits - 1), exact in single precision."""
    return scale.to(dtype) / -(2 ** (bits - 1))


def encoded(x: Tensor, bits: int, scales: int) -> tuple[Tensor, Tensor]:
    """Codes (scales, length) from -2^(bits - 1), and the half-precision scale (scales, 1), or levels (scales, 2)."""
    blocks = in_blocks(x, scales)
    return to_levels(blocks, x.numel()) if bits == 1 else to_codes(blocks, bits)


def decoded(codes: Tensor, scale: Tensor, bits: int, shape: torch.Size) -> Tensor:
    """The numbers that `encoded` made these of, rounded, in their shape."""
    if bits == 1:
        low, high = scale.to(codes.dtype).split(1, dim=1)
        numbers = torch.lerp(high, low, -codes)  # exact at 0 and 1
    else:
        numbers = codes * step_of(scale, bits, codes.dtype)
    return numbers.flatten()[: shape.numel()].view(shape)


def rounded(x: Tensor, bits: int, scales: int) -> Tensor:
    """x as its codes keep it; its gradient is that of x (straight through)."""
    with torch.no_grad():
        kept = decoded(*encoded(x, bits, scales), bits, x.shape)
    return kept + (x - x.detach())


class Latent(nn.Module):
    """The trained tensors of one module, in full precision and by name, with the number of scales of each."""

    def __init__(self, module: nn.Module, bits: int, scales: dict[str, int]):
        super().__init__()
        self.bits, self.scales = bits, scales
        for name in scales:
            self.register_parameter(name, module._parameters.pop(name))

    def read(self, name: str) -> Tensor:
        """The rounded tensor of this name."""
        return rounded(self._parameters[name], self.bits, self.scales[name])


class QuantisedAdapter(Adapter):
    """What a quantised adapter stores: the codes of all its trained tensors, and their scales."""

    def latents(self) -> Iterator[tuple[str, Tensor, Latent, int]]:
        """(name in this module, tensor, its Latent, number of scales) of every quantised tensor, in order."""
        for path, module in self.named_modules():
            if isinstance(module, Latent):
                for name, scales in module.scales.items():
                    yield f"{path}.{name}", module._parameters[name], module, scales

    def stored(self) -> dict[str, Tensor]:
        """`codes`: `bits` bits a number, lowest first; `scales`: the bytes of the half-precision scales or levels."""
        codes, scales, bits = [], [], 0
        for _, x, latent, count in self.latents():
            bits = latent.bits
            made, scale = encoded(x.detach(), bits, count)
            codes.append(made.flatten()[: x.numel()])
            scales.append(scale.flatten())
        numbers = (torch.cat(codes) + 2 ** (bits - 1)).to(torch.uint8)
        places = torch.arange(bits, dtype=torch.uint8, device=numbers.device)
        return {"codes": pack(numbers[:, None] >> places & 1), "scales": torch.cat(scales).view(torch.uint8)}

    def unpacked(self, stored: dict[str, Tensor]) -> dict[str, Tensor]:
        """The rounded tensors. They round to themselves where their scale is no subnormal number of half precision."""
        tensors = [*self.latents()]
        bits, total = tensors[0][2].bits, sum(x.numel() for _, x, _, _ in tensors)
        places = torch.arange(bits, dtype=torch.uint8, device=stored["codes"].device)
        numbers = (unpack(stored["codes"], torch.Size((total, bits))).to(torch.uint8) << places).sum(1)
        codes = (numbers - 2 ** (bits - 1)).split([x.numel() for _, x, _, _ in tensors])
        counts = [count for *_, count in tensors]
        scales = stored["scales"].view(torch.half).view(sum(counts), -1).split(counts)
        return {
            name: decoded(in_blocks(mine.to(x.dtype), count), scale, bits, x.shape)
            for (name, x, _, count), mine, scale in zip(tensors, codes, scales, strict=True)
        }


def _reading(name: str) -> property:
    return property(lambda module: module.latent.read(name))


@cache
def _quantised(kind: type, names: tuple[str, ...], bases: tuple[type, ...]) -> type:
    """The class `kind` with these tensors read from its `latent`, rounded; `bases` come before it."""
    read = {name: _reading(name) for name in names}
    return type(f"Quantised{kind.__name__}", (*bases, kind), {**read, "plain_kind": kind})


def quantise(adapter: Adapter, bits: int, scales: int) -> None:
    """Replaces an adapter's trained tensors, in place, by ones that are read rounded; `scales` as in `scales_of`.

    The adapter's own code does not change: its class becomes a subclass of the old one, in which the tensors' names
    are properties. So does the class of every module inside that has trained tensors.
    """
    trained = [
        (module, name, p)
        for module in adapter.modules()
        for name, p in module.named_parameters(recurse=False)
        if p.requires_grad
    ]
    counts = scales_of([p.numel() for *_, p in trained], scales)
    for module in [*adapter.modules()]:
        own = {name: count for (m, name, _), count in zip(trained, counts, strict=True) if m is module}
        bases = (QuantisedAdapter,) if module is adapter else ()
        if own:
            module.latent = Latent(module, bits, own)
        if own or bases:
            module.__class__ = _quantised(type(module), tuple(own), bases)


def without_rounding(network: Network) -> Network:
    """A copy of the modules as they were before `quantise`, on the same tensors, which are found as attributes."""
    out = copied(network)
    for module in [*out.modules()]:
        if hasattr(type(module), "plain_kind"):
            module.__class__ = type(module).plain_kind
            latent = module._modules.pop("latent", None)
            module._parameters |= {} if latent is None else latent._parameters
    return out
