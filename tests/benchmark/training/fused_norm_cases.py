"""The fused batch norm against torch's: on a GPU where there is one, else in Triton's interpreter.

Run by test_fused_norm.py in a separate process, because the interpreter is chosen when Triton is imported.
"""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from visual_decathlon.benchmark.backbones.resnet26 import norm_relu, resnet26
from visual_decathlon.benchmark.training import norm_kernels
from visual_decathlon.benchmark.training.fused_norm import FusedNorm, fused_norms
from visual_decathlon.methods.registry import select

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
ROUNDING = {torch.float32: 2.0**-23, torch.float16: 2.0**-10, torch.bfloat16: 2.0**-7}  # of a stored value, at most
KINDS = [(relu, residual) for relu in (False, True) for residual in (False, True) if relu or not residual]


def maps(count, channels, side, dtype=torch.float32, shift=0.0, seed=0):
    """(count, channels, side, side) in channels_last."""
    generator = torch.Generator().manual_seed(seed)
    x = 2 * torch.randn(count, channels, side, side, generator=generator) + shift
    return x.to(DEVICE, dtype).contiguous(memory_format=torch.channels_last)


def norm_of(channels, training=True):
    generator = torch.Generator().manual_seed(1)
    norm = nn.BatchNorm2d(channels)
    with torch.no_grad():
        norm.weight.uniform_(-1.5, 1.5, generator=generator)
        norm.bias.uniform_(-0.5, 0.5, generator=generator)
        norm.running_mean.uniform_(-1, 1, generator=generator)
        norm.running_var.uniform_(0.5, 2, generator=generator)
    return norm.to(DEVICE).train(training)


def computed(norm, x, residual, grad, relu):
    """Output, gradients and statistics by name."""
    x = x.clone().requires_grad_()
    residual = None if residual is None else residual.clone().requires_grad_()
    y = norm_relu(norm, x, residual) if relu else norm(x)
    y.backward(grad)
    out = {"y": y, "x": x.grad, "mean": norm.running_mean, "var": norm.running_var}
    out |= {name: p.grad for name, p in norm.named_parameters() if p.requires_grad}
    return {k: v.detach() for k, v in out.items()} | ({} if residual is None else {"residual": residual.grad})


def by_kernels(norm, *args):
    with fused_norms(norm):
        calls = []
        norm.register_forward_hook(lambda module, inputs, y: calls.append(y.grad_fn.name()))
        out = computed(norm, *args)
    assert calls == ["_NormBackward"]
    return out


def errors(got, exact):
    """Of each tensor, the largest deviation relative to the largest value, or itself where all values are 0."""
    assert got.keys() == exact.keys()
    sizes = {k: float(t.abs().max()) or 1.0 for k, t in exact.items()}
    return {k: float((got[k].double() - t).abs().max()) / sizes[k] for k, t in exact.items()}


@pytest.mark.parametrize(("relu", "residual"), KINDS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("count", "channels", "side"),
    [(3, 8, 17), (2, 16, 12), (1, 96, 6), (2, 256, 3), (2, 64, 9)],
)
def test_as_near_to_float64_as_torch(count, channels, side, training, relu, residual):
    x = maps(count, channels, side, shift=3)
    other = maps(count, channels, side, seed=2) if residual else None
    grad = maps(count, channels, side, seed=3)
    norm = norm_of(channels, training)
    wide = [None if t is None else t.double() for t in (x, other, grad)]
    exact = computed(copy.deepcopy(norm).double(), *wide, relu)
    plain = errors(computed(copy.deepcopy(norm), x, other, grad, relu), exact)
    for name, off in errors(by_kernels(norm, x, other, grad, relu), exact).items():
        assert off <= max(4 * plain[name], 1e-6), (name, off, plain[name])
    assert int(norm.num_batches_tracked) == training


