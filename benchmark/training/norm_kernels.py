"""Triton kernels of batch norm with ReLU and a residual sum, in both directions, and their launches.

Every tensor (N, C, H, W) is in channels_last and read as N * H * W rows of C channels. Arithmetic is in float32 for
every input type. A sum over rows has two stages: a fixed number P of programs each reduce every P-th tile of rows and
write their partial results, then one small kernel combines these in a fixed order. So there are no atomics, and the
same input gives the same bits. The host reads nothing, and workspaces come from torch's allocator, so that a CUDA graph
can capture everything after a first call, which compiles.

Block sizes depend on C alone, never on a measurement: another choice would round differently.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

COLUMNS = 64  # channels of a tile at most: 128 bytes of bf16 in a row
ELEMENTS = 2048  # of a tile: 16 a thread
PROGRAMS = 512  # that share a reduction: about four for each multiprocessor of a large GPU
COMBINED = 8  # channels that one program combines

# Set explicitly, because Triton 3.10 changes the default (and warns before): the rounding would change.
_OPTIONS = {"num_warps": 4, "enable_fp_fusion": True}

INTERPRETED = triton.knobs.runtime.interpret  # by TRITON_INTERPRET=1: the kernels run on the CPU, for tests

# How a gradient passes the ReLU (MASK): no ReLU, by the sign recomputed from x, or by the output's sign.
NO_RELU, FROM_INPUT, FROM_OUTPUT = (tl.constexpr(i) for i in range(3))


@triton.jit
def _tile(tile, rows, C: tl.constexpr, BR: tl.constexpr, BC: tl.constexpr):
    """The first element of a tile, the offsets (BR, BC) from there, and which of them exist."""
    row = tl.arange(0, BR)
    column = tl.program_id(1) * BC + tl.arange(0, BC)
    exists = (row[:, None] < rows - tile * BR) & (column[None, :] < C)
    return tl.cast(tile, tl.int64) * BR * C, row[:, None] * C + column[None, :], exists


@triton.jit
def _rstd(spread, column, eps, C: tl.constexpr, FROZEN: tl.constexpr):
    """1 / deviation of each channel: `spread` holds it, or the running variance of a frozen norm."""
    value = tl.load(spread + column, mask=column < C, other=1.0)
    if FROZEN:
        value = tl.div_rn(1.0, tl.sqrt_rn(value + eps))
    return value


@triton.jit
def _merged(count, mean, squares):
    """Mean and sum of squared deviations of all rows of (n, 1) counts, (n, BC) means and sums, by Chan et al. 1983.

    The mean is corrected by the remaining mean of the deviations, so that a large mean costs no digits.
    """
    total = tl.sum(count, 0)
    center = tl.sum(count * mean, 0) / total
    off = mean - center[None, :]
    slip = tl.sum(count * off, 0) / total
    return center + slip, tl.sum(squares + count * off * off, 0)


@triton.jit
def _partial_moments(x, partial, rows, tiles, C: tl.constexpr, BR: tl.constexpr, BC: tl.constexpr):
    """partial (2, P, C): each program's mean and sum of squared deviations from it.

    Welford's recurrence for each place of the tile, so that threads exchange nothing until the end.
    """
    first, programs = tl.program_id(0), tl.num_programs(0)
    mean = tl.zeros([BR, BC], tl.float32)
    squares = tl.zeros([BR, BC], tl.float32)
    seen = 0.0
    for tile in range(first, tiles, programs):
        start, at, exists = _tile(tile, rows, C, BR, BC)
        value = tl.load(x + start + at, mask=exists, other=0.0).to(tl.float32)
        seen += 1.0
        off = tl.where(exists, value - mean, 0.0)
        mean += off * (1.0 / seen)
        squares += tl.where(exists, off * (value - mean), 0.0)
    row = tl.arange(0, BR)
    lacking = (first == (tiles - 1) % programs) & (row >= rows - (tiles - 1) * BR)  # of the last tile
    count = seen - lacking.to(tl.float32)
    center, total = _merged(count[:, None], mean, squares)
    column = tl.program_id(1) * BC + tl.arange(0, BC)
    tl.store(partial + first * C + column, center, mask=column < C)
    tl.store(partial + (programs + first) * C + column, total, mask=column < C)


@triton.jit
def _combine_moments(
    partial, moments, running_mean, running_var, tracked, rows, tiles, programs, momentum, eps,
    C: tl.constexpr, BR: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """moments (2, C): the batch's mean and 1 / deviation. Running statistics move as nn.BatchNorm2d moves them."""
    column = tl.program_id(0) * BC + tl.arange(0, BC)
    p = tl.arange(0, BP)
    there = (p[:, None] < programs) & (column[None, :] < C)
    at = p[:, None] * C + column[None, :]
    means = tl.load(partial + at, mask=there, other=0.0)
    squares = tl.load(partial + programs * C + at, mask=there, other=0.0)
    lacking = tl.where(p == (tiles - 1) % programs, tiles * BR - rows, 0)  # of the last tile
    count = tl.where(p < programs, (tiles - p + programs - 1) // programs * BR - lacking, 0).to(tl.float32)
    mean, total = _merged(count[:, None], means, squares)
    kept = column < C
    tl.store(moments + column, mean, mask=kept)
    tl.store(moments + C + column, tl.div_rn(1.0, tl.sqrt_rn(tl.div_rn(total, rows.to(tl.float32)) + eps)), mask=kept)
    old = tl.load(running_mean + column, mask=kept, other=0.0)
    tl.store(running_mean + column, momentum * mean + (1 - momentum) * old, mask=kept)
    old = tl.load(running_var + column, mask=kept, other=0.0)
    tl.store(running_var + column, momentum * (total / (rows - 1)) + (1 - momentum) * old, mask=kept)
    if tl.program_id(0) == 0:
        tl.store(tracked, tl.load(tracked) + 1)


@triton.jit
def _normalise(
    x, residual, out, mean, spread, weight, bias, rows, eps,
    C: tl.constexpr, BR: tl.constexpr, BC: tl.constexpr,
    FROZEN: tl.constexpr, RESIDUAL: tl.constexpr, RELU: tl.constexpr,
):  # fmt: skip
    start, at, exists = _tile(tl.program_id(0), rows, C, BR, BC)
    column = tl.program_id(1) * BC + tl.arange(0, BC)
    scale = _rstd(spread, column, eps, C, FROZEN) * tl.load(weight + column, mask=column < C, other=0.0)
    center = tl.load(mean + column, mask=column < C, other=0.0)
    shift = tl.load(bias + column, mask=column < C, other=0.0)
    value = tl.load(x + start + at, mask=exists, other=0.0).to(tl.float32)
    value = tl.fma(value - center[None, :], scale[None, :], shift[None, :])
    if RESIDUAL:
        value += tl.load(residual + start + at, mask=exists, other=0.0).to(tl.float32)
    if RELU:
        value = tl.where(value < 0, 0.0, value)  # NaN stays NaN, as in torch
    tl.store(out + start + at, value.to(out.dtype.element_ty), mask=exists)


@triton.jit
def _passed(grad, x, out, start, at, exists, center, scale, shift, MASK: tl.constexpr):
    """The part of the gradient that passes the ReLU; `x` holds the tile in float32, `out` is a pointer."""
    if MASK == FROM_INPUT:
        before = tl.fma(x - center, scale, shift).to(out.dtype.element_ty)
        grad = tl.where(before.to(tl.float32) <= 0, 0.0, grad)
    if MASK == FROM_OUTPUT:
        grad = tl.where(tl.load(out + start + at, mask=exists, other=0.0).to(tl.float32) <= 0, 0.0, grad)
    return grad


@triton.jit
def _partial_sums(
    grad, x, out, passed, partial, mean, spread, weight, bias, rows, tiles, eps,
    C: tl.constexpr, BR: tl.constexpr, BC: tl.constexpr,
    FROZEN: tl.constexpr, MASK: tl.constexpr,
):  # fmt: skip
    """partial (2, P, C): each program's sums of g and of g * xhat, g the gradient behind the ReLU.

    With a residual g is written to `passed`, since it is the residual's gradient.
    """
    first, programs = tl.program_id(0), tl.num_programs(0)
    column = tl.program_id(1) * BC + tl.arange(0, BC)
    rstd = _rstd(spread, column, eps, C, FROZEN)
    scale = rstd * tl.load(weight + column, mask=column < C, other=0.0)
    shift = tl.load(bias + column, mask=column < C, other=0.0)
    center = tl.load(mean + column, mask=column < C, other=0.0)
    total = tl.zeros([BR, BC], tl.float32)
    product = tl.zeros([BR, BC], tl.float32)
    for tile in range(first, tiles, programs):
        start, at, exists = _tile(tile, rows, C, BR, BC)
        g = tl.load(grad + start + at, mask=exists, other=0.0).to(tl.float32)
        value = tl.load(x + start + at, mask=exists, other=0.0).to(tl.float32)
        g = _passed(g, value, out, start, at, exists, center[None, :], scale[None, :], shift[None, :], MASK)
        if MASK == FROM_OUTPUT:
            tl.store(passed + start + at, g.to(passed.dtype.element_ty), mask=exists)
        total += g
        product += g * ((value - center[None, :]) * rstd[None, :])
    tl.store(partial + first * C + column, tl.sum(total, 0), mask=column < C)
    tl.store(partial + (programs + first) * C + column, tl.sum(product, 0), mask=column < C)


@triton.jit
def _combine_sums(partial, sums, programs, C: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr):
    """partial (2, P, C) -> sums (2, C)."""
    column = tl.program_id(0) * BC + tl.arange(0, BC)
    p = tl.arange(0, BP)
    there = (p[:, None] < programs) & (column[None, :] < C)
    at = p[:, None] * C + column[None, :]
    tl.store(sums + column, tl.sum(tl.load(partial + at, mask=there, other=0.0), 0), mask=column < C)
    product = tl.sum(tl.load(partial + programs * C + at, mask=there, other=0.0), 0)
    tl.store(sums + C + column, product, mask=column < C)


@triton.jit
def _input_gradient(
    grad, x, out, passed, grad_x, sums, mean, spread, weight, bias, rows, eps,
    C: tl.constexpr, BR: tl.constexpr, BC: tl.constexpr,
    FROZEN: tl.constexpr, MASK: tl.constexpr,
):  # fmt: skip
    """scale * (g - (sum of g + xhat * sum of g xhat) / rows), and scale * g where the statistics are constants."""
    start, at, exists = _tile(tl.program_id(0), rows, C, BR, BC)
    column = tl.program_id(1) * BC + tl.arange(0, BC)
    kept = column < C
    rstd = _rstd(spread, column, eps, C, FROZEN)
    scale = rstd * tl.load(weight + column, mask=kept, other=0.0)
    shift = tl.load(bias + column, mask=kept, other=0.0)
    center = tl.load(mean + column, mask=kept, other=0.0)
    g = tl.load(grad + start + at, mask=exists, other=0.0).to(tl.float32)
    value = g
    if not FROZEN or MASK == FROM_INPUT:
        value = tl.load(x + start + at, mask=exists, other=0.0).to(tl.float32)
    g = _passed(g, value, out, start, at, exists, center[None, :], scale[None, :], shift[None, :], MASK)
    if MASK == FROM_OUTPUT:
        tl.store(passed + start + at, g.to(passed.dtype.element_ty), mask=exists)
    if not FROZEN:
        total = tl.load(sums + column, mask=kept, other=0.0) / rows
        product = tl.load(sums + C + column, mask=kept, other=0.0) / rows
        g -= total[None, :] + (value - center[None, :]) * rstd[None, :] * product[None, :]
    tl.store(grad_x + start + at, (g * scale[None, :]).to(grad_x.dtype.element_ty), mask=exists)


class _Launch:
    """Sizes of the launches for one shape."""

    def __init__(self, x: Tensor):
        self.channels = x.shape[1]
        self.rows = x.numel() // self.channels
        columns = min(triton.next_power_of_2(self.channels), COLUMNS)
        self.tile = {"C": self.channels, "BR": ELEMENTS // columns, "BC": columns}
        self.tiles = triton.cdiv(self.rows, self.tile["BR"])
        across = triton.cdiv(self.channels, columns)
        self.programs = min(self.tiles, PROGRAMS // across or 1)
        self.all = (self.tiles, across)
        self.reducing = (self.programs, across)
        self.combine = {"C": self.channels, "BP": triton.next_power_of_2(self.programs), "BC": COMBINED}
        self.combining = (triton.cdiv(self.channels, COMBINED),)

    def workspace(self, like: Tensor) -> Tensor:
        """An empty tensor (2, programs, channels) for partial results, on the device of `like`."""
        return torch.empty(2, self.programs, self.channels, device=like.device, dtype=torch.float32)


def batch_moments(
    x: Tensor, running_mean: Tensor, running_var: Tensor, tracked: Tensor, momentum: float, eps: float
) -> Tensor:
    """(2, C) float32: mean and 1 / deviation over the batch; updates the running statistics and the count in place."""
    launch = _Launch(x)
    partial = launch.workspace(x)
    moments = torch.empty(2, launch.channels, device=x.device, dtype=torch.float32)
    with torch.cuda.device_of(x):
        _partial_moments[launch.reducing](x, partial, launch.rows, launch.tiles, **launch.tile, **_OPTIONS)
        _combine_moments[launch.combining](
            partial, moments, running_mean, running_var, tracked, launch.rows, launch.tiles, launch.programs,
            momentum, eps, BR=launch.tile["BR"], **launch.combine, **_OPTIONS,
        )  # fmt: skip
    return moments


def normalise(
    x: Tensor,
    residual: Tensor | None,
    statistics: tuple[Tensor, Tensor],
    weight: Tensor,
    bias: Tensor,
    eps: float,
    *,
    frozen: bool,
    relu: bool,
) -> Tensor:
    """weight * (x - mean) / deviation + bias, plus `residual`, then ReLU; in the residual's type where there is one.

    `statistics` are (mean, 1 / deviation), or (mean, variance) of a `frozen` norm, (C,) float32 each.
    """
    launch = _Launch(x)
    out = torch.empty_like(x if residual is None else residual)
    with torch.cuda.device_of(x):
        _normalise[launch.all](
            x, x if residual is None else residual, out, *statistics, weight, bias, launch.rows, eps, **launch.tile,
            FROZEN=frozen, RESIDUAL=residual is not None, RELU=relu, **_OPTIONS,
        )  # fmt: skip
    return out


def gradients(
    grad: Tensor,
    x: Tensor,
    out: Tensor | None,
    statistics: tuple[Tensor, Tensor],
    weight: Tensor,
    bias: Tensor,
    eps: float,
    *,
    frozen: bool,
    relu: bool,
    wants_input: bool,
    wants_affine: bool,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of `normalise` for x, for the residual, and (2, C) for bias and weight; None where not computed.

    `out` is the output where there was a residual. Without one the ReLU's sign is recomputed from x, which is read
    anyway: that saves a pass over memory and has the same bits as the forward pass.
    """
    launch = _Launch(x)
    mask = (NO_RELU if not relu else FROM_INPUT if out is None else FROM_OUTPUT).value
    passed = None if out is None else torch.empty_like(out)
    sums = grad_x = None
    moments = (*statistics, weight, bias)
    outputs = (x, x) if out is None else (out, passed)
    with torch.cuda.device_of(x):
        if wants_affine or not frozen:
            partial = launch.workspace(x)
            sums = torch.empty(2, launch.channels, device=x.device, dtype=torch.float32)
            _partial_sums[launch.reducing](
                grad, x, *outputs, partial, *moments,
                launch.rows, launch.tiles, eps, **launch.tile, FROZEN=frozen, MASK=mask, **_OPTIONS,
            )  # fmt: skip
            _combine_sums[launch.combining](partial, sums, launch.programs, **launch.combine, **_OPTIONS)
            if passed is not None:  # the ReLU has been passed
                grad, mask = passed, NO_RELU.value
        if wants_input or sums is None:
            grad_x = torch.empty_like(x)
            _input_gradient[launch.all](
                grad, x, *outputs, grad_x, x if sums is None else sums, *moments,
                launch.rows, eps, **launch.tile, FROZEN=frozen, MASK=mask, **_OPTIONS,
            )  # fmt: skip
    return grad_x, passed, sums
