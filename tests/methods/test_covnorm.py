"""CovNorm: the reduction against its definition, its rule on exact cases, and what training changes afterwards."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.layers.covnorm import CovNormConv, covariance_of, covnorm_convs, reduced
from visual_decathlon.methods.layers.dan import CombinedConv
from visual_decathlon.methods.layers.network import restore, stored_tensors
from visual_decathlon.methods.registry import select
from visual_decathlon.methods.shapes import ConvShape

GEOMETRIES = {
    "plain": {"kernel_size": 3, "padding": 1},
    "stride": {"kernel_size": 3, "padding": 1, "stride": 2},
    "non-square": {"kernel_size": (3, 5), "padding": (0, 2), "stride": (2, 1), "dilation": (1, 2)},
    "reflect, no bias": {"kernel_size": 3, "padding": 1, "padding_mode": "reflect", "bias": False},
}


def random_covariance(channels: int) -> torch.Tensor:
    root = torch.randn(channels, channels, dtype=torch.float64)
    return root @ root.t()


def test_covariance_is_that_of_the_positions():
    torch.manual_seed(0)
    y = torch.randn(3, 5, 4, 6, dtype=torch.float64) + torch.arange(5)[:, None, None]
    wanted = torch.cov(y.permute(1, 0, 2, 3).flatten(1), correction=0)
    assert torch.allclose(covariance_of(y), wanted, rtol=1e-10, atol=1e-12)


def test_whitening_and_colouring():
    """What the whitening gives is white, and the colouring of white values has the covariance of what A adds."""
    torch.manual_seed(0)
    a, s = torch.randn(7, 7, dtype=torch.float64), random_covariance(7)
    colour, mini, whiten = reduced(a, s, 3)
    assert (colour.shape, mini.shape, whiten.shape) == ((7, 3), (3, 3), (3, 7))
    assert torch.allclose(whiten @ s @ whiten.t(), torch.eye(3, dtype=torch.float64), atol=1e-9)
    added = a @ s @ a.t()
    left, size, _ = torch.linalg.svd(added)
    assert torch.allclose(colour @ colour.t(), (left[:, :3] * size[:3]) @ left[:, :3].t(), rtol=1e-8, atol=1e-8)
    p = torch.linalg.svd(s)[0][:, :3]
    wanted = left[:, :3] @ left[:, :3].t() @ a @ p @ p.t()
    assert torch.allclose(colour @ mini @ whiten, wanted, rtol=1e-8, atol=1e-8)


def test_nothing_is_lost_at_full_rank_or_of_features_in_few_directions():
    torch.manual_seed(0)
    a, s = torch.randn(6, 6, dtype=torch.float64), random_covariance(6)
    colour, mini, whiten = reduced(a, s, 6)
    assert torch.allclose(colour @ mini @ whiten, a, rtol=1e-7, atol=1e-7)
    few = torch.randn(6, 2, dtype=torch.float64)
    colour, mini, whiten = reduced(a, few @ few.t(), 2)
    features = few @ torch.randn(2, 50, dtype=torch.float64)
    assert torch.allclose(colour @ mini @ whiten @ features, a @ features, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("how", GEOMETRIES.values(), ids=GEOMETRIES)
def test_it_is_a_1x1_behind_the_convolution(how):
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 6, **how).double().requires_grad_(False)
    adapter, x = CovNormConv(conv, 2), torch.randn(2, 4, 11, 9, dtype=torch.float64)
    assert torch.allclose(adapter(x), conv(x), rtol=1e-12, atol=1e-12)
    nn.init.normal_(adapter.mini)
    for _ in range(2):
        bias = 0 if conv.bias is None else conv.bias.view(-1, 1, 1)
        y = conv(x) - bias
        wanted = y + F.conv2d(y, (adapter.colour @ adapter.mini @ adapter.whiten)[:, :, None, None]) + bias
        for got in (adapter.train()(x), adapter.eval()(x), adapter.merge()(x)):
            assert torch.allclose(got, wanted, rtol=1e-10, atol=1e-10)
        adapter.reduce()
    assert torch.linalg.matrix_rank(adapter.adapter()) == 2


def test_the_covariance_is_collected_in_training_alone():
    torch.manual_seed(0)
    adapter, x = CovNormConv(nn.Conv2d(3, 4, 3, bias=False).requires_grad_(False), 1), torch.randn(2, 3, 8, 8)
    adapter.eval()(x)
    assert not adapter.covariance.any()
    adapter.train()(x)
    assert torch.allclose(adapter.covariance, 0.1 * covariance_of(adapter.conv(x)), rtol=1e-5, atol=1e-7)


def test_half_of_the_steps_train_the_whole_adapter():
    """After the reduction only the small block has a gradient, and the file has the network's bits."""
    (method,) = select("covnorm(keep=0.2)")
    torch.manual_seed(0)
    source = resnet26(3, 0.25).requires_grad_(False).eval()
    network = method.place(source, 4).train()
    x, y = torch.randn(6, 3, 16, 16), torch.arange(6) % 4
    optimiser = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 0.01)
    for step in range(1, 5):
        optimiser.zero_grad()
        method.loss(network, x, y, F.cross_entropy)[0].backward()
        gradient = covnorm_convs(network)[5].mini.grad
        assert (gradient[3:].any() and gradient[:, 3:].any()) == (step <= 2)
        optimiser.step()
        method.after_step(network, step, 4)
        assert all(bool(conv.is_reduced) == (step >= 2) for conv in covnorm_convs(network))
    stored = stored_tensors(network, source)
    fresh = method.place(source, 4).eval()
    assert restore(fresh, source, stored) == ""
    with torch.no_grad():
        assert torch.equal(fresh(x), network.eval()(x))


def test_count():
    """The printed #par. with the default; where the three matrices are not smaller than A, A is kept."""
    (method,) = select("covnorm")
    assert f"{method.multiplier(resnet26_shapes()):.2f}" == "1.25"
    small = ConvShape(4, 4, (3, 3))
    assert (method.rank_at(small), method.new_floats(small)) == (1, 9)
    (half,) = select("covnorm(keep=0.5)")
    assert half.new_floats(small) == 16 and isinstance(half.layer(nn.Conv2d(4, 4, 3)), CombinedConv)
    assert method.skip_reason(ConvShape(8, 8, (3, 3), groups=2))


@pytest.mark.parametrize("keep", [0, 1, -0.5, 3])
def test_wrong_options(keep):
    with pytest.raises(InputError, match="part of the channels"):
        select(f"covnorm(keep={keep})")
