"""A read-out of a frozen body: moments of its maps at a few depths, and binary projections of them."""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from functools import cache
from math import pi

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visual_decathlon.methods.layers.adapter import Adapter
from visual_decathlon.methods.layers.layout import Layout
from visual_decathlon.methods.layers.masks import pack, unpack
from visual_decathlon.methods.layers.network import Network, move_sites

LOGIT = 8.0  # the logit that stands for 1 in the regression
STRIP = 256  # columns of a Gram matrix that are computed at once


@cache
def cosines(channels: int, width: int) -> Tensor:
    """(width, channels, 1, 1): the first rows of the orthonormal cosine transform (DCT-II)."""
    at = (torch.arange(channels, dtype=torch.float64) + 0.5) * pi / channels
    rows = torch.cos(torch.arange(width, dtype=torch.float64)[:, None] * at) * (2 / channels) ** 0.5
    rows[0] /= 2**0.5
    return rows.float()[:, :, None, None]


def moments(x: Tensor, width: int) -> Tensor:
    """(N, C, H, W) maps -> (N, 4 w² + 16 w), w = min(C, width); finite for maps of one pixel too.

    z has w channels, less their mean over the image. The result holds the means of z z'ᵀ over the map, with z' one
    pixel to the right, below, below to the right and below to the left and 0 outside, each as sign(.) sqrt|.|, and
    the means of z in 4 x 4 cells. Each of the five parts is divided by its length.
    """
    if x.shape[1] > width:
        x = F.conv2d(x, cosines(x.shape[1], width).to(x))
    z = x - x.mean((2, 3), keepdim=True)
    height, wide = z.shape[2:]
    wider = F.pad(z, (1, 1, 0, 1)).permute(0, 2, 3, 1)
    neighbours = [wider[:, y : y + height, x : x + wide].flatten(1, 2) for y, x in ((0, 2), (1, 1), (1, 2), (1, 0))]
    products = z.flatten(2) @ torch.cat(neighbours, 2)
    roots = [part.sign() * part.abs().sqrt() for part in products.chunk(4, 2)]
    return torch.cat([F.normalize(part.flatten(1)) for part in (*roots, F.adaptive_avg_pool2d(z, 4))], 1)


def signs(x: Tensor) -> Tensor:
    """Signs of x: 1 where it is above 0, -1 elsewhere."""
    return torch.where(x > 0, 1.0, -1.0)


def ridge(x: Tensor, y: Tensor, strength: float) -> Tensor:
    """W (D, k) that minimises |x W - y|² + `strength` t |W|² for x (n, D), y (n, k); t = |x|² / n.

    It solves the smaller of the two equal systems, n x n or D x D, and computes only its lower triangle. Raises
    torch.linalg.LinAlgError where `strength` is too small for x's number format.
    """
    n, d = x.shape
    rows = x if n <= d else x.T
    gram = x.new_zeros(min(n, d), min(n, d))
    for i in range(0, len(rows), STRIP):
        gram[i:, i : i + STRIP] = rows[i:] @ rows[i : i + STRIP].T
    # Where all x are equal, W is 0.
    gram.diagonal().add_((strength * torch.linalg.vector_norm(x).square() / n).clamp_min(1e-12))
    root = torch.linalg.cholesky(gram)
    return x.T @ torch.cholesky_solve(y, root) if n <= d else torch.cholesky_solve(x.T @ y, root)


def leading(w: Tensor, count: int) -> Tensor:
    """(k, m): the m = min(k - 1, count) leading directions of w (D, k), rotated among themselves at random.

    After the rotation each carries a similar part of w. (The k columns of a regression on classes sum to 0.) It draws
    from the global generator.
    """
    directions = torch.linalg.eigh(w.T @ w)[1][:, -min(max(1, w.shape[1] - 1), count) :]
    turn = torch.linalg.qr(torch.randn(directions.shape[1], directions.shape[1]))[0]
    return directions @ turn.to(w)


