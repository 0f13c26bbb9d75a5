"""The backbones: counts to the unit, fast paths against plain ones, merging, each convolution's own norm."""

import copy
from itertools import product

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck

from visual_decathlon.benchmark.backbones.library import NAMES, library_network
from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes, shapes_of
from visual_decathlon.benchmark.training.macs import conv_macs
from visual_decathlon.datasets.catalogue import DOMAINS
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.layers.network import Adapter, merge_for_inference, new_head, share
from visual_decathlon.methods.layers.parallel import ParallelConv, _CentreTap, centred
from visual_decathlon.methods.layers.pointwise import large, weight_gradient
from visual_decathlon.methods.layers.series import SeriesConv, _Mixed, put_series
from visual_decathlon.methods.registry import select


def stirred(network: nn.Module, seed: int = 0) -> nn.Module:
    """Every parameter and statistic away from its start, so that nothing cancels or vanishes."""
    generator = torch.Generator().manual_seed(seed)

    def rand(t: torch.Tensor) -> torch.Tensor:
        return torch.rand(t.shape, generator=generator, dtype=t.dtype)

    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.copy_(0.5 + rand(module.weight))
                module.bias.copy_(rand(module.bias) - 0.5)
                module.running_mean.copy_(rand(module.running_mean) - 0.5)
                module.running_var.copy_(0.5 + rand(module.running_var))
            elif isinstance(module, Adapter):
                side = module.side if isinstance(module, ParallelConv) else module.mix
                side.weight.copy_((rand(side.weight) - 0.5) / side.in_channels**0.5)
    return network


def image(size: int, dtype=torch.float64, count: int = 1) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(7), dtype=dtype)


