"""Fast paths of the residual adapters against the plain computation, in float64."""

import copy
from itertools import product

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck

from tests.benchmark.backbones.stirred import image, off, stirred
from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.methods.layers.parallel import ParallelConv, _CentreTap, centred
from visual_decathlon.methods.layers.pointwise import large, weight_gradient
from visual_decathlon.methods.layers.series import SeriesConv, _Mixed, put_series
from visual_decathlon.methods.registry import select

GEOMETRIES = [
    {"kernel_size": k, "stride": s, "dilation": d, "padding": d * (k // 2)}
    for k, s, d in product((1, 3, 5, 7), (1, 2), (1, 2))
] + [
    {"kernel_size": (3, 5), "padding": (1, 2)},
    {"kernel_size": (1, 7), "stride": (1, 2), "padding": (0, 3)},
    {"kernel_size": (5, 3), "stride": (2, 1), "dilation": (1, 2), "padding": (2, 2)},
]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("bias", [False, True], ids=["", "bias"])
def test_centre_tap_is_the_plain_pair(layout, bias, monkeypatch):
    taken = []
    monkeypatch.setattr(_CentreTap, "apply", lambda *a, apply=_CentreTap.apply: taken.append(1) or apply(*a))
    for number, geometry in enumerate(GEOMETRIES):
        torch.manual_seed(number)
        adapter = ParallelConv(nn.Conv2d(3, 4, bias=bias, **geometry).double().requires_grad_(False))
        adapter.to(memory_format=layout)
        grads = []
        for fused in (False, True):
            adapter.fused = fused
            x = torch.randn(2, 3, 11, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
            x = x.to(memory_format=layout).requires_grad_(True)
            y = adapter(x)
            weights = torch.cos(torch.arange(y.numel(), dtype=y.dtype)).view(y.shape)
            grads.append((y, *torch.autograd.grad((y * weights).sum(), (x, adapter.side.weight))))
        for plain, fast in zip(*grads, strict=True):
            assert off(fast, plain) < 1e-13, geometry
        assert off(adapter.merge()(x), y) < 1e-13, geometry
    assert len(taken) == len(GEOMETRIES)


@pytest.mark.parametrize(
    "geometry",
    [
        {"kernel_size": 2, "stride": 2},  # no centre
        {"kernel_size": 4, "stride": 2, "padding": 1},
        {"kernel_size": 5, "stride": 4, "padding": 1},  # its centre is off by one
        {"kernel_size": 3, "padding": "same"},
        {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
        {"kernel_size": 3, "padding": 1, "padding_mode": "circular"},
    ],
    ids=str,
)
def test_no_centre_tap_falls_back(geometry, monkeypatch):
    monkeypatch.setattr(_CentreTap, "apply", lambda *a: pytest.fail("took the centre tap"))
    conv = nn.Conv2d(3, 4, **geometry).double().requires_grad_(False)
    adapter = ParallelConv(conv)
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    s = conv.stride[0]
    wanted = conv(x) + torch.einsum("oi,nihw->nohw", adapter.side.weight[:, :, 0, 0], x[:, :, ::s, ::s])
    assert off(adapter(x), wanted) < 1e-13
    if centred(conv):  # only the padding mode prevents the fast path, and folding is still exact
        assert off(adapter.merge()(x), wanted) < 1e-13
    else:
        with pytest.raises(AttributeError, match="no centre tap"):
            adapter.merge()


def test_a_convolution_that_is_trained_keeps_its_gradient():
    """The centre tap computes none for W and b: where one of them is trained, the plain pair runs."""
    for trained in ("weight", "bias"):
        conv = nn.Conv2d(2, 2, 3, padding=1).requires_grad_(False)
        getattr(conv, trained).requires_grad_(True)
        ParallelConv(conv)(torch.randn(1, 2, 5, 5)).square().sum().backward()
        assert getattr(conv, trained).grad.abs().max() > 0


def test_no_centre_tap_under_autocast(monkeypatch):
    monkeypatch.setattr(_CentreTap, "apply", lambda *a: pytest.fail("took the centre tap"))
    with torch.autocast("cpu", torch.bfloat16):
        y = ParallelConv(nn.Conv2d(2, 2, 3, padding=1).requires_grad_(False))(torch.randn(1, 2, 5, 5))
    assert y.dtype == torch.bfloat16


def test_gradcheck_of_the_centre_tap():
    torch.manual_seed(0)
    x = torch.randn(2, 2, 5, 4, dtype=torch.float64, requires_grad=True)
    weight, bias = torch.randn(3, 2, 3, 3, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    side = torch.randn(3, 2, 1, 1, dtype=torch.float64, requires_grad=True)
    for stride, dilation in ((1, 1), (2, 1), (1, 2)):
        geometry = (stride,) * 2, (dilation,) * 2, (dilation,) * 2
        assert gradcheck(lambda x, side, g=geometry: _CentreTap.apply(x, weight, side, bias, *g), (x, side))


def in_one(adapter: SeriesConv, y: torch.Tensor) -> torch.Tensor:
    """The fused sum behind the convolution, at any size and precision."""
    mean, variance = y.detach().mean((0, 2, 3)), y.detach().var((0, 2, 3), unbiased=False)
    norm = adapter.norm
    return _Mixed.apply(y, mean, (variance + norm.eps).rsqrt(), norm.weight, norm.bias, adapter.mix.weight)


def test_gradcheck_of_the_fused_series_adapter():
    torch.manual_seed(0)
    adapter = SeriesConv(nn.Conv2d(1, 3, 1)).double()
    y = torch.randn(3, 3, 4, 2, dtype=torch.float64, requires_grad=True)
    nn.init.normal_(adapter.norm.weight)
    nn.init.normal_(adapter.norm.bias)
    trained = adapter.norm.weight, adapter.norm.bias, adapter.mix.weight

    def sum_in_one(y, *_):
        return in_one(adapter, y)

    torch.testing.assert_close(in_one(adapter, y), y + adapter.mix(adapter.norm(y)), rtol=1e-12, atol=1e-12)
    assert gradcheck(sum_in_one, (y, *trained))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
def test_large_series_adapters_are_fused_and_compute_the_plain_sum(layout, monkeypatch):
    taken = []
    monkeypatch.setattr(_Mixed, "apply", lambda *a, apply=_Mixed.apply: taken.append(1) or apply(*a))
    torch.manual_seed(0)
    adapter = SeriesConv(nn.Conv2d(3, 32, 3, stride=2, padding=1, bias=False)).to(memory_format=layout)
    x = torch.randn(17, 3, 64, 64).to(memory_format=layout).requires_grad_(True)  # 17 x 32² places x 32² channels
    results = []
    for fused in (True, False):
        adapter.fused = fused
        adapter.norm.reset_running_stats()
        y = adapter(x)
        grads = torch.autograd.grad(torch.cos(y).sum(), (x, *adapter.parameters()))
        results.append((y, *grads, adapter.norm.running_mean.clone(), adapter.norm.running_var.clone()))
    assert taken == [1]
    for fast, plain in zip(*results, strict=True):
        assert off(fast, plain) < 1e-5
    adapter.fused = True
    adapter(x[:15])  # small work
    adapter.eval()(x)  # stored statistics
    with torch.autocast("cpu", torch.bfloat16):
        adapter.train()(x)
    assert taken == [1]


@pytest.mark.parametrize("kind", ["series", "parallel"])
def test_a_second_derivative_is_refused_not_wrong(kind):
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 64, 3, padding=1).requires_grad_(False)
    adapter = SeriesConv(conv) if kind == "series" else ParallelConv(conv)
    trained = adapter.mix.weight if kind == "series" else adapter.side.weight
    y = adapter(torch.randn(8, 4, 64, 64))
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(
            y[:, :3].sum(), trained, create_graph=True
        )  # a linear loss: without the error the result would be wrong


@pytest.mark.parametrize("n", [1, 70])
def test_weight_gradient_of_a_pointwise_convolution(n):
    torch.manual_seed(0)
    grad, wide = torch.randn(n, 16, 32, 32), torch.randn(n, 24, 64, 64)
    for change in (lambda t: t, lambda t: t.to(memory_format=torch.channels_last)):
        assert large(grad, 24) == (n == 70)
        seen = change(wide)[:, :, ::2, ::2]
        wanted = torch.einsum("nohw,nihw->oi", grad.double(), seen.double())
        assert off(weight_gradient(change(grad), seen), wanted.float()) < 1e-5


def test_series_refuses_groups():
    with pytest.raises(AttributeError, match="group"):
        SeriesConv(nn.Conv2d(4, 4, 3, groups=2)).merge()


@pytest.mark.parametrize("spec", ["bn_adapt", "par_adapter", "res_adapter"])
def test_channels_last_is_nchw(spec):
    (method,) = select(spec)
    torch.manual_seed(0)
    source = resnet26(3, 0.25).double()
    if method.backbone_structure == "series":
        put_series(source)
    network = stirred(method.place(source, 3))
    last = copy.deepcopy(network).to(memory_format=torch.channels_last)
    images = image(16, count=2)
    outs = []
    for net, x in ((network, images), (last, images.to(memory_format=torch.channels_last))):
        y = net.train()(x)
        y.square().sum().backward()
        outs.append({"logits": y.detach()} | {n: p.grad for n, p in net.named_parameters() if p.requires_grad})
    scale = max(float(g.abs().max()) for g in outs[0].values())
    for name, plain in outs[0].items():
        assert (outs[1][name] - plain).abs().max() <= 1e-11 * scale, name
