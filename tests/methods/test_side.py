"""The side read-out: its moments by definition, the regression, its binary factors, and the network after a fit."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from visual_decathlon.benchmark.backbones.library import library_network
from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes
from visual_decathlon.benchmark.backbones.structure import shapes_of
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.layers.network import merge_for_inference
from visual_decathlon.methods.layers.side import binary_factors, cosines, leading, moments, ridge
from visual_decathlon.methods.registry import select


def by_definition(image: Tensor, width: int) -> Tensor:
    """`moments` of one image of few channels (C, H, W) in loops."""
    channels, height, wide = image.shape
    assert channels <= width
    z = image - image.mean((1, 2), keepdim=True)
    out = []
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        products = torch.zeros(channels, channels)
        for y in range(height):
            for x in range(wide):
                if y + down < height and 0 <= x + right < wide:
                    products += torch.outer(z[:, y, x], z[:, y + down, x + right])
        out.append((products.sign() * products.abs().sqrt()).flatten())
    out.append(torch.stack([torch.stack([c.mean() for r in rows for c in r]) for rows in cells(z)]).flatten())
    return torch.cat([part / part.norm() for part in out])


def cells(z: Tensor) -> list[list[list[Tensor]]]:
    """For each channel 4 rows of 4 cells; sides are multiples of 4 here."""
    return [[list(row.chunk(4, 1)) for row in channel.chunk(4, 0)] for channel in z]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_moments_are_the_definition(layout):
    torch.manual_seed(0)
    x = torch.randn(3, 5, 8, 4).relu().contiguous(memory_format=layout)
    wanted = torch.stack([by_definition(image, 5) for image in x])
    assert wanted.shape == (3, 4 * 25 + 16 * 5)
    torch.testing.assert_close(moments(x, 5), wanted, rtol=1e-4, atol=1e-5)


def test_of_many_channels_some_mixtures_are_read():
    """The first rows of an orthonormal transform, by torch's own FFT-free definition: constant, then half a wave."""
    rows = cosines(32, 12)[:, :, 0, 0]
    torch.testing.assert_close(rows @ rows.T, torch.eye(12), rtol=0, atol=1e-5)
    assert torch.allclose(rows[0], torch.full((32,), 32**-0.5))
    assert (rows[1].diff() < 0).all()
    torch.manual_seed(0)
    x = torch.randn(2, 32, 8, 8)
    mixed = torch.einsum("mc,nchw->nmhw", rows, x)
    torch.testing.assert_close(moments(x, 12), moments(mixed, 12), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("side", [1, 2, 3, 5])
def test_small_and_odd_maps_are_read(side):
    result = moments(torch.randn(2, 4, side, side), 4)
    assert result.shape == (2, 128) and result.isfinite().all()


@pytest.mark.parametrize(("n", "d"), [(30, 700), (700, 30), (300, 300)])
def test_ridge_is_the_regression(n, d):
    torch.manual_seed(0)
    x, y = torch.randn(n, d), torch.randn(n, 3)
    t = float(x.square().sum() / n)
    wide, goal = x.double(), y.double()
    wanted = torch.linalg.solve(wide.T @ wide + 0.1 * t * torch.eye(d, dtype=torch.float64), wide.T @ goal)
    torch.testing.assert_close(ridge(x, y, 0.1), wanted.float(), rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize(("classes", "left"), [(2, 1e-3), (10, 0.03), (20, 0.08), (100, 0.75)])
def test_binary_factors_come_near(classes, left):
    """64 codes: the squared residual of W. With 100 classes there are fewer codes than directions."""
    torch.manual_seed(0)
    w = torch.randn(2000, classes)
    w -= w.mean(1, keepdim=True)
    codes, v = binary_factors(w, 64)
    assert codes.shape == (64, 2000) and v.shape == (64, classes) and codes.abs().eq(1).all()
    assert (w - codes.T @ v).square().sum() < left * w.square().sum()


def test_directions_are_orthonormal_and_the_leading_ones():
    torch.manual_seed(0)
    w = torch.randn(50, 6) * torch.tensor([9.0, 8, 7, 0.1, 0.1, 0.1])
    result = leading(w, 3)
    torch.testing.assert_close(result.T @ result, torch.eye(3), rtol=0, atol=1e-5)
    assert result[3:].abs().max() < 0.1
    assert leading(w, 64).shape == (6, 5)


def fitted(seed: int, classes: int = 5):
    torch.manual_seed(seed)
    (method,) = select("side(width=8)")
    source = resnet26(3, 0.25).requires_grad_(False).eval()
    network = method.place(source, classes).eval()
    x, y = torch.randn(40, 3, 32, 32), torch.arange(40) % classes
    read = torch.stack([method.split(network)[0](view) for view in (x, x.flip(3))])
    return network, x, y, read.clone(), method.fit(network, read, y)


def test_a_fit_is_the_regression_and_what_the_network_computes():
    network, x, y, read, out = fitted(0)
    with torch.no_grad():
        torch.testing.assert_close(network.body.read(x), read[0], rtol=1e-3, atol=1e-4)  # with batch norm merged or not
        torch.testing.assert_close(network.body(x), out[0], rtol=1e-2, atol=1e-2)
        torch.testing.assert_close(merge_for_inference(network)(x), network(x), rtol=1e-2, atol=1e-2)
        logits = network.head(out).flatten(0, 1)
    rows, wanted = read.flatten(0, 1), F.one_hot(y, 5).float().repeat(2, 1)
    rows = rows - rows.mean(0)
    regression = rows @ ridge(rows, wanted - wanted.mean(0), 0.3)
    assert (logits / 8 - regression).square().mean() < 0.02 * regression.square().mean()
    assert (logits.argmax(1) == y.repeat(2)).all()
    torch.testing.assert_close(out.flatten(0, 1).std(0), torch.ones(64), rtol=1e-3, atol=0)
    assert out.flatten(0, 1).mean(0).abs().max() < 1e-4


def test_a_fit_is_a_function_of_the_seed():
    one, again, other = (fitted(seed)[0].state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["body.codes.signs"], other["body.codes.signs"])


def test_codes_are_turned_at_random():
    torch.manual_seed(0)
    w = torch.randn(300, 4)
    one, other = (torch.linalg.vector_norm(w @ leading(w, 4), dim=0) for _ in range(2))
    assert (one - other).abs().min() > 1e-3


def test_the_frozen_features_come_last_and_have_length_1():
    network, x, _, read, _ = fitted(0)
    with torch.no_grad():
        features = network.body.read.body(x)
    torch.testing.assert_close(read[0][:, -64:], F.normalize(features), rtol=1e-3, atol=1e-4)
    assert features.norm(dim=1).min() > 1.1


def test_a_regression_that_fails_is_one_sentence():
    (method,) = select("side(ridge=1e-30)")
    network = method.place(resnet26(3, 0.25).requires_grad_(False).eval(), 3)
    x = torch.randn(1, 200, 5440)
    with pytest.raises(InputError, match=r"side\(ridge=1e-30\): the regression failed .* raise ridge"):
        method.fit(network, torch.cat([x, x]), torch.arange(200) % 3)


def test_codes_beyond_the_backbone_are_refused():
    (method,) = select("side(width=2048, depths=50)")
    with pytest.raises(InputError, match="larger than the whole backbone; lower width or depths"):
        method.check(shapes_of(library_network("torchvision/resnet50", 3)))


def test_a_class_without_an_image_does_no_harm():
    torch.manual_seed(0)
    (method,) = select("side(width=4)")
    network = method.place(resnet26(3, 0.25).requires_grad_(False).eval(), 7)
    y = torch.arange(20) % 5
    assert method.fit(network, method.split(network)[0](torch.randn(20, 3, 32, 32))[None], y).isfinite().all()
    assert network.head.weight.shape == (7, 64) and network.head.weight.isfinite().all()


@pytest.mark.parametrize("spec", ["side", "side(width=4)"])
@pytest.mark.parametrize("count", [1, 4])
def test_images_that_are_all_alike_are_read_as_numbers(spec, count):
    (method,) = select(spec)
    network = method.place(resnet26(3, 0.25).requires_grad_(False).eval(), 3)
    frozen, _ = method.split(network)
    read = frozen(torch.zeros(count, 3, 32, 32))
    assert method.fit(network, read.expand(2, -1, -1).clone(), torch.arange(count) % 3).isfinite().all()
    assert network.eval()(torch.randn(2, 3, 32, 32)).isfinite().all()


@pytest.mark.parametrize("name", ["torchvision/resnet18", "timm/resnet18"])
def test_the_libraries_networks(name):
    (method,) = select("side(width=8)")
    torch.manual_seed(0)
    source = library_network(name, 3).requires_grad_(False).eval()
    network, x = method.place(source, 5).eval(), torch.randn(4, 3, 32, 32)
    frozen, _ = method.split(network)
    with torch.no_grad():
        read = frozen(x)
        assert read.shape == (4, method.numbers(shapes_of(source))) and method.check(shapes_of(source)) is None
        torch.testing.assert_close(network.body.read(x), read, rtol=1e-2, atol=1e-3)
    assert method.fit(network, read[None].clone(), torch.arange(4)).shape == (1, 4, source.head.in_features)


def test_count():
    """By hand: 64 (64 + 4 · 1280) bits at width 0.25, 256 (256 + 4 · 1280) at width 1."""
    (method,) = select("side")
    slim, whole = resnet26_shapes(0.25, 32), resnet26_shapes()
    assert (method.bits(slim), method.floats(slim)) == (331_776, 128)
    assert (method.bits(whole), method.floats(whole)) == (1_376_256, 512)
    assert f"{method.multiplier(slim):.2f}" == "1.26" and f"{method.multiplier(whole):.2f}" == "1.07"
    assert list(method.read(slim)) == [f"body.stages.{s}.{b}" for s, b in ((0, 0), (0, 2), (1, 0), (1, 2))]


@pytest.mark.parametrize(
    "spec", ["side(width=0)", "side(depths=0)", "side(ridge=0.0)", "side(ridge=1e38)", "side(views=0)"]
)
def test_options_that_mean_nothing(spec):
    with pytest.raises(InputError, match="side"):
        select(spec)
