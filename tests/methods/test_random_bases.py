"""VeRA and RandLoRA against HF PEFT and loops; their shared random matrices, sizes and counts."""

from dataclasses import replace
from math import ceil

import pytest
import torch
from torch import nn
from torch.func import functional_call

from tests.adapters import GEOMETRIES, each_of, moved_adapter
from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.layers.network import own_tensors, restore, stored_tensors
from visual_decathlon.methods.layers.random_bases import RandomBasisConv
from visual_decathlon.methods.random_bases import RandLora, Vera
from visual_decathlon.methods.registry import select
from visual_decathlon.methods.shapes import ConvShape

FAMILY = [Vera(20), Vera(3, basis_seed=4), RandLora(5), RandLora(4), RandLora(24)]
ALL_GEOMETRIES = [*GEOMETRIES, GEOMETRIES[-1] | {"groups": 4}]
families = pytest.mark.parametrize("method", FAMILY, ids=lambda method: method.full_spec)
geometries = each_of(ALL_GEOMETRIES)


def moved(method, geometry, dtype=torch.float32):
    return moved_adapter(method, geometry, 8, 24, dtype)


def by_terms(method, layer) -> torch.Tensor:
    """ΔM (cout, n) as a sum of matrices of rank one."""
    matrix = layer.conv.weight.flatten(1)
    first, second = layer.bases()
    delta = torch.zeros_like(matrix)
    if isinstance(method, Vera):
        for k in range(method.rank):
            delta += layer.d[k] * torch.outer(layer.b * first[:, k], second[k])
        return delta * 10 / (method.rank * matrix.shape[1]) ** 0.5
    rank = len(second)
    transposed = len(matrix) < matrix.shape[1]
    for j in range(ceil(min(matrix.shape) / rank)):
        for k in range(rank):
            term = torch.outer(first[rank * j + k], second[k] * (1 + layer.columns[j])) * layer.rows[j, k]
            delta += term.T if transposed else term
    return delta / matrix.numel() ** 0.5


@families
@geometries
def test_delta_is_the_sum_of_its_terms(method, geometry):
    conv, layer, _ = moved(method, geometry, torch.float64)
    delta = by_terms(method, layer).view_as(conv.weight)
    x = torch.randn(2, 8, 9, 11, dtype=torch.float64)
    wanted = conv(x) + conv._conv_forward(x, delta, None)
    torch.testing.assert_close(layer(x), wanted)
    torch.testing.assert_close(layer.merge()(x), wanted)


@pytest.mark.parametrize(("cin", "cout"), [(40, 24), (24, 40), (32, 32)])
@pytest.mark.parametrize("method", [Vera(20), RandLora(5), RandLora(8)], ids=lambda m: m.spec)
def test_delta_is_pefts(method, cin, cout):
    """On a linear layer, with the same random matrices, vectors and scale."""
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    conv = nn.Conv2d(cin, cout, 1).requires_grad_(False)
    layer = method.layer(conv)
    own = {name: nn.init.normal_(p) for name, p in layer.named_parameters() if p.requires_grad}
    linear = nn.Linear(cin, cout)
    with torch.no_grad():
        linear.weight.copy_(conv.weight.flatten(1))
    if isinstance(method, Vera):
        config = peft.VeraConfig(r=method.rank, target_modules=["0"])
        model = peft.get_peft_model(nn.Sequential(linear), config).base_model.model[0]
        model.vera_B["default"], model.vera_A["default"] = layer.bases()
        held = {"b": model.vera_lambda_b, "d": model.vera_lambda_d}
        values = {"b": layer.scale * own["b"], "d": own["d"]}
    else:
        config = peft.RandLoraConfig(r=method.rank, randlora_alpha=method.rank, target_modules=["0"])
        model = peft.get_peft_model(nn.Sequential(linear), config).base_model.model[0]
        first, second = layer.bases()
        # HF PEFT numbers the columns of all B_j together by (k, j), and holds them as (max, j, k): the same formula
        # with the random columns in another order.
        columns = first.view(-1, method.rank, first.shape[1]).permute(2, 1, 0).reshape(first.shape[1], -1)
        model.randlora_B["default"] = columns.view(first.shape[1], -1, method.rank)
        model.randlora_A["default"] = second[:, None]
        held = {"rows": model.randlora_lambda, "columns": model.randlora_gamma}
        values = {"rows": layer.scale * own["rows"].T, "columns": 1 + own["columns"]}
    with torch.no_grad():
        for name, value in values.items():
            assert held[name]["default"].shape == value.shape
            held[name]["default"].copy_(value)
        torch.testing.assert_close(
            layer.adapted_weight() - conv.weight,
            model.get_delta_weight("default").view_as(conv.weight),
            rtol=1e-5,
            atol=1e-5,
        )
        x = torch.randn(3, cin)
        got = layer(x[:, :, None, None])[:, :, 0, 0] - conv.bias + linear.bias
        torch.testing.assert_close(got, model(x), rtol=1e-5, atol=1e-5)


