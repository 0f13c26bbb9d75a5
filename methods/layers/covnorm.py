"""CovNorm: a 1x1 adapter after a convolution, reduced to the main directions of what it reads and of what it adds."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visual_decathlon.methods.layers.dan import combine_filters
from visual_decathlon.methods.layers.delta import DeltaConv
from visual_decathlon.methods.layers.pointwise import weight_gradient

MOMENTUM = 0.1  # of the running covariance, as that of batch norm
FLOOR = 1e-6  # eigenvalues are at least this part of the largest one


def covariance_of(y: Tensor) -> Tensor:
    """(C, C) covariance of the channels of y (N, C, H, W) over images and places."""
    centred = y - y.mean((0, 2, 3), keepdim=True)
    return weight_gradient(centred, centred) / (y.numel() / y.shape[1])


def principal(covariance: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The `rank` largest eigenvalues (rank,), bounded from below, and their eigenvectors (C, rank)."""
    values, vectors = torch.linalg.eigh(covariance)
    values, vectors = values.flip(0)[:rank], vectors.flip(1)[:, :rank]
    return values.clamp_min(FLOOR * values[0].clamp_min(1e-12)), vectors


def reduced(adapter: Tensor, covariance: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Colouring (C, rank), mini-adapter (rank, rank) and whitening (rank, C) of an adapter A (C, C).

    Whitening makes the main `rank` components of the adapter's input, of this covariance S, uncorrelated with
    variance one; colouring gives such values the covariance that the main components of its output have, those of
    A S Aᵀ. Their product is A between the two principal subspaces: Q Qᵀ A P Pᵀ.
    """
    a, s = adapter.double(), covariance.double()  # squares of small numbers
    read, p = principal(s, rank)
    added, q = principal(a @ s @ a.t(), rank)
    mini = (q.t() @ a @ p) * read.sqrt() / added.sqrt()[:, None]
    out = q * added.sqrt(), mini, p.t() / read.sqrt()[:, None]
    return tuple(t.to(adapter.dtype) for t in out)


class CovNormConv(DeltaConv):
    """y + A y after the convolution, A = `colour` `mini` `whiten`, each (C, C), of which `mini` alone is trained.

    Colouring and whitening are the identity until `reduce`. From then on the three are zero outside of the first `rank`
    columns of `colour`, rows and columns of `mini`, and rows of `whiten`. Their shapes stay as they are, so that a
    captured step goes on.
    """

    any_axis = False  # it has a 1x1 convolution of maps

    def __init__(self, conv: nn.Conv2d, rank: int):
        super().__init__(conv)
        channels, weight = conv.out_channels, conv.weight
        self.rank = rank
        self.mini = self.zeros(channels, channels)
        one = torch.eye(channels, dtype=weight.dtype, device=weight.device)
        for name, start in {
            "colour": one,
            "whiten": one.clone(),
            "covariance": torch.zeros_like(one),
            "is_reduced": weight.new_zeros(()),
        }.items():
            self.register_buffer(name, start, persistent=False)

    def adapter(self) -> Tensor:
        """A (C, C)."""
        return self.colour @ self.mini @ self.whiten

    def adapted_weight(self) -> Tensor:
        """W' of the matrix (I + A) M."""
        return combine_filters(self.conv.weight, self.adapter())

    def forward(self, x: Tensor) -> Tensor:
        """(N, cin, H, W) -> (N, cout, H', W'); in training it takes the covariance of the convolution's outputs."""
        if not self.training:
            return super().forward(x)
        y = self.conv._conv_forward(x, self.conv.weight, None)
        with torch.autocast(x.device.type, enabled=False):
            with torch.no_grad():
                self.covariance.lerp_(covariance_of(y.to(self.covariance.dtype)), MOMENTUM)
            combine = self.adapter() + torch.eye(len(self.mini), device=x.device, dtype=self.mini.dtype)
        return F.conv2d(y, combine[:, :, None, None], self.adapted_bias())

    @torch.no_grad()
    def reduce(self) -> None:
        """Replaces A by its reduced form; from here on the rank by rank block of `mini` is what training changes."""
        for name, t in self.unpacked(self.stored()).items():
            getattr(self, name).copy_(t)

    @torch.no_grad()
    def stored(self) -> dict[str, Tensor]:
        """`colour` (C, rank), `mini` (rank, rank) and `whiten` (rank, C), as they would be if it was reduced now."""
        r = self.rank
        if self.is_reduced:
            parts = self.colour[:, :r], self.mini[:r, :r], self.whiten[:r]
        else:
            parts = reduced(self.mini, self.covariance, r)
        return dict(zip(("colour", "mini", "whiten"), (t.clone() for t in parts), strict=True))

    def unpacked(self, stored: dict[str, Tensor]) -> dict[str, Tensor]:
        """The three with zeros around them, and the mark that they are reduced; the covariance is used no more."""
        channels, rank = stored["colour"].shape
        around = channels - rank
        return {
            "colour": F.pad(stored["colour"], (0, around)),
            "mini": F.pad(stored["mini"], (0, around, 0, around)),
            "whiten": F.pad(stored["whiten"], (0, 0, 0, around)),
            "is_reduced": stored["mini"].new_ones(()),
            "covariance": stored["mini"].new_zeros(channels, channels),
        }


def covnorm_convs(network: nn.Module) -> list[CovNormConv]:
    """Every CovNormConv of a network, in order."""
    return [m for m in network.modules() if isinstance(m, CovNormConv)]
