"""The low-rank ΔW against tensorly, HF PEFT and finite differences; paths, ranks and counts."""

from math import prod

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from visual_decathlon.benchmark.backbones.library import library_network
from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes, shapes_of
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.layers.low_rank import LoraConv
from visual_decathlon.methods.low_rank import Lora, LoraCP, LoraTKD, LoraTKDCP, LoraTucker
from visual_decathlon.methods.shapes import ConvShape

FAMILY = [Lora(4, 6.0), LoraCP(4, 6.0), LoraTKD(4, 3, 6.0), LoraTKDCP(4, 3, 2, 6.0), LoraTucker(3, 6.0)]
GEOMETRIES = [
    {"kernel_size": 3, "padding": 1, "bias": False},
    {"kernel_size": 3, "padding": 1, "stride": 2},
    {"kernel_size": 3, "padding": 2, "dilation": 2, "padding_mode": "reflect"},
    {"kernel_size": (3, 2), "padding": (1, 0), "stride": (1, 2), "padding_mode": "circular"},
    {"kernel_size": (1, 5), "padding": "same", "groups": 2},
    {"kernel_size": 1, "stride": 2, "padding_mode": "replicate", "padding": 1},
    {"kernel_size": 3, "groups": 4},
]

families = pytest.mark.parametrize("method", FAMILY, ids=lambda method: method.name)
geometries = pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda g: ",".join(f"{k}={v}" for k, v in g.items()))


def moved(method, geometry, seed: int = 0, dtype=torch.float32):
    """The method's adapter of a frozen convolution 8 -> 12, changed from its start."""
    torch.manual_seed(seed)
    conv = nn.Conv2d(8, 12, **geometry, dtype=dtype).requires_grad_(False)
    layer = method.layer(conv)
    nn.init.normal_(layer.up)
    return conv, layer


@families
@geometries
def test_delta_is_tensorlys(method, geometry):
    tensorly = pytest.importorskip("tensorly")
    conv, layer = moved(method, geometry)
    cout, cin, *kernel = conv.weight.shape
    p = {name: t.detach().double().numpy() for name, t in layer.named_parameters(recurse=False)}
    taps = torch.eye(prod(kernel), dtype=torch.float64).numpy()
    if isinstance(method, Lora):
        wanted = p["up"] @ p["down"]
    elif isinstance(method, LoraCP):
        wanted = tensorly.cp_tensor.cp_to_tensor((None, [p["up"], p["channels"], p["taps"]]))
    else:
        if isinstance(method, LoraTKDCP):
            core = tensorly.cp_tensor.cp_to_tensor((None, [p["core_up"], p["core_channels"], p["core_taps"]]))
        else:
            core = p["core"]
        wanted = tensorly.tucker_tensor.tucker_to_tensor((core, [p["up"], p["channels"], taps]))
    got = (layer.weight() - conv.weight).detach().double()
    wanted = torch.from_numpy(wanted).reshape(cout, cin, *kernel) * 6 / layer.up.shape[1]
    assert float((got - wanted).abs().max()) <= 1e-6 * max(1, float(wanted.abs().max()))


def test_lora_is_pefts():
    peft = pytest.importorskip("peft")
    for geometry in (g for g in GEOMETRIES if g.get("groups", 1) == 1):
        conv, layer = moved(Lora(4, 6.0), geometry)
        reference = peft.get_peft_model(
            nn.Sequential(conv), peft.LoraConfig(r=4, lora_alpha=6, target_modules=["0"])
        ).base_model.model[0]
        assert reference.lora_A["default"].weight.shape == (4, *conv.weight.shape[1:])
        with torch.no_grad():
            reference.lora_A["default"].weight.copy_(layer.down.view(4, *conv.weight.shape[1:]))
            reference.lora_B["default"].weight.copy_(layer.up[:, :, None, None])
            wanted = reference.get_delta_weight("default")
            assert torch.allclose(layer.weight() - conv.weight, wanted, rtol=1e-6, atol=1e-6)


@families
def test_gradients_are_finite_differences(method):
    for geometry in GEOMETRIES[1:5]:
        _, layer = moved(method, geometry, dtype=torch.float64)
        x = torch.randn(2, 8, 6, 7, dtype=torch.float64)
        names, values = zip(*((n, p) for n, p in layer.named_parameters() if p.requires_grad), strict=True)
        for factored in {False, layer.conv.groups == 1}:
            layer.factored_path = factored
            assert torch.autograd.gradcheck(
                lambda *values, layer=layer, x=x, names=names: functional_call(layer, dict(zip(names, values)), (x,)),
                values,
                fast_mode=True,
            )


@families
@geometries
def test_both_paths_and_the_merged_one_agree(method, geometry):
    conv, layer = moved(method, geometry, dtype=torch.float64)
    x = torch.randn(2, 8, 9, 11, dtype=torch.float64)
    plain = F.pad(x, conv._reversed_padding_repeated_twice, conv.padding_mode.replace("zeros", "constant"))
    delta = F.conv2d(plain, layer.weight() - conv.weight, None, conv.stride, 0, conv.dilation, conv.groups)
    results = []
    for factored in [False, True] if conv.groups == 1 else [False]:
        layer.factored_path = factored
        y = layer(x)
        layer.zero_grad()
        y.square().sum().backward()
        results.append((y, [p.grad for p in layer.parameters() if p.requires_grad]))
        torch.testing.assert_close(y, conv(x) + delta, rtol=1e-12, atol=1e-10)
        torch.testing.assert_close(layer.merge()(x), y, rtol=1e-12, atol=1e-10)
    torch.testing.assert_close(results[0], results[-1], rtol=1e-10, atol=1e-8)
    assert conv.weight.grad is None


