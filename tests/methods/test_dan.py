"""Deep adaptation: filters combined in weight space against outputs combined after the convolution."""

import pytest
import torch
from torch import nn

from visual_decathlon.benchmark.backbones.library import library_network
from visual_decathlon.benchmark.backbones.structure import shapes_of
from visual_decathlon.methods.layers.dan import CombinedConv
from visual_decathlon.methods.layers.network import exported, merge_for_inference
from visual_decathlon.methods.registry import select

GEOMETRIES = {
    "plain": {"kernel_size": 3, "padding": 1},
    "stride": {"kernel_size": 3, "padding": 1, "stride": 2},
    "dilation": {"kernel_size": 3, "padding": 2, "dilation": 2},
    "non-square": {"kernel_size": (3, 5), "padding": (0, 2), "stride": (2, 1)},
    "reflect": {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
    "same": {"kernel_size": (5, 3), "padding": "same"},
}


def moved(conv: nn.Conv2d) -> CombinedConv:
    adapter = CombinedConv(conv.requires_grad_(False))
    nn.init.normal_(adapter.change, std=0.3)
    return adapter


@pytest.mark.parametrize("how", GEOMETRIES.values(), ids=GEOMETRIES)
def test_combined_filters_are_combined_outputs(how):
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 6, **how)
    adapter, x = moved(conv), torch.randn(2, 4, 11, 9)
    bias = conv.bias.view(-1, 1, 1)
    wanted = torch.einsum("ij,njhw->nihw", torch.eye(6) + adapter.change, conv(x) - bias) + bias
    for got in (adapter(x), super(CombinedConv, adapter).forward(x), adapter.merge()(x)):
        assert torch.allclose(got, wanted, rtol=1e-5, atol=1e-5)


def test_groups_and_bias():
    """With groups too a filter is a row of the matrix; a bias is not combined."""
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 6, 3, groups=2, bias=True)
    adapter, x = moved(conv), torch.randn(2, 4, 7, 8)
    weight = torch.einsum("ij,jckl->ickl", torch.eye(6) + adapter.change, conv.weight)
    wanted = torch.nn.functional.conv2d(x, weight, conv.bias, groups=2)
    for got in (adapter(x), adapter.merge()(x)):
        assert torch.allclose(got, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("groups", [1, 2])
def test_gradient(groups):
    torch.manual_seed(0)
    adapter = moved(nn.Conv2d(2, 4, (3, 2), stride=2, padding=1, groups=groups).double())
    x = torch.randn(2, 2, 5, 6, dtype=torch.float64, requires_grad=True)

    def f(change, x):
        return torch.func.functional_call(adapter, {"change": change}, (x,))

    assert torch.autograd.gradcheck(f, (adapter.change.detach().requires_grad_(), x))


def test_decay_pulls_to_the_shared_filters():
    conv = nn.Conv2d(2, 3, 3).requires_grad_(False)
    adapter = moved(conv)
    with torch.no_grad():
        far = (adapter.adapted_weight() - conv.weight).norm().item()
        adapter.change.mul_(0.5)  # what decay does
        assert (adapter.adapted_weight() - conv.weight).norm().item() == pytest.approx(far / 2, rel=1e-5)


@pytest.mark.parametrize("name", ["torchvision/resnet18", "timm/resnet50"])
def test_on_the_libraries_networks(name):
    """Counted, merged and exported there, bottlenecks and strided 1x1 shortcuts included."""
    (method,) = select("dan")
    torch.manual_seed(0)
    source = library_network(name, 3).requires_grad_(False).eval()
    network = method.place(source, 4).eval()
    shapes = shapes_of(source)
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == method.floats(shapes) + shapes.head(4)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, CombinedConv):
                module.change.normal_(std=0.01)
    x = torch.randn(1, 3, 33, 40)
    with torch.no_grad():
        wanted, got = network(x), merge_for_inference(network)(x)
    assert torch.allclose(got, wanted, rtol=1e-4, atol=1e-4 * wanted.abs().max().item())
    body = {key: t for key, t in exported(network).items() if not key.startswith("fc.")}
    source.body.load_state_dict(body, strict=True)
