"""FourierFT and C³A against sums of cosines, circular convolutions and HF PEFT; their starts, counts and refusals."""

from math import pi, sqrt

import pytest
import torch
from torch import nn
from torch.func import functional_call

from tests.adapters import GEOMETRIES, geometries, moved_adapter
from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.layers.network import own_tensors, stored_tensors
from visual_decathlon.methods.layers.spectral import circulants
from visual_decathlon.methods.registry import select
from visual_decathlon.methods.shapes import ConvShape, Shapes
from visual_decathlon.methods.spectral import C3A, FourierFT

FAMILY = [FourierFT(20, 3.0), FourierFT(1000, position_seed=2), C3A(4), C3A(6)]
families = pytest.mark.parametrize("method", FAMILY, ids=lambda method: method.full_spec)


def moved(method, geometry, dtype=torch.float64):
    conv, layer, own = moved_adapter(method, geometry, 8, 12, dtype)
    return conv, layer, *own.values()


@geometries
@pytest.mark.parametrize("method", FAMILY[:2], ids=lambda method: method.full_spec)
def test_fourierft_is_a_sum_of_cosines(method, geometry):
    conv, layer, own = moved(method, geometry)
    rows, columns = conv.weight.flatten(1).shape
    delta = torch.zeros(rows, columns, dtype=torch.float64)
    i, j = torch.arange(rows).double()[:, None], torch.arange(columns).double()
    for value, place in zip(own.tolist(), layer.at.tolist(), strict=True):
        p, q = divmod(place, columns)
        delta += value * torch.cos(2 * pi * (p * i / rows + q * j / columns))
    delta *= method.scale / sqrt(rows * columns)
    check_layer(conv, layer, delta.view_as(conv.weight))