def off(got: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((got - wanted).detach().abs().max() / wanted.detach().abs().max())


# --- counts -----------------------------------------------------------------------------------------------------


def test_parameters_to_the_unit():
    shapes = shapes_of(resnet26(10))
    assert len(shapes.convs) == 25 and len(shapes.norms) == 26
    assert sum(c.floats for c in shapes.convs) == 5_806_944
    assert shapes.affine == 7_744
    assert shapes.base == 5_814_688
    assert select("par_adapter")[0].floats(shapes) == 652_960
    assert select("res_adapter")[0].floats(shapes) == 704_128
    assert shapes.head(1) == 257
    classes = [domain.classes for domain in DOMAINS.values()]
    assert sum(classes) == 3128 and sum(map(shapes.head, classes)) == 803_896


def test_the_module_has_these_parameters():
    """The closed forms against the tensors of built networks."""
    network = resnet26(10)
    assert sum(p.numel() for p in network.parameters()) == 5_814_688 + 2_570
    put_series(network)
    assert sum(p.numel() for p in network.parameters()) == 5_806_944 + 704_128 + 2_570


@pytest.mark.parametrize("width", [0.05, 0.25, 0.3, 1.0, 1.5])
def test_shapes_known_without_a_network(width):
    network = resnet26(3, width)
    assert shapes_of(network) == resnet26_shapes(width)
    assert network.eval()(image(16, torch.float32)).shape == (1, 3)  # whatever the rounding, the shortcut fits


def test_multiply_adds_of_the_reference():
    plain = resnet26(10)
    parallel = select("par_adapter")[0].place(plain, 10)
    series = put_series_on(plain)
    at_64, at_72 = conv_macs(plain, 64), conv_macs(plain, 72)
    assert at_64 / 1e6 == pytest.approx(852.9, abs=0.05)
    assert (conv_macs(parallel, 64) - at_64) / 1e6 == pytest.approx(94.8, abs=0.05)
    assert (conv_macs(series, 64) - at_64) / 1e6 == pytest.approx(104.9, abs=0.05)  # 957.8 in all, of the rounded
    assert at_72 / 1e6 == pytest.approx(1079, abs=0.5)
    assert (conv_macs(parallel, 72) - at_72) / 1e6 == pytest.approx(120, abs=0.5)
    # To the unit: 64² stem outputs, then a quarter of the outputs and twice the channels a stage.
    assert at_64 == 4096 * 9 * 3 * 32 + 3 * 1024 * 9 * (32 * 64 + 7 * 64**2)
    assert conv_macs(series, 64) - at_64 == 4096 * 32**2 + 3 * 1024 * 8 * 64**2
    assert conv_macs(merge_for_inference(parallel), 64) == at_64  # merged costs what the bare backbone does


def test_random_start():
    """As the reference code starts: convolutions normal with variance 2 / (k² cout), norms 1 and 0."""
    torch.manual_seed(0)
    source = resnet26(10)
    networks = (
        source,
        put_series_on(source),
        select("scratch")[0].place(resnet26(10).requires_grad_(False), 10),
        select("par_adapter(init='he')")[0].place(source, 10),
    )
    for network in networks:
        for conv in (m for m in network.modules() if isinstance(m, nn.Conv2d)):
            variance = 2 / (conv.kernel_size[0] ** 2 * conv.out_channels)
            # the sample's own deviation is sqrt(2 / n) of it
            assert abs(conv.weight.var().item() / variance - 1) < 6 * (2 / conv.weight.numel()) ** 0.5, conv
        for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
            assert (norm.weight == 1).all() and (norm.bias == 0).all()
            assert (norm.running_mean == 0).all() and (norm.running_var == 1).all()


def put_series_on(network):
    out = share(network)
    put_series(out)
    return out


def test_counting_leaves_the_network_as_it_was():
    network = select("par_adapter")[0].place(resnet26(3, 0.05), 3).train()
    conv_macs(network, 16)
    assert network.training and all(m.fused for m in network.modules() if isinstance(m, ParallelConv))


# --- fast paths against plain ones, in float64 ------------------------------------------------------------------


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
    if centred(conv):  # the padding mode is the only hindrance, and a fold is still exact
        assert off(adapter.merge()(x), wanted) < 1e-13
    else:
        with pytest.raises(AttributeError, match="no centre tap"):
            adapter.merge()


def test_a_convolution_that_is_trained_keeps_its_gradient():
    """The centre tap gives none to W and b: either of them trained, the plain pair runs."""
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
    """The fused sum behind the convolution, whatever its size and precision."""
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
    found = []
    for fused in (True, False):
        adapter.fused = fused
        adapter.norm.reset_running_stats()
        y = adapter(x)
        grads = torch.autograd.grad(torch.cos(y).sum(), (x, *adapter.parameters()))
        found.append((y, *grads, adapter.norm.running_mean.clone(), adapter.norm.running_var.clone()))
    assert taken == [1]
    for fast, plain in zip(*found, strict=True):
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
        torch.autograd.grad(y[:, :3].sum(), trained, create_graph=True)  # a linear loss: nothing else would tell


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


# --- merging ----------------------------------------------------------------------------------------------------


def source_network(name: str, structure: str, classes: int = 3):
    torch.manual_seed(0)
    network = resnet26(classes, 0.25) if name == "resnet26" else library_network(name, classes)
    if structure == "series":
        put_series(network)
    return stirred(network).double()


def check_merged(method, source, size: int, single: bool = True) -> None:
    network = stirred(method.place(source, 3), seed=1).eval()
    state = {n: t.clone() for n, t in network.state_dict().items()}
    trained = [n for n, p in network.named_parameters() if p.requires_grad]
    out = merge_for_inference(network)
    with torch.no_grad():
        x = image(size)
        wanted = network(x)
        assert off(out(x), wanted) < 1e-10, method.spec
        assert not any(isinstance(m, Adapter) for m in out.modules())
        for site in out.sites:
            assert isinstance(out.get_submodule(site.norm), nn.Identity)
        if single:
            single_merged = merge_for_inference(copy.deepcopy(network).float())
            assert off(single_merged(x.float()).double(), wanted) < 1e-5, method.spec
    # the network that was merged stays as it was: values, modules, and what it trains
    assert trained == [n for n, p in network.named_parameters() if p.requires_grad]
    assert state.keys() == network.state_dict().keys()
    assert all(torch.equal(t, network.state_dict()[n]) for n, t in state.items())


@pytest.mark.parametrize("name", NAMES)
def test_merged_is_unmerged_on_library_networks(name):
    """Every network once with parallel adapters; the first with series ones put on it. All methods: test_merging."""
    first = name == NAMES[0]
    plain = source_network(name, "plain")
    check_merged(select("par_adapter")[0], plain, 64, single=first)
    if first:
        check_merged(select("res_adapter(init='zero', off_the_shelf=True)")[0], plain, 64)


# --- library networks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_sites_pair_each_convolution_with_its_norm(name):
    network = library_network(name, 3).eval()
    outputs, seen = {}, []
    for site, conv in network.conv_sites():
        conv.register_forward_hook(lambda m, i, out, key=site.conv: outputs.update({key: out}))

        def into(module, inputs, site=site):
            assert inputs[0] is outputs[site.conv]
            seen.append(site)

        network.get_submodule(site.norm).register_forward_pre_hook(into)
    with torch.no_grad():
        network(image(32, torch.float32))
    assert sorted(map(str, seen)) == sorted(map(str, network.sites))
    kinds = [type(m) for m in network.modules()]
    assert len(network.sites) == kinds.count(nn.Conv2d)
    assert len(network.sites) == sum(issubclass(kind, nn.BatchNorm2d) for kind in kinds)


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_where_the_stride_is(library):
    for version, striding in (("resnet50", "conv2"), ("resnet50_v1", "conv1")):
        body = library_network(f"{library}/{version}", 3).body
        for stage in (2, 3, 4):
            block = getattr(body, f"layer{stage}")[0]
            strides = {n: getattr(block, n).stride for n in ("conv1", "conv2", "conv3")}
            assert strides == {n: (2, 2) if n == striding else (1, 1) for n in strides}
            assert block.downsample[0].stride == (2, 2)
            assert getattr(body, f"layer{stage}")[1].conv1.stride == (1, 1)


@pytest.mark.parametrize("model", ["resnet18", "resnet50"])
def test_both_libraries_are_torchvisions_own_network(model):
    """v1.5 of either library gives the logits of torchvision's model from the same weights."""
    from torchvision import models

    torch.manual_seed(0)
    own = stirred(models.get_model(model, weights=None, num_classes=3)).eval()
    weights = {f"body.{n}": t for n, t in own.state_dict().items() if not n.startswith("fc.")}
    weights |= {f"head.{n}": t for n, t in own.fc.state_dict().items()}
    x = image(64, torch.float32)
    with torch.no_grad():
        wanted = own(x)
        for library in ("torchvision", "timm"):
            network = library_network(f"{library}/{model}", 3)
            network.load_state_dict(weights)
            assert off(network.eval()(x), wanted) < 1e-6
            if model == "resnet50":
                v1 = library_network(f"{library}/{model}_v1", 3)
                v1.load_state_dict(weights)
                assert off(v1.eval()(x), wanted) > 1e-3  # the same weights, another network


def test_unknown_backbone():
    with pytest.raises(InputError, match="torchvision/resnet18"):
        library_network("torchvision/resnet19", 3)


def test_a_new_head_of_the_right_size():
    network = share(resnet26(3, 0.05))
    new_head(network, 7)
    assert network.eval()(image(16, torch.float32)).shape == (1, 7)
    assert all(p.requires_grad for p in network.head.parameters())