def binary_factors(w: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """B (count, D) of -1 and 1, and V (count, k) such that Bᵀ V is nearest to w (D, k).

    Each round takes the signs of the residual of the rounds before, so that more codes than classes approximate w
    better and better. V is that of `ridge` with strength 1e-4, in double precision, since codes may be equal. Each
    round adds its own rows to the system.
    """
    wide = (w.cpu() if w.device.type == "mps" else w).double()  # Apple's GPUs have no double precision
    codes, left = w.new_empty(0, len(w)), w
    gram, right = wide.new_zeros(count, count), wide.new_empty(count, w.shape[1])
    while (made := len(codes)) < count:
        new = signs((left @ leading(left, count - made)).T)
        codes = torch.cat([codes, new])
        gram[made : len(codes), : len(codes)] = new @ codes.T  # whole numbers, so single precision is exact
        right[made : len(codes)] = new.to(wide) @ wide
        system = gram[: len(codes), : len(codes)].clone()
        system.diagonal().add_(1e-4 * len(codes))
        v = torch.cholesky_solve(right[: len(codes)], torch.linalg.cholesky(system)).to(w)
        left = w - codes.T @ v
    return codes, v


class _Reading(threading.local):
    """Moments that the current pass of a thread through a body has read so far; None outside of a Reader."""

    moments: list[Tensor] | None = None


_READING = _Reading()


class _Keep:
    """Hook of a block that is read: it adds the moments of its maps to the current pass of this thread."""

    def __init__(self, width: int, layout: Layout):
        self.width, self.layout = width, layout

    def __call__(self, block: nn.Module, args: tuple, y: Tensor) -> None:
        if _READING.moments is not None:
            with torch.autocast(y.device.type, enabled=False):
                _READING.moments.append(moments(self.layout.patches(y).float(), self.width))


class Reader(nn.Module):
    """(N, 3, H, W) -> (N, D), without gradients: the `moments` of the outputs of the residual blocks at these paths,
    and the body's own outputs divided by their length."""

    def __init__(self, body: nn.Module, blocks: Mapping[str, Layout], width: int):
        super().__init__()
        self.body = body
        for path, layout in blocks.items():
            body.get_submodule(path).register_forward_hook(_Keep(width, layout))

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, D)."""
        before, _READING.moments = _READING.moments, []
        try:
            last = self.body(x).float()
            return torch.cat([*_READING.moments, F.normalize(last)], 1)
        finally:
            _READING.moments = before


class Codes(Adapter):
    """(N, D) -> (N, dim), scale * (B x) + shift with B (dim, D) of -1 and 1, which is stored as bits.

    It is not trained: `fit_side` sets it, and until then B is random.
    """

    def __init__(self, numbers: int, dim: int):
        super().__init__()
        self.register_buffer("signs", signs(torch.randn(dim, numbers)))
        self.register_buffer("scale", torch.full((dim,), numbers**-0.5))
        self.register_buffer("shift", torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        """(N, D) -> (N, dim)."""
        return F.linear(x, self.signs) * self.scale + self.shift

    @torch.no_grad()
    def merge(self) -> nn.Linear:
        """A frozen linear layer with the weight scale * B and the bias `shift`."""
        out = nn.utils.skip_init(nn.Linear, *reversed(self.signs.shape), device=self.signs.device)
        out.weight.copy_(self.signs * self.scale[:, None])
        out.bias.copy_(self.shift)
        return out.requires_grad_(False)

    def stored(self) -> dict[str, Tensor]:
        """B as bits, scale and shift as they are."""
        return {"signs": pack(self.signs > 0), "scale": self.scale, "shift": self.shift}

    def unpacked(self, stored: dict[str, Tensor]) -> dict[str, Tensor]:
        """B as -1 and 1, scale and shift as they are."""
        return stored | {"signs": signs(unpack(stored["signs"], self.signs.shape))}


def put_side(network: Network, blocks: Mapping[str, Layout], width: int, numbers: int) -> None:
    """Wraps the network's body in a Reader of these blocks, and puts Codes for its D = `numbers` after it."""

    def moved(path: str) -> str:
        return path.replace("body.", "body.read.body.", 1)

    inside = {path.removeprefix("body."): layout for path, layout in blocks.items()}
    codes = Codes(numbers, network.head.in_features).to(network.head.weight)
    network.body = nn.Sequential(OrderedDict(read=Reader(network.body, inside, width), codes=codes))
    move_sites(network, moved)
    network.blocks = tuple(map(moved, network.blocks))


@torch.no_grad()
def fit_side(network: Network, x: Tensor, y: Tensor, strength: float) -> Tensor:
    """Sets Codes and head to the ridge regression of the classes y (n,) on the read numbers x (views, n, D).

    Returns the head's inputs (views, n, dim), of mean 0 and variance 1. x is overwritten.
    """
    codes, head = network.body.codes, network.head
    rows = x.flatten(0, 1)
    mean = rows.mean(0)
    rows -= mean
    target = F.one_hot(y, head.out_features).to(rows).repeat(len(x), 1)
    w = ridge(rows, target - target.mean(0), strength)
    binary, v = binary_factors(w, len(codes.signs))
    out = rows @ binary.T
    deviation = out.std(0).clamp_min(1e-6)  # it is 0 where all images are equal
    codes.signs.copy_(binary)
    codes.scale.copy_(1 / deviation)
    codes.shift.copy_(-(binary @ mean) / deviation)
    head.weight.copy_(LOGIT * (v * deviation[:, None]).T)
    head.bias.zero_()
    return (out / deviation).unflatten(0, x.shape[:2])
