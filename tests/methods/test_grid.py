"""The talk's twelve adapters against grouped convolutions, copies and sums written out."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import gradcheck

from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.layers.network import merge_for_inference
from visual_decathlon.methods.registry import select
from visual_decathlon.methods.shapes import ConvShape, Shapes

TWELVE = select("grid")
twelve = pytest.mark.parametrize("method", TWELVE, ids=lambda method: method.spec)
GEOMETRIES = {
    "plain": {"kernel_size": 3, "padding": 1},
    "stride": {"kernel_size": 3, "padding": 1, "stride": 2},
    "dilation": {"kernel_size": 3, "padding": 2, "dilation": 2},
    "non-square": {"kernel_size": (3, 5), "padding": (1, 2), "stride": (2, 1)},
    "bias, reflect": {"kernel_size": 3, "padding": 1, "padding_mode": "reflect", "bias": True},
    "bias, 1x1": {"kernel_size": 1, "stride": 2, "bias": True},
}
geometry = pytest.mark.parametrize("how", GEOMETRIES.values(), ids=GEOMETRIES)


def stirred(adapter):
    """Sets λ and A to random values."""
    with torch.no_grad():
        for p in adapter.mix.parameters():
            p.normal_()
    return adapter


def conv_of(how, cin: int = 4, cout: int = 8) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(cin, cout, **{"bias": False, **how}).double().requires_grad_(False)


def written_out(method, conv, mix, x):
    y = conv(x)
    z = y if method.arrangement == "serial" else x[:, :, :: conv.stride[0], :: conv.stride[1]]
    weight = mix.weight[:, :, None, None]
    if method.conv == "group":
        g = F.conv2d(z, weight, groups=method.group_count)
    elif method.conv == "copy_concat":
        g = torch.cat([F.conv2d(z, weight)] * (conv.out_channels // len(weight)), dim=1)
    else:
        g = F.conv2d(z, weight)
    return y + (g if mix.scale is None else mix.scale * g)


@geometry
@twelve
def test_both_paths_and_the_fold(method, how):
    conv = conv_of(how)
    adapter, x = stirred(method.layer(conv)), torch.randn(2, 4, 9, 11, dtype=torch.float64)
    wanted = written_out(method, conv, adapter.mix, x)
    assert (wanted - conv(x)).abs().max() > 0.1
    for got in (adapter(x), adapter.merge()(x)):
        assert torch.allclose(got, wanted, rtol=1e-10, atol=1e-10)
    adapter.fused = False
    assert torch.allclose(adapter(x), wanted, rtol=1e-10, atol=1e-10)


@twelve
def test_gradients(method):
    adapter, x = method.layer(conv_of(GEOMETRIES["stride"])), torch.randn(2, 4, 5, 4, dtype=torch.float64)
    trained = [torch.randn_like(p).requires_grad_() for p in adapter.mix.parameters()]
    names = [f"mix.{name}" for name, _ in adapter.mix.named_parameters()]
    probe = torch.randn_like(adapter(x))

    def loss(x, *tensors):
        return (torch.func.functional_call(adapter, dict(zip(names, tensors, strict=True)), (x,)) * probe).sum()

    assert gradcheck(loss, (x.requires_grad_(), *trained))


@twelve
def test_never_both_zero(method):
    torch.manual_seed(0)
    mix = method.layer(conv_of(GEOMETRIES["plain"])).mix
    if method.scale == "learned":
        assert mix.scale == 0 and mix.weight.abs().min() > 0
    else:
        assert mix.scale is None and mix.weight.abs().max() == 0


@twelve
def test_every_tensor_has_a_gradient_in_three_steps(method):
    torch.manual_seed(0)
    source = resnet26(3, 0.125).requires_grad_(False).eval()
    network = method.place(source, 4)
    x, y = torch.randn(8, 3, 16, 16), torch.arange(8) % 4
    with torch.no_grad():
        assert torch.equal(network.eval().body(x), source.body(x))
    trained = {n: p for n, p in network.named_parameters() if p.requires_grad}
    before = {n: p.detach().clone() for n, p in trained.items()}
    optimiser = torch.optim.SGD(trained.values(), 0.02, momentum=0.9)
    largest = dict.fromkeys(trained, 0.0)
    network.train()
    for _ in range(3):
        optimiser.zero_grad()
        F.cross_entropy(network(x), y).backward()
        for n, p in trained.items():
            largest[n] = max(largest[n], float(p.grad.abs().max()))
        optimiser.step()
    for n, p in trained.items():
        assert largest[n] > 1e-9 * max(largest.values()) and not torch.equal(p, before[n]), n
    with torch.no_grad():
        wanted = network.eval()(x)
        assert (merge_for_inference(network)(x) - wanted).abs().max() <= 1e-5 * wanted.abs().max()


def test_counts_at_width_one():
    """`matching` counts as par_adapter, or a square if serial; copies and groups have half, without a parallel stem."""
    shapes, affine = resnet26_shapes(), 7_744
    parallel, behind = 652_960 - affine, sum(c.cout**2 for c in shapes.convs)
    wanted = {
        ("serial", "matching"): behind,
        ("serial", "copy_concat"): behind // 2,
        ("serial", "group"): behind // 2,
        ("parallel", "matching"): parallel,
        ("parallel", "copy_concat"): (parallel - 3 * 32) // 2,
        ("parallel", "group"): (parallel - 3 * 32) // 2,
    }
    for method in TWELVE:
        scales = len(method.adapted(shapes)) if method.scale == "learned" else 0
        assert method.floats(shapes) == affine + wanted[method.arrangement, method.conv] + scales, method.spec
    assert [f"{m.multiplier(shapes):.2f}" for m in TWELVE if m.scale == "none"] == (
        ["2.08", "1.55", "1.55", "2.01", "1.51", "1.51"]
    )


@pytest.mark.parametrize(
    ("cin", "cout", "copies"), [(4, 8, 2), (4, 12, 3), (8, 8, 2), (8, 4, 2), (4, 6, None), (5, 5, None), (8, 3, None)]
)
def test_copies_beside(cin: int, cout: int, copies: int | None):
    """cout / cin copies where channels grow, 2 elsewhere, and no adapter where that is no whole number."""
    (method,) = select("adapter(conv='copy_concat', scale='none')")
    shape = ConvShape(cin, cout, (3, 3))
    if copies is None:
        assert "no whole number of copies" in method.skip_reason(shape)
    else:
        assert not method.skip_reason(shape)
        assert method.layer(conv_of(GEOMETRIES["plain"], cin, cout)).mix.weight.shape == (cout // copies, cin)
        assert method.new_floats(shape) == cin * cout // copies


@pytest.mark.parametrize(
    ("spec", "shape", "message"),
    [
        ("adapter", ConvShape(4, 8, (3, 3), groups=2), "2 groups"),
        ("adapter(arrangement='serial')", ConvShape(4, 8, (3, 3), groups=2), "2 groups"),
        ("adapter", ConvShape.of(nn.Conv2d(4, 8, 2)), "no centre tap"),
        ("adapter", ConvShape.of(nn.Conv2d(4, 8, 3)), "no centre tap"),
        ("adapter", ConvShape.of(nn.Conv2d(4, 8, 3, padding=1, dilation=2)), "no centre tap"),
        ("adapter(arrangement='serial')", ConvShape.of(nn.Conv2d(4, 8, 2)), ""),
        ("adapter(conv='group')", ConvShape(3, 32, (3, 3)), "3 and 32 channels make no 2 groups"),
        ("adapter(arrangement='serial', conv='group')", ConvShape(3, 32, (3, 3)), ""),
        ("adapter(arrangement='serial', conv='group', group_count=8)", ConvShape(4, 8, (3, 3)), "batch norm cancels"),
        ("adapter(arrangement='serial', conv='copy_concat')", ConvShape(4, 5, (3, 3)), "copies for 5"),
    ],
)
def test_what_is_left_alone(spec, shape, message):
    (method,) = select(spec)
    assert message in method.skip_reason(shape) and bool(message) == bool(method.skip_reason(shape))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("adapter(conv='group', group_count=0)", "group_count must be 1 or more"),
        ("adapter(group_count=4)", "add conv='group'"),
    ],
)
def test_bad_options(spec, message):
    with pytest.raises(InputError, match=message):
        select(spec)


def test_groups_that_divide_nothing():
    (method,) = select("adapter(conv='group', group_count=7)")
    with pytest.raises(InputError, match="fits no convolution of this backbone: 64 and 64 channels make no 7 groups"):
        method.check(Shapes((ConvShape(64, 64, (3, 3)),), (), 64))