def test_the_faster_path_is_taken():
    factored = lambda cin, cout, rank=8, **geometry: LoraConv(nn.Conv2d(cin, cout, **geometry), 1.0, rank).factored_path
    assert factored(128, 256, kernel_size=3) and factored(64, 64, 4, kernel_size=3)
    assert not factored(64, 128, kernel_size=3) and not factored(32, 32, 1, kernel_size=3)
    assert not factored(256, 256, kernel_size=1) and not factored(256, 256, kernel_size=3, groups=2)


@families
def test_the_start_is_the_identity_and_rows_have_length_one(method):
    torch.manual_seed(0)
    conv = nn.Conv2d(96, 80, 3).requires_grad_(False)
    layer = type(method)().layer(conv)
    assert torch.equal(layer.weight(), conv.weight)
    rows = float(layer.rows().detach().square().sum(1).mean())
    assert 0.2 < rows * (3 if isinstance(method, Lora) else 1) < 3  # Kaiming with a = √5 is a third of it


def test_tucker_is_tkd_under_another_name():
    source = resnet26(3, 0.25).requires_grad_(False).eval()
    networks = []
    for method in (LoraTucker(6, 9.0), LoraTKD(6, 6, 9.0)):
        torch.manual_seed(4)
        networks.append(method.place(source, 5).state_dict())
        assert method.floats(resnet26_shapes(0.25)) == LoraTucker(6).floats(resnet26_shapes(0.25))
    assert networks[0].keys() == networks[1].keys()
    assert all(torch.equal(t, networks[1][name]) for name, t in networks[0].items())
    assert LoraTucker(6, 9.0).scale == LoraTKD(6, 6, 9.0).scale == 1.5


def test_counts_of_the_paper():
    shapes = resnet26_shapes()
    printed = {
        Lora(4): "1.22", Lora(8): "1.43", Lora(16): "1.85",
        LoraTucker(4): "1.06", LoraTucker(8): "1.12", LoraTucker(16): "1.27",
        LoraCP(): "1.10", LoraTKD(): "1.12", LoraTKDCP(): "1.11",
    }  # fmt: skip
    for method, digits in printed.items():
        assert f"{method.multiplier(shapes):.2f}" == digits, method.spec
    assert Lora().floats(shapes) == shapes.affine + 8 * sum(c.cout + 9 * c.cin for c in shapes.convs)


def test_ranks_are_clipped_and_counted_so():
    stem = ConvShape(3, 32, (3, 3))
    assert LoraTKD(8, 8).ranks_at(stem) == (8, 3) and LoraTKDCP(8, 8, 64).largest_rank(stem) == 24
    assert Lora(40).rank_at(stem) == 27 and LoraCP(40).rank_at(stem) == 27
    assert LoraTucker(8).new_floats(stem) == 32 * 8 + 3 * 3 + 8 * 3 * 9
    for method in (Lora(30), LoraCP(60), LoraTKD(24, 24), LoraTKDCP(24, 24, 150), LoraTucker(40)):
        for geometry in ({"kernel_size": 3}, {"kernel_size": 1}, {"kernel_size": 3, "groups": 4}):
            conv = nn.Conv2d(8, 12, **geometry, bias=False)
            layer = method.layer(conv)
            assert sum(p.numel() for n, p in layer.named_parameters() if "." not in n) == method.new_floats(
                ConvShape.of(conv)
            )


@pytest.mark.parametrize("name", ["torchvision/resnet18", "timm/resnet50"])
def test_library_backbones(name):
    source = library_network(name, 3).requires_grad_(False).eval()
    shapes, x = shapes_of(source), torch.randn(2, 3, 40, 48)
    with torch.no_grad():
        wanted = source.body(x)
    for method in (Lora(), LoraCP(), LoraTKD(), LoraTKDCP(), LoraTucker()):
        network = method.place(source, 4)
        trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
        assert trained == method.floats(shapes) + shapes.head(4)
    with torch.no_grad():
        torch.testing.assert_close(network.eval().body(x), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Lora(rank=0), r"lora\(rank=0\): rank must be 1 or more"),
        (lambda: Lora(alpha=0.0), r"lora\(alpha=0.0\): alpha must be above 0"),
        (lambda: LoraTKD(r2=-1), r"lora_tkd\(r2=-1\): r2 must be above 0"),
        (lambda: LoraTKDCP(rank=0), r"lora_tkd_cp\(rank=0\): rank must be above 0"),
        (lambda: Lora(rank=257), r"lora\(rank=257\): the rank is larger than every matrix .* allows 256\); lower"),
        (lambda: LoraCP(rank=2305), r"lora_cp\(rank=2305\): .* allows 2304\); lower"),
        (lambda: LoraTKD(r1=300), r"lora_tkd\(r1=300\): .* allows 256\); lower"),
        (lambda: LoraTKD(r2=300), r"lora_tkd\(r2=300\): .* allows 256\); lower"),
        (lambda: LoraTKDCP(rank=65), r"lora_tkd_cp\(rank=65\): .* allows 64\); lower it, or raise r1 and r2"),
        (lambda: LoraTucker(rank=300), r"lora_tucker\(rank=300\): .* allows 256\); lower"),
    ],
)
def test_what_fits_nowhere_is_refused(make, words):
    with pytest.raises(InputError, match=words):
        make().check(resnet26_shapes())
