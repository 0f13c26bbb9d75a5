"""Shared by the fused adapters: the weight gradient of a 1x1 convolution, by the faster of two equal ways."""

import torch
from torch import Tensor

LARGE = 2**24  # multiply-adds from which oneDNN's kernel, and code built on it, is faster on a CPU (measured)


def large(y: Tensor, channels: int) -> bool:
    """Whether a 1x1 convolution between y (N, C, H, W) and `channels` others is large work for a CPU, in float32."""
    return y.device.type == "cpu" and y.dtype == torch.float32 and y.numel() * channels >= LARGE


def weight_gradient(grad: Tensor, x: Tensor) -> Tensor:
    """(cout, cin): the sum over images and places of grad (N, cout, H, W) times x (N, cin, H, W).

    On a GPU it uses the convolution's kernel, which divides the long sum among its processors.
    """
    if grad.device.type != "cpu" or large(grad, x.shape[1]):
        like = grad.new_empty(grad.shape[1], x.shape[1], 1, 1)  # its values are not read
        return torch.ops.aten.convolution_backward(
            grad, x, like, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1, [False, True, False]
        )[1][:, :, 0, 0]
    # (N, C, H, W) -> (N H W, C) is a view in channels_last and a copy otherwise.
    return grad.permute(0, 2, 3, 1).reshape(-1, grad.shape[1]).t() @ x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def first_order() -> None:
    """Called first in a backward without a derivative: raises RuntimeError where one is requested (`create_graph`)."""
    if torch.is_grad_enabled():
        raise RuntimeError("a fused layer has no second derivative; set `fused = False` on an adapter")
