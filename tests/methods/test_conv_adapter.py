"""Conv-Adapter's branch written out, over geometries; its count against the module."""

import dataclasses

import pytest
import torch
from torch import nn

from visual_decathlon.benchmark.backbones.library import library_network
from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes
from visual_decathlon.benchmark.backbones.structure import shapes_of
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.layers.conv_adapter import ConvAdapterConv
from visual_decathlon.methods.layers.network import merge_for_inference
from visual_decathlon.methods.registry import select
from visual_decathlon.methods.shapes import ConvShape

GEOMETRIES = [
    {"kernel_size": 3, "padding": 1, "stride": 2},
    {"kernel_size": (3, 5), "padding": 2, "dilation": 2, "groups": 2},
    {"kernel_size": 3, "padding": 1, "padding_mode": "reflect", "bias": True},
    {"kernel_size": 1, "stride": 2},
    {"kernel_size": 4, "stride": (1, 2)},
]


@pytest.mark.parametrize("how", GEOMETRIES)
def test_the_formula(how):
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 6, **{"bias": False, **how}).double().requires_grad_(False)
    adapter, x = ConvAdapterConv(conv, 4), torch.randn(2, 8, 11, 13, dtype=torch.float64)
    assert torch.equal(adapter.scale, torch.ones_like(adapter.scale)) and not adapter.down.bias.any()
    with torch.no_grad():
        adapter.scale.normal_()
        adapter.down.bias.normal_()
    branch = []
    for i in range(2):  # each narrow channel sees four of the input's
        one = nn.Conv2d(4, 1, **{**how, "groups": 1, "bias": True}).double()
        one.load_state_dict({"weight": adapter.down.weight[i : i + 1], "bias": adapter.down.bias[i : i + 1]})
        branch.append(one(x[:, 4 * i : 4 * i + 4]).clamp(min=0))
    up = torch.einsum("nwhv,ow->nohv", torch.cat(branch, dim=1), adapter.up.weight[:, :, 0, 0])
    wanted = conv(x) + adapter.scale * up
    assert (wanted - conv(x)).abs().max() > 0.01
    assert torch.allclose(adapter(x), wanted, rtol=1e-12, atol=1e-12)
    (method,) = select("conv_adapter(reduction=4)")
    assert sum(p.numel() for p in adapter.parameters() if p.requires_grad) == method.new_floats(ConvShape.of(conv))


def test_the_start_is_hes_of_the_outputs():
    """Variances 2 / (k² w) of D, whose groups torch's fan does not divide by, and 2 / cout of P, as released."""
    torch.manual_seed(0)
    adapter = ConvAdapterConv(nn.Conv2d(512, 1024, 3, padding=1).requires_grad_(False), 8)
    assert adapter.down.weight.var().item() == pytest.approx(2 / (9 * 64), rel=0.05)
    assert adapter.up.weight.var().item() == pytest.approx(2 / 1024, rel=0.05)


@pytest.mark.parametrize(
    ("network", "wanted"),
    [
        ("resnet26", "body.stages.{}.unit1.conv"),
        ("torchvision/resnet18", "body.layer{}.conv1"),
        ("timm/resnet50", "body.layer{}.conv2"),  # the 3x3 of a bottleneck
    ],
)
def test_a_block_has_one_adapter(network, wanted):
    """At the convolution that is larger than 1x1; every convolution with where='all'."""
    source = (resnet26(3, 0.25) if network == "resnet26" else library_network(network, 3)).requires_grad_(False).eval()
    for spec in ("conv_adapter", "conv_adapter(where='all')"):
        (method,) = select(spec)
        placed, shapes = method.place(source, 3), shapes_of(source)
        found = [site.conv for site, module in placed.conv_sites() if isinstance(module, ConvAdapterConv)]
        if method.where == "block":
            blocks = [path.removeprefix("body.stages.").removeprefix("body.layer") for path in source.blocks]
            assert found == [wanted.format(block) for block in blocks]
        else:
            assert found == [site.conv for site, conv in source.conv_sites() if conv.in_channels > 3]
        trained = sum(p.numel() for p in placed.parameters() if p.requires_grad)
        assert trained == method.floats(shapes) + shapes.head(3)


def test_channels_last():
    """Strided 1x1 convolutions too, whose weight gradient has crashed on some CPUs."""
    torch.manual_seed(0)
    conv = nn.Conv2d(64, 32, 1, 2, bias=False).requires_grad_(False)
    adapter = ConvAdapterConv(conv, 8)
    with torch.no_grad():
        adapter.scale.normal_()
    x = torch.randn(4, 64, 9, 9)
    grads = []
    for image in (x, x.to(memory_format=torch.channels_last)):
        adapter.zero_grad()
        adapter(image).square().sum().backward()
        grads.append([p.grad.clone() for p in adapter.parameters() if p.requires_grad])
    for a, b in zip(*grads, strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-4)


def test_counts_at_width_one():
    """The release's 9 C + w + w cout + 2 cout, less the bias of cout before a batch norm, at 12 or 24 convolutions."""
    block, every = select("conv_adapter,conv_adapter(where='all')")
    shapes = resnet26_shapes()
    assert [c.name for c in shapes.convs if every.skip_reason(c)] == ["body.stem.conv"]
    for method, convs, printed in ((block, shapes.convs[1::2], "1.10"), (every, shapes.convs[1:], "1.19")):
        assert method.adapted(shapes) == list(convs)
        released = sum(9 * c.cin + c.cin // 8 + c.cin // 8 * c.cout + 2 * c.cout for c in convs)
        assert method.floats(shapes) == 7_744 + released - sum(c.cout for c in convs)
        assert f"{method.multiplier(shapes):.2f}" == printed


def test_what_it_refuses():
    with pytest.raises(InputError, match="reduction must be 1 or more"):
        select("conv_adapter(reduction=0)")
    (method,) = select("conv_adapter(reduction=7)")
    assert method.skip_reason(ConvShape(64, 64, (3, 3))) == "64 channels do not divide by 7"
    with pytest.raises(InputError, match="fits no convolution"):
        method.check(resnet26_shapes())
    with pytest.raises(InputError, match="this backbone has none; add where='all'"):
        select("conv_adapter")[0].check(dataclasses.replace(resnet26_shapes(), block_shapes=()))
    with pytest.raises(AttributeError, match="does not merge"):
        merge_for_inference(
            select("conv_adapter(reduction=4)")[0].place(resnet26(3, 0.125).requires_grad_(False).eval(), 3)
        )
