"""RepAdapter: written out, merged, with biases where they have an effect."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import gradcheck

from visual_decathlon.benchmark.backbones.library import library_network
from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes
from visual_decathlon.benchmark.backbones.structure import shapes_of
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.layers.network import merge_for_inference
from visual_decathlon.methods.layers.rep_adapter import RepAdapterConv
from visual_decathlon.methods.registry import select
from visual_decathlon.methods.shapes import ConvShape

GEOMETRIES = [
    {"kernel_size": 3, "padding": 1, "stride": 2},
    {"kernel_size": (3, 5), "padding": (0, 2), "dilation": 2},
    {"kernel_size": 4, "padding": 1, "padding_mode": "circular", "bias": True},
    {"kernel_size": 3, "padding": "same", "padding_mode": "reflect"},
    {"kernel_size": 1, "stride": 2},
]


def stirred(adapter):
    with torch.no_grad():
        for p in adapter.parameters():
            if p.requires_grad:
                p.normal_()
    return adapter


@pytest.mark.parametrize("how", GEOMETRIES)
def test_the_formula_and_the_fold(how):
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 5, **{"bias": False, **how}).double().requires_grad_(False)
    adapter = RepAdapterConv(conv, 4, bias=False, scale=0.7, dropout=0.2).eval()
    x = torch.randn(2, 6, 9, 11, dtype=torch.float64)
    assert torch.equal(adapter(x), conv(x))
    stirred(adapter)
    h = torch.einsum("nchw,dc->ndhw", x, adapter.down.weight[:, :, 0, 0])
    up = adapter.up.weight[:, :, 0, 0]
    halves = [torch.einsum("ndhw,cd->nchw", h[:, 2 * g : 2 * g + 2], up[3 * g : 3 * g + 3]) for g in (0, 1)]
    wanted = conv(x + 0.7 * torch.cat(halves, dim=1))
    for got in (adapter(x), adapter.merge()(x)):
        assert torch.allclose(got, wanted, rtol=1e-12, atol=1e-12)

    def loss(x, down, up):
        return torch.func.functional_call(adapter, {"down.weight": down, "up.weight": up}, (x,))

    x = x[:1, :, :5, :5].requires_grad_()
    if conv(x.detach()).numel():
        assert gradcheck(
            loss, (x, *(p.detach().clone().requires_grad_() for p in adapter.parameters() if p.requires_grad))
        )


def test_dropout_in_training():
    """Hidden numbers lose a fifth, the others grow by 5/4, other ones at every step; none does in eval mode."""
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 5, 3, padding=1, bias=False).requires_grad_(False)
    adapter, x = stirred(RepAdapterConv(conv, 4, False, scale=0.5, dropout=0.2)), torch.randn(8, 6, 9, 11)
    shown = []
    adapter.up.register_forward_hook(lambda m, given, y: shown.append(given[0]))
    outputs = [adapter.train()(x), adapter(x), adapter.eval()(x)]
    whole, passed = adapter.down(x), shown[:3]
    for hidden, output in zip(passed, outputs, strict=True):
        torch.testing.assert_close(output, conv(x + 0.5 * adapter.up(hidden)), rtol=1e-5, atol=1e-5)
    assert torch.equal(passed[2], whole) and not torch.equal(passed[0], passed[1])
    for hidden in passed[:2]:
        assert (hidden == 0).double().mean().item() == pytest.approx(0.2, abs=0.03)
        torch.testing.assert_close(hidden[hidden != 0], 1.25 * whole[hidden != 0], rtol=1e-4, atol=0)
    torch.testing.assert_close(adapter.merge()(x), conv_of(adapter)(x), rtol=1e-5, atol=1e-5)
    assert RepAdapterConv(conv, 4, False).noise is None  # nothing is drawn at a dropout of 0


def conv_of(adapter):
    """The convolution with W (I + s U D), its matrices multiplied in numpy."""
    up, down = (m.weight[:, :, 0, 0].detach().numpy() for m in (adapter.up, adapter.down))
    half = len(up) // 2
    change = np.concatenate([up[:half] @ down[:2], up[half:] @ down[2:]])
    weight = adapter.conv.weight.numpy()
    out = copy.deepcopy(adapter.conv)
    out.weight.copy_(torch.from_numpy(weight + adapter.scale * np.einsum("oikl,ij->ojkl", weight, change)))
    return out


def test_biases_do_not_fold():
    """Inside an image they are one constant a channel; at its borders the zeros of the padding do not have them."""
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 5, 3, padding=1, bias=False).double().requires_grad_(False)
    adapter, x = stirred(RepAdapterConv(conv, 4, bias=True)), torch.randn(1, 6, 7, 7, dtype=torch.float64)
    with pytest.raises(AttributeError, match="pads with zeros"):
        adapter.merge()
    wanted, constant = adapter(x), adapter.up(adapter.down.bias.view(1, -1, 1, 1))
    adapter.down.bias = adapter.up.bias = None
    off = (adapter.merge()(x) + F.conv2d(constant, conv.weight.sum((2, 3), keepdim=True)) - wanted).abs()
    assert off[..., 1:-1, 1:-1].max() < 1e-10 and off[..., 0, :].min() > 1e-3


def test_biases_have_gradients():
    """In three steps, before every padded convolution; before a 1x1 there are none."""
    torch.manual_seed(0)
    (method,) = select("rep_adapter(bias=True)")
    for source in (resnet26(3, 0.125), library_network("torchvision/resnet50", 3)):
        network, shapes = method.place(source.requires_grad_(False).eval(), 3), shapes_of(source)
        for site, adapter in network.conv_sites():
            if isinstance(adapter, RepAdapterConv):
                biased = adapter.conv.kernel_size != (1, 1)
                assert (adapter.down.bias is not None) == (adapter.up.bias is not None) == biased, site.conv
        trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
        assert trained == method.floats(shapes) + shapes.head(3)
    network = method.place(resnet26(3, 0.125).requires_grad_(False).eval(), 3).train()
    trained = {n: p for n, p in network.named_parameters() if p.requires_grad}
    before = {n: p.detach().clone() for n, p in trained.items()}
    optimiser, largest = torch.optim.SGD(trained.values(), 0.05, momentum=0.9), dict.fromkeys(trained, 0.0)
    x, y = 1 + torch.randn(8, 3, 16, 16), torch.arange(8) % 3
    for _ in range(3):
        optimiser.zero_grad()
        F.cross_entropy(network(x), y).backward()
        largest = {n: max(largest[n], float(p.grad.abs().max())) for n, p in trained.items()}
        optimiser.step()
    for n, p in trained.items():
        assert largest[n] > 1e-6 * max(largest.values()) and not torch.equal(p, before[n]), n


def test_counts_at_width_one():
    shapes = resnet26_shapes()
    plain, biased = select("rep_adapter,rep_adapter(bias=True)")
    assert [c.name for c in shapes.convs if plain.skip_reason(c)] == ["body.stem.conv"]
    cin = sum(c.cin for c in shapes.convs[1:])
    assert plain.floats(shapes) == 7_744 + 12 * cin
    assert biased.floats(shapes) == 7_744 + sum(13 * c.cin + 8 for c in shapes.convs[1:])
    assert [f"{m.multiplier(shapes):.2f}" for m in (plain, biased)] == ["1.07", "1.08"]


def test_what_it_refuses():
    plain, biased = select("rep_adapter,rep_adapter(bias=True)")
    assert plain.mergeable is True and biased.mergeable is False
    assert "2 groups" in plain.skip_reason(ConvShape(4, 4, (3, 3), groups=2))
    with pytest.raises(AttributeError, match="does not merge"):
        merge_for_inference(biased.place(resnet26(3, 0.125).requires_grad_(False).eval(), 3))
    for hidden in (0, 7, -2):
        with pytest.raises(InputError, match="give an even number"):
            select(f"rep_adapter(hidden={hidden})")
    for option in ("scale=0.0", "scale=-1.0", "dropout=1.0", "dropout=-0.1"):
        with pytest.raises(InputError, match=r"must be (above 0|0 or more and below 1)"):
            select(f"rep_adapter({option})")