@pytest.mark.parametrize(("relu", "residual"), KINDS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_only_rounds_stored_values(dtype, training, relu, residual):
    """Values and gradients are within their type's rounding of float64's; sums and statistics are float32's."""
    x, grad = maps(2, 32, 9, dtype, shift=3), maps(2, 32, 9, dtype, seed=3)
    other = maps(2, 32, 9, dtype, seed=2) if residual else None
    norm = norm_of(32, training)
    wide = [None if t is None else t.double() for t in (x, other, grad)]
    exact = computed(copy.deepcopy(norm).double(), *wide, relu)
    got = by_kernels(norm, x, other, grad, relu)
    assert all(got[name].dtype == dtype for name in ("y", "x"))
    assert all(got[name].dtype == torch.float32 for name in ("mean", "var", "weight", "bias"))
    for name, off in errors(got, exact).items():
        assert off <= (ROUNDING[dtype] if name in ("y", "x") else 2e-6), (name, off)


def test_a_wider_residual_gives_the_type():
    """As in a sum of torch: bfloat16 plus float32 is float32, and the residual's gradient is too."""
    x, other, grad = maps(2, 8, 6, torch.bfloat16), maps(2, 8, 6, seed=2), maps(2, 8, 6, seed=3)
    norm = norm_of(8)
    exact = computed(copy.deepcopy(norm).double(), x.double(), other.double(), grad.double(), True)
    got = by_kernels(norm, x, other, grad, True)
    assert (got["y"].dtype, got["x"].dtype, got["residual"].dtype) == (torch.float32, torch.bfloat16, torch.float32)
    off = errors(got, exact)
    assert off["y"] <= 1e-6 and off["residual"] == 0 and off["x"] <= ROUNDING[torch.bfloat16]


def test_a_mean_of_a_thousand_deviations_costs_no_digit_more_than_torch():
    x, grad = maps(4, 16, 16, shift=2000), maps(4, 16, 16, seed=3)
    norm = norm_of(16)
    exact = computed(copy.deepcopy(norm).double(), x.double(), None, grad.double(), False)
    plain = errors(computed(copy.deepcopy(norm), x, None, grad, False), exact)
    off = errors(by_kernels(norm, x, None, grad, False), exact)
    assert all(off[name] <= max(2 * plain[name], 1e-6) for name in off), (off, plain)
    assert off["var"] < 1e-6


def test_many_tiles_and_programs_give_the_same_bits_twice(monkeypatch):
    """Programs take several tiles each, the last tile is partial, and the tiles are not divisible by the programs."""
    monkeypatch.setattr(norm_kernels, "PROGRAMS", 3)
    x, other, grad = maps(5, 8, 19), maps(5, 8, 19, seed=2), maps(5, 8, 19, seed=3)
    launch = norm_kernels._Launch(x)
    assert launch.programs == 3 and launch.tiles == 8 and launch.rows % launch.tile["BR"]
    norm = norm_of(8)
    first, second = (by_kernels(copy.deepcopy(norm), x, other, grad, True) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    exact = computed(norm.double(), x.double(), other.double(), grad.double(), True)
    assert max(errors(first, exact).values()) < 2e-6


@pytest.mark.parametrize("residual", [False, True])
def test_unneeded_gradients_are_not_computed(residual, monkeypatch):
    """A frozen norm with frozen affine values needs one pass; bias and weight alone need no input gradient."""
    ran = []
    for name in ("_partial_sums", "_input_gradient"):
        kernel = getattr(norm_kernels, name)
        monkeypatch.setattr(norm_kernels, name, _Recorded(kernel, name, ran))
    x, other = maps(2, 8, 6), maps(2, 8, 6, seed=2) if residual else None
    norm = norm_of(8, training=False).requires_grad_(False)
    grad = maps(2, 8, 6, seed=3)
    exact = computed(copy.deepcopy(norm).double(), *(t if t is None else t.double() for t in (x, other, grad)), True)
    assert max(errors(by_kernels(norm, x, other, grad, True), exact).values()) < 1e-6
    assert ran == ["_input_gradient"]
    ran.clear()
    norm = norm_of(8)
    norm.weight.requires_grad_(False)
    with fused_norms(norm):
        norm_relu(norm, x, other).backward(grad)
    assert ran == ["_partial_sums"] and norm.bias.grad is not None and norm.weight.grad is None


class _Recorded:
    """A kernel that records its launches in `ran`."""

    def __init__(self, kernel, name, ran):
        self.kernel, self.name, self.ran = kernel, name, ran

    def __getitem__(self, grid):
        self.ran.append(self.name)
        return self.kernel[grid]


def test_not_a_number_passes_as_in_torch():
    x, grad = maps(2, 8, 6), maps(2, 8, 6, seed=3)
    x[0, 0, 0, 0] = float("nan")
    norm = norm_of(8)
    plain = computed(copy.deepcopy(norm), x, None, grad, True)
    got = by_kernels(norm, x, None, grad, True)
    for name in plain:
        assert torch.equal(plain[name].isnan(), got[name].isnan()), name


def test_any_layout_of_a_gradient_is_taken():
    """The mean over a map gives one that is expanded from a number."""
    x, norm = maps(2, 8, 6).requires_grad_(), norm_of(8)
    plain = torch.autograd.grad(norm_relu(copy.deepcopy(norm), x).mean((2, 3)).square().sum(), x)[0]
    with fused_norms(norm):
        got = torch.autograd.grad(norm_relu(norm, x).mean((2, 3)).square().sum(), x)[0]
    torch.testing.assert_close(got, plain, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["contiguous", "float64", "no momentum", "no affine"])
def test_unsupported_inputs_are_computed_by_torch_to_the_bit(kind):
    x, other, norm = maps(2, 8, 6), maps(2, 8, 6, seed=2), norm_of(8)
    if kind == "contiguous":
        x = x.contiguous()
    elif kind == "float64":
        x, other, norm = x.double(), other.double(), norm.double()
    elif kind == "no momentum":
        norm.momentum = None
    else:
        norm = nn.BatchNorm2d(8, affine=False).to(DEVICE)
    plain = norm_relu(copy.deepcopy(norm), x, other)
    with fused_norms(norm):
        assert torch.equal(norm_relu(norm, x, other), plain)


def test_one_value_a_channel_is_refused_as_by_torch():
    norm = norm_of(8)
    with fused_norms(norm), pytest.raises(ValueError, match="more than 1 value per channel"):
        norm(maps(1, 8, 1))


def test_there_is_no_second_derivative():
    norm, x = norm_of(8), maps(2, 8, 6).requires_grad_()
    with fused_norms(norm), pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(norm(x).sum(), x, create_graph=True)


def test_nothing_is_left_behind_and_copies_are_plain():
    network = resnet26(3, 0.25).to(DEVICE)
    names = list(network.state_dict())
    with fused_norms(network):
        assert type(network.body.norm) is FusedNorm and list(network.state_dict()) == names
        with fused_norms(network):
            assert type(network.body.norm) is FusedNorm
        assert type(network.body.norm) is FusedNorm
        for copied in (copy.copy(network.body.norm), copy.deepcopy(network).body.norm):
            assert type(copied) is nn.BatchNorm2d
        assert type(pickle.loads(pickle.dumps(network.body.norm))) is nn.BatchNorm2d
    kinds = {type(m) for m in network.modules()}
    assert FusedNorm not in kinds and nn.BatchNorm2d in kinds


def graph_of(value) -> list[str]:
    """Names of all nodes of a value's autograd graph."""
    seen, todo = set(), [value.grad_fn]
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            todo += [parent for parent, _ in node.next_functions]
    return [node.name() for node in seen]


def step(method, x, y, kernels, double=False):
    """Loss, gradients and statistics of one step from a fixed start, and the names of the loss's autograd graph."""
    torch.manual_seed(0)
    source = resnet26(3, 0.25 * method.width_multiplier)
    if method.backbone_structure == "series":
        from visual_decathlon.methods.layers.series import put_series

        put_series(source)
    source = source.for_size(x.shape[-1])
    source = source.requires_grad_(False).eval().to(DEVICE, memory_format=torch.channels_last)
    network = method.place(source, 5).train().to(DEVICE, memory_format=torch.channels_last)
    network = network.double() if double else network
    x = x.double() if double else x
    if kernels:
        with fused_norms(network):
            loss, _ = method.loss(network, x, y, F.cross_entropy)
            loss.backward()
    else:
        loss, _ = method.loss(network, x, y, F.cross_entropy)
        loss.backward()
    out = {name: p.grad for name, p in network.named_parameters() if p.requires_grad}
    out |= {name: b for name, b in network.named_buffers() if "running" in name}
    return {"loss": loss.detach()} | out, graph_of(loss)


@pytest.mark.parametrize("spec", ["par_adapter", "res_adapter", "bn_adapt", "finetune", "ssf", "bitfit", "houlsby"])
def test_a_step_of_a_method(spec):
    """Every norm uses the kernels; loss, gradients and statistics equal torch's up to rounding."""
    (method,) = select(spec)
    x, y = maps(6, 3, 16), torch.arange(6, device=DEVICE) % 5
    exact, _ = step(method, x, y, kernels=False, double=True)
    plain, before = step(method, x, y, kernels=False)
    got, graph = step(method, x, y, kernels=True)
    norms = [sum("BatchNorm" in name for name in names) for names in (before, graph)]
    assert norms[0] and norms[1] == 0 and graph.count("_NormBackward") == norms[0]
    # What these three put behind a norm has the ReLU behind it; the kernel of the others' norms computes it.
    assert ("ReluBackward0" in graph) == (spec in ("ssf", "bitfit", "houlsby"))
    off, allowed = errors(got, exact), errors(plain, exact)
    for name in off:
        assert off[name] <= max(10 * allowed[name], 1e-4), (name, off[name], allowed[name])
