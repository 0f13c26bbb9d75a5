"""A trained scale and shift behind a norm, at a layer's outputs or at its inputs (BitFit, SSF, (IA)³)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from visual_decathlon.methods.layers.adapter import Adapter
from visual_decathlon.methods.layers.delta import DeltaConv
from visual_decathlon.methods.layers.network import norm_like


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


def scaled_outputs(tensor: Tensor, change: Tensor) -> Tensor:
    """A weight (cout, cin / groups, k, l) or bias (cout,) whose last m rows are scaled by 1 + `change` (m,)."""
    scale = F.pad(1 + change, (len(tensor) - len(change), 0), value=1.0)
    return scale.view(-1, *[1] * (tensor.dim() - 1)) * tensor


def scaled_inputs(weight: Tensor, change: Tensor) -> Tensor:
    """W (cout, cin, k, l) whose input channels are scaled by 1 + `change` (cin,)."""
    return (1 + change)[:, None, None] * weight


class ScaledConv(DeltaConv):
    """(1 + change) * conv(x) + shift: W' = (1 + change) W by rows, b' = (1 + change) b + shift.

    `shift` (cout,) and `change` start at zero. `change` has the rows from `first` on, all by default; without `scales`
    there is none, without `shifts` no `shift`. A layer without a bias gets one from `shift`.
    """

    def __init__(self, conv: nn.Conv2d, scales: bool, shifts: bool, first: int = 0):
        super().__init__(conv)
        self.change = self.zeros(conv.out_channels - first) if scales else None
        self.shift = self.zeros(conv.out_channels) if shifts else None

    def adapted_weight(self) -> Tensor:
        """W' = (1 + change) W by rows."""
        return self.conv.weight if self.change is None else scaled_outputs(self.conv.weight, self.change)

    def adapted_bias(self) -> Tensor | None:
        """b' = (1 + change) b + shift, or None where there is neither."""
        bias = self.conv.bias
        if bias is not None and self.change is not None:
            bias = scaled_outputs(bias, self.change)
        if self.shift is None:
            return bias
        return self.shift if bias is None else bias + self.shift


class ScaledInputs(DeltaConv):
    """conv((1 + change) x) of a layer without groups: W' has scaled columns, and `change` (cin,) starts at zero."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__(conv)
        self.change = self.zeros(conv.in_channels)

    def adapted_weight(self) -> Tensor:
        """W' = W (1 + change) by columns."""
        return scaled_inputs(self.conv.weight, self.change)
