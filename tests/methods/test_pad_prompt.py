"""The learned border: the place and number of its pixels, and the sizes it needs."""

import pytest
import torch

from visual_decathlon.benchmark.backbones.library import library_network
from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes
from visual_decathlon.benchmark.backbones.structure import shapes_of
from visual_decathlon.benchmark.training.macs import conv_macs
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.layers.network import merge_for_inference, own_tensors
from visual_decathlon.methods.registry import select


def source_of(size: int):
    torch.manual_seed(0)
    source = resnet26(3, 0.125).requires_grad_(False).eval()
    source = source.for_size(size)
    return source


def test_the_network_sees_the_image_in_its_border():
    """Every pixel of the border is one parameter, and the whole image is in the middle."""
    (method,) = select("pad_prompt")
    source = source_of(16)
    network = method.place(source, 3).eval()
    border = network.body.stem.conv
    with torch.no_grad():
        numbers = torch.arange(1.0, 1 + border.rows.numel() + border.columns.numel())
        border.rows.copy_(numbers[: border.rows.numel()].view_as(border.rows))
        border.columns.copy_(numbers[border.rows.numel() :].view_as(border.columns))
    seen = []
    border.conv.register_forward_hook(lambda m, args, y: seen.append(args[0]))
    x = -torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        logits = network(x)
        wanted = source.body(seen[0])
        assert torch.equal(network.body(x), wanted) and torch.equal(logits, network.head(wanted))
    shown = seen[0]
    assert shown.shape == (2, 3, 24, 24) and torch.equal(shown[:, :, 4:20, 4:20], x)
    around = torch.ones(3, 24, 24, dtype=torch.bool)
    around[:, 4:20, 4:20] = False
    for image in shown:
        assert torch.equal(image[around].sort().values, numbers)
    assert torch.equal(shown[0, :, :4], border.rows[0]) and torch.equal(shown[0, :, -4:], border.rows[1])
    assert torch.equal(shown[0, :, 4:20, :4], border.columns[0])
    assert torch.equal(shown[0, :, 4:20, -4:], border.columns[1])


@pytest.mark.parametrize(("size", "width"), [(64, 4), (72, 4), (32, 8), (224, 16)])
def test_count(size, width):
    """6p(2H + 2p): the larger square less the smaller, in three colours; the domain's only other tensor is the head."""
    (method,) = select(f"pad_prompt(width={width})")
    source = source_of(size)
    own = own_tensors(network := method.place(source, 3), source)
    floats = method.floats(resnet26_shapes(0.125, size))
    assert floats == 3 * ((size + 2 * width) ** 2 - size**2)
    assert sum(t.numel() for t in own.values()) == floats + network.head.weight.numel() + 3
    assert all(p.requires_grad for p in own.values())


def test_its_border_fits_where_the_image_does():
    for size in (16, 24):
        (method,) = select("pad_prompt")
        network = method.place(source_of(size), 3).train()
        network(torch.randn(2, 3, size, size).to(memory_format=torch.channels_last)).sum().backward()
        border = network.body.stem.conv
        assert all((p.grad != 0).float().mean() > 0.9 for p in (border.rows, border.columns))
        assert conv_macs(network, size) > conv_macs(source_of(size), size)


def test_it_does_not_merge():
    (method,) = select("pad_prompt")
    assert not method.mergeable and method.start == "other"
    with pytest.raises(AttributeError, match="does not merge"):
        merge_for_inference(method.place(source_of(16), 3))


@pytest.mark.parametrize("name", ["torchvision/resnet18", "timm/resnet50"])
def test_on_the_libraries_networks(name):
    (method,) = select("pad_prompt(width=8)")
    source = library_network(name, 3).requires_grad_(False).eval()
    source = source.for_size(48)
    network = method.place(source, 3).train()
    network(torch.randn(2, 3, 48, 48)).sum().backward()
    trained = {n: p for n, p in network.named_parameters() if p.requires_grad}
    assert {n.rpartition(".")[2] for n in trained} == {"rows", "columns", "weight", "bias"} and len(trained) == 4
    floats = method.floats(shapes_of(source, 48)) + shapes_of(source).head(3)
    assert sum(p.numel() for p in trained.values()) == floats


@pytest.mark.parametrize("width", [0, -4, 2, 6])
def test_widths_that_break_the_halving(width):
    with pytest.raises(InputError, match=rf"pad_prompt\(width={width}\): width must be 4, 8, 12"):
        select(f"pad_prompt(width={width})")
