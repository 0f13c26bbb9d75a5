"""OFT, BOFT and HRA against HF PEFT and matrices written out; their invariants, blocks and counts."""

import pytest
import torch
from torch import nn
from torch.func import functional_call

from tests.adapters import GEOMETRIES, geometries, moved_adapter
from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.layers.orthogonal import HRAConv, OFTConv, cayley
from visual_decathlon.methods.orthogonal import BOFT, HRA, OFT
from visual_decathlon.methods.registry import select
from visual_decathlon.methods.shapes import ConvShape

FAMILY = [OFT(4, "left"), OFT(6), BOFT(2, 3), BOFT(4, 1), HRA(6), HRA(3)]
families = pytest.mark.parametrize("method", FAMILY, ids=lambda method: method.full_spec)


def moved(method, geometry, dtype=torch.float64):
    conv, layer, own = moved_adapter(method, geometry, 16, 12, dtype, std=0.5)
    return conv, layer, *own.values()


def matrix(layer) -> torch.Tensor:
    """Q of Q M or M Qᵀ, written out from its definition."""
    if isinstance(layer, HRAConv):
        eye = torch.eye(len(layer.u), dtype=layer.u.dtype)
        return torch.linalg.multi_dot([eye, *(eye - 2 * torch.outer(u, u) / (u @ u) for u in layer.u.T)]).T
    if isinstance(layer, OFTConv):
        return torch.block_diag(*cayley(layer.free, layer.block))
    half, n = layer.block // 2, layer.conv.weight[0].numel()
    q = torch.eye(n, dtype=layer.free.dtype)
    for level, blocks in enumerate(cayley(layer.free, layer.block)):
        butterfly = torch.zeros_like(q)
        firsts = [h for h in range(n // half) if not h >> level & 1]
        for block, first in zip(blocks, firsts, strict=True):
            at = torch.tensor([h * half + k for h in (first, first + 2**level) for k in range(half)])
            butterfly[at[:, None], at] = block
        q = butterfly @ q
    return q


@families
@geometries
def test_it_is_the_matrix_written_out(method, geometry):
    conv, layer, _ = moved(method, geometry)
    q = matrix(layer)
    x = torch.randn(2, 16, 9, 8, dtype=torch.float64)
    if isinstance(layer, OFTConv) and layer.side == "left":  # a mix of filters is a mix of output channels
        bias = 0 if conv.bias is None else conv.bias[:, None, None]
        wanted = torch.einsum("ij,njhw->nihw", q, conv(x) - bias) + bias
    else:
        wanted = conv._conv_forward(x, (conv.weight.flatten(1) @ q.T).view_as(conv.weight), conv.bias)
    torch.testing.assert_close(layer(x), wanted, rtol=0, atol=1e-12)
    assert (layer(x) - conv(x)).abs().max() > 0.05
    assert torch.equal(layer.merge()(x), layer(x))


@families
@geometries
def test_what_a_rotation_keeps(method, geometry):
    """Q is orthogonal and keeps angles and lengths of filters, or of columns. HRA of odd rank reflects."""
    conv, layer, own = moved(method, geometry)
    q, eye = matrix(layer), torch.eye
    torch.testing.assert_close(q @ q.T, eye(len(q), dtype=q.dtype), rtol=0, atol=1e-12)
    sign = -1 if isinstance(method, HRA) and method.rank % 2 else 1
    assert torch.linalg.det(q).item() == pytest.approx(sign)
    before, after = conv.weight.flatten(1), layer.adapted_weight().flatten(1)
    gram = (lambda m: m.T @ m) if len(q) == len(before) and method.spec.startswith("oft") else (lambda m: m @ m.T)
    torch.testing.assert_close(gram(after), gram(before), rtol=0, atol=1e-12)
    if not isinstance(method, HRA):
        nn.init.zeros_(own)
        assert torch.equal(layer.adapted_weight(), conv.weight)


def test_only_the_right_side_keeps_the_angles_between_filters():
    """The paper's invariant, cosines between pairs of filters; Diag-OFT mixes filters and keeps those of columns."""
    cosines = lambda m: torch.nn.functional.normalize(m, dim=1) @ torch.nn.functional.normalize(m, dim=1).T
    for method, keeps in ((OFT(), True), (OFT(block=4, side="left"), False)):
        conv, layer, _ = moved(method, GEOMETRIES[0])
        off = (cosines(layer.adapted_weight().flatten(1)) - cosines(conv.weight.flatten(1))).abs().max()
        assert (off < 1e-12) if keeps else (off > 0.05)


@families
def test_gradients_are_finite_differences(method):
    for geometry in GEOMETRIES[1::3]:
        _, layer, own = moved(method, geometry)
        x = torch.randn(1, 16, 3, 4, dtype=torch.float64)
        name = "u" if isinstance(method, HRA) else "free"
        run = lambda value, layer=layer, name=name, x=x: functional_call(layer, {name: value}, (x,))
        assert torch.autograd.gradcheck(run, (own,), fast_mode=True)


def test_cayley_of_two_is_the_rotation_by_twice_the_arc_tangent():
    s = torch.tensor([[0.0], [0.3], [-2.0]], dtype=torch.float64)
    angle = 2 * torch.atan(s[:, 0])
    cos, sin = angle.cos(), angle.sin()
    wanted = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)
    torch.testing.assert_close(cayley(s, 2), wanted)


def peft_layer(config, conv):
    peft = pytest.importorskip("peft")
    return peft.get_peft_model(nn.Sequential(conv), config).base_model.model[0]


@pytest.mark.parametrize("rank", [3, 6])
@pytest.mark.filterwarnings("ignore:The symmetric initialization")
def test_hra_is_pefts(rank):
    peft = pytest.importorskip("peft")
    conv, layer, own = moved(HRA(rank), GEOMETRIES[0], torch.float32)
    other = peft_layer(peft.HRAConfig(r=rank, target_modules=["0"]), conv)
    with torch.no_grad():
        other.hra_u["default"].copy_(own)
        wanted = (conv.weight.flatten(1) @ other.get_delta_weight("default")).view_as(conv.weight)
    torch.testing.assert_close(layer.adapted_weight(), wanted, rtol=1e-5, atol=1e-6)


def test_oft_is_pefts_where_its_geometry_is_right():
    peft = pytest.importorskip("peft")
    conv, layer, own = moved(OFT(4), {"kernel_size": 1, "stride": 2}, torch.float32)
    other = peft_layer(peft.OFTConfig(r=0, oft_block_size=4, use_cayley_neumann=False, target_modules=["0"]), conv)
    x = torch.randn(2, 16, 5, 6)
    with torch.no_grad():
        other.oft_R["default"].weight.copy_(own)
        torch.testing.assert_close(layer(x), other(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("block", "factors"), [(4, 1), (4, 2), (2, 4), (8, 2), (6, 4)])
def test_boft_is_pefts(block, factors, monkeypatch):
    """PEFT's own butterflies and Cayley; its CUDA kernel, which only lays blocks on a diagonal, in PyTorch."""
    peft = pytest.importorskip("peft")
    from peft.tuners.boft import layer as module

    class Diagonal:
        apply = staticmethod(lambda blocks: torch.stack([torch.block_diag(*each) for each in blocks]))

    monkeypatch.setattr(module, "get_fbd_cuda", lambda: True)
    monkeypatch.setattr(module, "FastBlockDiag", Diagonal)
    conv, layer, own = moved(BOFT(block, factors), GEOMETRIES[0], torch.float32)
    assert own.shape == (factors, 144 // block, block * (block - 1) // 2)
    config = peft.BOFTConfig(boft_block_size=block, boft_n_butterfly_factor=factors, target_modules=["0"])
    other = peft_layer(config, conv)
    with torch.no_grad():
        rows, cols = torch.triu_indices(block, block, 1)
        other.boft_R["default"][..., rows, cols] = 2 * own  # HF PEFT uses half of R - Rᵀ
        q, _ = other.get_delta_weight("default")
        wanted = (q @ conv.weight.flatten(1).T).T.view_as(conv.weight)
    torch.testing.assert_close(layer.adapted_weight(), wanted, rtol=1e-5, atol=1e-6)


def test_blocks_that_do_not_divide():
    """The largest divisor is used and counted; a convolution without one is named, as with BOFT."""
    conv = lambda cin, cout, k=3, groups=1: ConvShape(cin, cout, (k, k), groups)
    left, right = OFT(32, "left"), OFT(32)
    assert [left.block_at(conv(8, c)) for c in (64, 48, 20, 37)] == [32, 24, 20, 1]
    assert [right.block_at(c) for c in (conv(3, 32), conv(32, 64), conv(3, 64, 7))] == [27, 32, 21]
    assert left.block_at(conv(64, 64, groups=4)) == 16
    assert left.skip_reason(conv(8, 37)) == "its 37 filters of a group make no equal blocks of 2 to 32"
    assert "1 filters" in left.skip_reason(conv(64, 64, groups=64)) and not right.skip_reason(conv(64, 64, groups=64))
    assert BOFT().skip_reason(conv(3, 32)) == "its 27 columns make no blocks of 4"
    assert [BOFT().factors_at(conv(c, 8)) for c in (4, 8, 16, 64)] == [1, 2, 3, 4]
    assert "negate" in HRA().skip_reason(conv(8, 8, 1, groups=8))
    assert [HRA(r).rank_at(conv(3, 8, 1)) for r in (2, 3, 4, 5)] == [2, 3, 2, 3]


@pytest.mark.parametrize(
    ("spec", "part"),
    [
        ("oft(block=1)", "2 or more"),
        ("oft(block=4096)", "the largest has 2304 columns"),
        ("oft(block=4096, side='left')", "the largest has 256 rows"),
        ("boft(block=3)", "even"),
        ("boft(factors=0)", "1 or more"),
        ("boft(factors=9)", "butterflies"),
        ("boft(block=10)", "make no blocks of 10"),
        ("hra(rank=0)", "1 or more"),
        ("hra(rank=3000)", "lower it"),
    ],
)
def test_options_that_fit_nothing(spec, part):
    with pytest.raises(InputError, match=part):
        select(spec)[0].check(resnet26_shapes())


def test_multipliers():
    shapes = resnet26_shapes()
    printed = {"oft": "1.74", "oft(side='left')": "1.10", "boft": "1.29", "hra": "1.39"}
    assert {spec: f"{select(spec)[0].multiplier(shapes):.2f}" for spec in printed} == printed
    assert OFT(side="left").floats(shapes) == 7_744 + sum(c.cout // 32 * 496 for c in shapes.convs)
    stem, *others = shapes.convs  # 27 columns make one block of 27
    assert OFT().floats(shapes) == 7_744 + 27 * 26 // 2 + sum(c.fan_in // 32 * 496 for c in others)
    assert stem.fan_in == 27
    assert HRA().floats(shapes) == 7_744 + sum(8 * c.fan_in for c in shapes.convs)


@pytest.mark.parametrize("rank", [2, 7, 8])
def test_hra_starts_where_it_says(rank):
    method = HRA(rank)
    layer = method.layer(nn.Conv2d(16, 32, 3).requires_grad_(False))
    off = ((layer.adapted_weight() - layer.conv.weight).norm() / layer.conv.weight.norm()).item()
    assert off < 1e-6 if method.start == "identity" else off > 0.1
    torch.testing.assert_close(layer.u.norm(dim=0), torch.ones(rank))


@families
def test_bfloat16(method):
    """It runs under autocast, including a triangular solve, which has no bfloat16."""
    _, layer, _ = moved(method, GEOMETRIES[0], torch.float32)
    x = torch.randn(2, 16, 9, 8)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), layer(x), rtol=0.05, atol=0.05)