@families
@geometries
def test_the_start_and_its_lengths(method, geometry):
    """The identity; a step in one number of VeRA's b, or of λ, is about as long in W."""
    torch.manual_seed(0)
    conv = nn.Conv2d(32, 40, **geometry).requires_grad_(False)
    layer = method.layer(conv)
    assert torch.equal(layer.adapted_weight(), conv.weight)
    first = layer.b if isinstance(method, Vera) else layer.rows
    lengths = []
    for number in range(min(10, first.numel())):
        with torch.no_grad():
            first.zero_().view(-1)[number] = 1
            lengths.append((layer.adapted_weight() - conv.weight).norm())
    assert 0.8 < float(torch.stack(lengths).square().mean().sqrt()) < 1.25


@families
def test_gradients_are_finite_differences(method):
    for geometry in ALL_GEOMETRIES:
        _, layer, own = moved(method, geometry, torch.float64)
        x = torch.randn(2, 8, 6, 7, dtype=torch.float64)
        run = lambda *values, layer=layer, x=x, own=own: functional_call(layer, dict(zip(own, values)), (x,))
        assert torch.autograd.gradcheck(run, tuple(own.values()), fast_mode=True)


@families
@geometries
def test_counts_are_the_closed_form(method, geometry):
    conv, _, own = moved(method, geometry)
    assert sum(p.numel() for p in own.values()) == method.new_floats(ConvShape.of(conv))


def test_counts_of_the_papers():
    """VeRA: layers x (d_model + rank), and d_model is cout; RandLoRA by hand."""
    shapes = resnet26_shapes()
    assert f"{Vera().multiplier(shapes):.2f}" == "1.03" and f"{RandLora().multiplier(shapes):.2f}" == "1.15"
    assert Vera().floats(shapes) == shapes.affine + sum(c.cout for c in shapes.convs) + 25 * 256
    assert Vera(1024).new_floats(ConvShape(1024, 1024, (1, 1))) == 1024 + 1024
    assert RandLora(6).new_floats(ConvShape(768, 768, (1, 1))) == 128 * (6 + 768)
    assert RandLora(8).new_floats(ConvShape(3, 32, (3, 3))) == 4 * (8 + 27)
    assert RandLora(64).new_floats(ConvShape(3, 32, (3, 3))) == 27 + 27


def test_randlora_has_full_rank():
    for rank in (1, 5, 8):
        _, layer, _ = moved(RandLora(rank), {"kernel_size": 3}, torch.float64)
        assert torch.linalg.matrix_rank((layer.adapted_weight() - layer.conv.weight).flatten(1)) == 24


@pytest.mark.parametrize("spec", ["vera", "randlora", "randlora(rank=30)"])
def test_all_layers_of_a_network_use_one_pair(spec):
    """As large as the largest layer needs, in memory once, not stored, the same for every run and domain."""
    (method,) = select(spec)
    source = resnet26(3, 0.25).requires_grad_(False).eval()
    networks = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        networks.append(method.place(source, 4))
    layers = [m for m in networks[0].modules() if isinstance(m, RandomBasisConv)]
    frozen = {n: t for n, t in own_tensors(networks[0], source).items() if n.endswith((".first", ".second"))}
    assert len(layers) == 25 and len(frozen) == 2
    assert not [name for name in stored_tensors(networks[0], source) if name in frozen]
    first, second = frozen.values()
    for layer in layers:
        for part, whole, shape in zip(layer.bases(), (first, second), layer.needed(layer.conv), strict=True):
            assert part.shape == shape and part.data_ptr() == whole.data_ptr()
    assert first.shape == (64, 256 if method.name == "vera" else 576) or method.rank == 30
    for name, t in frozen.items():
        assert torch.equal(t, own_tensors(networks[1], source)[name])
    assert restore(networks[1], source, stored_tensors(networks[0], source)) == ""
    other = own_tensors(replace(method, basis_seed=1).place(source, 4), source)
    assert not any(torch.equal(other[name], t) for name, t in frozen.items())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Vera(rank=0), r"vera\(rank=0\): rank must be 1 or more"),
        (lambda: Vera(basis_seed=-1), r"vera\(basis_seed=-1\): a seed is 0 or more and below 2\*\*30"),
        (lambda: RandLora(basis_seed=2**30), r"randlora\(basis_seed=1073741824\): a seed is 0 or more"),
        (lambda: RandLora(rank=0), r"randlora\(rank=0\): rank must be 1 or more"),
        (lambda: Vera(rank=100_000), r"would have 256,000,000 numbers, more than .* \(ranks up to \d+ are taken\)"),
        (lambda: RandLora(rank=300), r"randlora\(rank=300\): the rank is larger than every matrix"),
    ],
)
def test_what_fits_nowhere_is_refused(make, words):
    with pytest.raises(InputError, match=words):
        make().check(resnet26_shapes())


def test_the_largest_rank_of_vera():
    """Where B (256, rank) and A (rank, 2304) have as many numbers as the convolutions, but not below the paper's."""
    shapes = resnet26_shapes()
    largest = sum(c.floats for c in shapes.convs) // (256 + 2304)
    assert largest > 1024
    Vera(rank=largest).check(shapes)
    with pytest.raises(InputError, match=rf"^vera\(rank={largest + 1}\): .*up to {largest} are taken\); lower it$"):
        Vera(rank=largest + 1).check(shapes)
    Vera(rank=1024).check(resnet26_shapes(0.125))
    with pytest.raises(InputError, match="up to 1024 are taken"):
        Vera(rank=1025).check(resnet26_shapes(0.125))
