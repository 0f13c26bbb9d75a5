"""Batch norm fused with the following residual sum and ReLU, for GPUs, where a step is limited by memory bandwidth.

Passes over an activation in a training step, for norm and ReLU (with a residual): 13 (16) with torch's kernels, 8 (11)
with these. Results equal torch's up to rounding: intermediates are float32 and not rounded to the activations' type.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visual_decathlon.benchmark.training.swap_class import SwappedClass, swap_class
from visual_decathlon.methods.layers.pointwise import first_order

_TYPES = (torch.float32, torch.bfloat16, torch.float16)


def available(device: torch.device) -> bool:
    """Whether Triton can compile for this device: one of CUDA, from compute capability 7.0 on, or of ROCm."""
    if device.type != "cuda" or find_spec("triton") is None:
        return False
    return torch.cuda.get_device_capability(device) >= (7, 0)


@contextmanager
def fused_norms(network: nn.Module) -> Iterator[None]:
    """Context in which every nn.BatchNorm2d of `network` uses the fused kernels where they can compute its input.

    They can for channels_last input on a device for which they are `available`; everything else is computed as before.
    Blocks that pass their ReLU to the norm (backbones/resnet26) have it in the same kernel. Nothing else changes:
    parameters, names and copies are those of plain norms. Raises ImportError where Triton is missing.
    """
    from visual_decathlon.benchmark.training import norm_kernels  # noqa: F401  (fails here, not in the first step)

    with swap_class(network.modules(), FusedNorm):
        yield


class FusedNorm(SwappedClass, nn.BatchNorm2d):
    """(N, C, H, W) -> the same shape: batch norm, then the sum with `residual`, then ReLU, where requested."""

    plain = nn.BatchNorm2d
    fuses_relu = True

    def forward(self, x: Tensor, residual: Tensor | None = None, relu: bool = False) -> Tensor:
        """Applies norm, `residual` and `relu`; by torch where the kernels cannot compute this input."""
        if self._fits(x) and (residual is None or (relu and self._matches(x, residual))):
            return _Norm.apply(x, residual, self.weight, self.bias, self, relu)
        y = super().forward(x)
        y = y if residual is None else y + residual
        return F.relu(y, inplace=True) if relu else y

    def _fits(self, x: Tensor) -> bool:
        own = (self.weight, self.bias, self.running_mean, self.running_var)
        return (
            (x.is_cuda or _interpreted())
            and x.dtype in _TYPES
            and x.dim() == 4
            and x.shape[1] == self.num_features
            and x.numel() > x.shape[1]  # a single value has no variance: torch raises an error
            and x.is_contiguous(memory_format=torch.channels_last)
            and self.momentum is not None
            and all(t is not None and t.dtype == torch.float32 and t.device == x.device for t in own)
        )

    @staticmethod
    def _matches(x: Tensor, residual: Tensor) -> bool:
        return (
            residual.shape == x.shape
            and residual.device == x.device
            and residual.dtype in _TYPES
            and torch.promote_types(x.dtype, residual.dtype) == residual.dtype
            and residual.is_contiguous(memory_format=torch.channels_last)
        )


def _interpreted() -> bool:
    """Whether Triton's interpreter runs the kernels on the CPU (TRITON_INTERPRET=1): for tests."""
    from visual_decathlon.benchmark.training import norm_kernels

    return norm_kernels.INTERPRETED


class _Norm(torch.autograd.Function):
    """FusedNorm's arithmetic, with the batch's statistics in training and the running ones otherwise."""

    @staticmethod
    def forward(ctx, x, residual, weight, bias, norm, relu):
        from visual_decathlon.benchmark.training.norm_kernels import batch_moments, normalise

        ctx.frozen, ctx.relu, ctx.eps = not norm.training, relu, norm.eps
        running = norm.running_mean, norm.running_var
        if norm.training:
            statistics = batch_moments(x, *running, norm.num_batches_tracked, norm.momentum, norm.eps).unbind()
        else:
            statistics = running
        out = normalise(x, residual, statistics, weight, bias, norm.eps, frozen=ctx.frozen, relu=relu)
        ctx.save_for_backward(x, None if residual is None else out, *statistics, weight, bias)
        return out

    @staticmethod
    def backward(ctx, grad):
        from visual_decathlon.benchmark.training.norm_kernels import gradients

        first_order()
        x, out, mean, spread, weight, bias = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        grad_x, grad_residual, sums = gradients(
            grad.contiguous(memory_format=torch.channels_last),
            x,
            out,
            (mean, spread),
            weight,
            bias,
            ctx.eps,
            frozen=ctx.frozen,
            relu=ctx.relu,
            wants_input=wanted[0],
            wants_affine=wanted[2] or wanted[3],
        )
        return (
            grad_x if wanted[0] else None,
            grad_residual if wanted[1] else None,
            sums[1] if wanted[2] else None,
            sums[0] if wanted[3] else None,
            None,
            None,
        )