@geometries
@pytest.mark.parametrize("method", FAMILY[2:], ids=lambda method: method.full_spec)
def test_c3a_is_circular_convolutions_of_the_channels(method, geometry):
    conv, layer, own = moved(method, geometry)
    b = method.block_at(ConvShape.of(conv))
    cout, cin, *kernel = conv.weight.shape
    delta = torch.zeros_like(conv.weight)
    for o in range(cout):
        for c in range(cin):
            for tap in range(kernel[0] * kernel[1]):
                entry = own[o // b, c // b, tap, (c - o) % b] / sqrt(b)
                delta[o, c, tap // kernel[1], tap % kernel[1]] = entry.detach()
    check_layer(conv, layer, delta)


def check_layer(conv, layer, delta):
    """The layer and what it merges to are the convolution plus one with ΔW."""
    x = torch.randn(2, 8, 9, 11, dtype=torch.float64)
    wanted = conv(x) + conv._conv_forward(x, delta, None)
    torch.testing.assert_close(layer(x), wanted)
    torch.testing.assert_close(layer.merge()(x), wanted)


@pytest.mark.parametrize("b", [1, 2, 5, 8])
def test_circulants(b):
    """C(c)ᵀ x is the circular convolution of c and x, and the first row is c."""
    kernels, x = torch.randn(3, 2, b, dtype=torch.float64), torch.randn(b, dtype=torch.float64)
    got = circulants(kernels).mT @ x
    assert torch.equal(circulants(kernels)[..., 0, :], kernels)
    wanted = torch.fft.ifft(torch.fft.fft(kernels) * torch.fft.fft(x)).real
    torch.testing.assert_close(got, wanted)


def linear_of(conv: nn.Conv2d) -> nn.Linear:
    linear = nn.Linear(conv.in_channels, conv.out_channels)
    linear.load_state_dict({"weight": conv.weight.flatten(1), "bias": conv.bias})
    return linear


@pytest.mark.parametrize(("cin", "cout"), [(24, 16), (16, 24)])
def test_both_are_pefts(cin, cout):
    """On a linear layer, with the same entries, places and scale; its kernels are ours in the same order."""
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    conv = nn.Conv2d(cin, cout, 1).requires_grad_(False)
    for method, config in (
        (
            FourierFT(50, 2.0, 5),
            peft.FourierFTConfig(
                n_frequency=50, scaling=2.0 * sqrt(cin * cout), random_loc_seed=5, target_modules=["0"]
            ),
        ),
        (C3A(8), peft.C3AConfig(block_size=8, target_modules=["0"])),
    ):
        layer = method.layer(conv)
        model = peft.get_peft_model(nn.Sequential(linear_of(conv)), config).base_model.model[0]
        with torch.no_grad():
            if isinstance(method, FourierFT):
                places = model.indices["default"][0] * cin + model.indices["default"][1]
                assert torch.equal(places.sort().values, layer.at), "the same draw, in ascending order"
                nn.init.normal_(layer.spectrum)
                model.fourierft_spectrum["default"].copy_(layer.spectrum[places.argsort().argsort()])
                wanted = model.get_delta_weight("default")
            else:
                nn.init.normal_(layer.kernels)
                model.c3a_kernel["default"].copy_(layer.kernels[:, :, 0])
                wanted = model.get_delta_weight("default") * cin * layer.scale  # HF PEFT divides by the inputs
                model.c3a_kernel["default"].mul_(cin * layer.scale)
            torch.testing.assert_close(
                layer.adapted_weight() - conv.weight, wanted.view_as(conv.weight), rtol=1e-5, atol=1e-5
            )
            x = torch.randn(3, cin)
            torch.testing.assert_close(layer(x[:, :, None, None])[:, :, 0, 0], model(x), rtol=1e-5, atol=1e-5)


@families
def test_gradients_are_finite_differences(method):
    for geometry in GEOMETRIES:
        _, layer, own = moved(method, geometry)
        (name,) = (name for name, p in layer.named_parameters() if p is own)
        x = torch.randn(2, 8, 6, 7, dtype=torch.float64)
        run = lambda value, layer=layer, x=x, name=name: functional_call(layer, {name: value}, (x,))
        assert torch.autograd.gradcheck(run, (own,), fast_mode=True)


@families
@geometries
def test_start_count_and_size(method, geometry):
    """The identity; as many floats as declared; one of them changes W by √½ (a cosine), or by 1."""
    conv, layer, own = moved(method, geometry)
    assert own.numel() == method.new_floats(ConvShape.of(conv))
    with torch.no_grad():
        own.zero_()
        assert torch.equal(layer.adapted_weight(), conv.weight)
        own.view(-1)[own.numel() // 2] = 1
        size = float((layer.adapted_weight() - conv.weight).norm())
    if isinstance(method, C3A):
        assert size == pytest.approx(1)
    else:  # where both frequencies are 0 or half of the samples, the cosine is ±1 everywhere
        rows, columns = conv.weight.flatten(1).shape
        p, q = divmod(int(layer.at[own.numel() // 2]), columns)
        alternating = 2 * p % rows == 0 and 2 * q % columns == 0
        assert size == pytest.approx(method.scale * (1 if alternating else sqrt(0.5)))


def test_counts_of_the_papers():
    """FourierFT: count x layers; C³A: d1 d2 / b, of RoBERTa's 768 with b 768 / 6 and 768."""
    shapes = resnet26_shapes()
    assert f"{FourierFT().multiplier(shapes):.2f}" == "1.05" and f"{C3A().multiplier(shapes):.2f}" == "1.29"
    stem = shapes.convs[0]
    assert FourierFT().floats(shapes) == shapes.affine + 24 * 1000 + 32 * 27
    assert FourierFT(3000).new_floats(ConvShape(768, 768, (1, 1))) == 3000
    assert C3A().skip_reason(stem) == "32 filters of 3 channels have no common divisor with block 32"
    assert C3A().floats(shapes) == shapes.affine + (shapes.base - shapes.affine - stem.floats) // 32
    assert C3A(128).new_floats(ConvShape(768, 768, (1, 1))) == 768 * 6
    assert C3A(768).new_floats(ConvShape(768, 768, (1, 1))) == 768
    assert C3A(32).new_floats(ConvShape(48, 64, (3, 2), groups=2)) == 64 * 24 * 6 // 8


def test_places_depend_on_the_seed_alone_and_are_not_stored():
    source = resnet26(3, 0.25).requires_grad_(False).eval()
    places = []
    for seed, spec in ((1, "fourierft"), (2, "fourierft"), (2, "fourierft(position_seed=1)")):
        torch.manual_seed(seed)
        network = select(spec)[0].place(source, 4)
        own = {name: t for name, t in own_tensors(network, source).items() if name.endswith(".at")}
        assert len(own) == 25 and not own.keys() & stored_tensors(network, source).keys()
        places.append(own)
    first, second, other = places
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: FourierFT(count=0), r"fourierft\(count=0\): count must be above 0"),
        (lambda: FourierFT(scale=-1.0), r"fourierft\(scale=-1.0\): scale must be above 0"),
        (lambda: FourierFT(position_seed=-1), r"fourierft\(position_seed=-1\): a seed is 0 or more"),
        (lambda: FourierFT(count=10**6), r"fourierft\(count=1000000\): there are more .* has 589824\); lower it"),
        (lambda: C3A(block=1), r"c3a\(block=1\): block must be 2 or more"),
        (lambda: C3A(block=7), r"c3a\(block=7\) fits no convolution of this backbone: 256 filters of 256 channels"),
    ],
)
def test_what_fits_nowhere_is_refused(make, words):
    with pytest.raises(InputError, match=words):
        make().check(resnet26_shapes())


def test_a_depthwise_convolution_has_no_blocks():
    conv = ConvShape(32, 32, (3, 3), groups=32)
    with pytest.raises(InputError, match="32 filters of 1 channels"):
        C3A().check(Shapes((conv,), (), 4))
    assert FourierFT().new_floats(conv) == 32 * 9
