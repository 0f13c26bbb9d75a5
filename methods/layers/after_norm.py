"""A trained scale and shift after a batch norm (BitFit, SSF, (IA)³)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from visual_decathlon.methods.layers.network import Adapter, Network, norm_like


class ScaledNorm(Adapter):
    """(N, C, H, W) -> the same shape: (1 + change) * norm(x) + shift, computed as one batch norm.

    `change` and `shift` (C,) start at zero: weight decay pulls them back to the source's norm. Without `scales` there
    is no `change`, without `shifts` no `shift`. The norm keeps the source's statistics and affine values, in training
    too.
    """

    def __init__(self, norm: nn.Module, scales: bool, shifts: bool):
        super().__init__()
        self.norm = norm
        self.change = nn.Parameter(torch.zeros_like(norm.weight)) if scales else None
        self.shift = nn.Parameter(torch.zeros_like(norm.bias)) if shifts else None

    def affine(self) -> tuple[Tensor, Tensor]:
        """Weight and bias (C,) of the batch norm that computes both."""
        weight, bias = self.norm.weight, self.norm.bias
        if self.change is not None:
            scale = 1 + self.change
            weight, bias = scale * weight, scale * bias
        return weight, bias if self.shift is None else bias + self.shift

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        norm = self.norm
        if type(norm) is nn.BatchNorm2d:
            return F.batch_norm(x, norm.running_mean, norm.running_var, *self.affine(), False, 0.0, norm.eps)
        weight, bias = self.affine()
        return functional_call(norm, {"weight": weight, "bias": bias}, (x,))

    def merge(self) -> nn.Module:
        """A frozen norm with scale and shift in its affine values."""
        return norm_like(self.norm, *self.affine())


def put_scaled_norms(network: Network, scales: bool, shifts: bool) -> None:
    """Puts a scale, a shift or both after every norm of the backbone that has both itself."""
    for norm in network.shapes.affine_norms:
        network.set_submodule(norm.name, ScaledNorm(network.get_submodule(norm.name), scales, shifts))
