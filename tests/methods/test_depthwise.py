"""Depthwise sharing: a domain's own tensors, the same in the library's own model, and where it is refused."""

import pytest
import timm
import torch
from torch import nn
from torchvision import models

from tests.entries import assert_count, assert_start
from visual_decathlon.benchmark.backbones.library import library_network
from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes, shapes_named
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.layers.network import merge_for_inference, restore, stored_tensors
from visual_decathlon.methods.registry import select
from visual_decathlon.methods.shapes import ConvShape

(METHOD,) = select("depthwise")
SMALL = "torchvision/mobilenet_v2(width_mult=0.25)"
CLASSES, SIZE = 4, 32


@pytest.fixture(scope="module")
def source():
    """A small MobileNet whose batch norms differ from fresh ones."""
    torch.manual_seed(0)
    network = library_network(SMALL, 3).for_size(SIZE)
    for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.running_mean, -0.1, 0.1)
    return network.double().requires_grad_(False).eval()


def trained(source, seed: int = 1):
    """A placed network after two steps, and (images, its logits)."""
    torch.manual_seed(seed)
    network, x = METHOD.place(source, CLASSES), torch.randn(4, 3, SIZE, SIZE, dtype=torch.float64)
    optimiser = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 0.1)
    for _ in range(2):
        optimiser.zero_grad()
        METHOD.loss(network.train(), x, torch.arange(4), nn.CrossEntropyLoss())[0].backward()
        optimiser.step()
    with torch.no_grad():
        return network, x, network.eval()(x)


@pytest.mark.parametrize(
    ("conv", "own"),
    [
        (ConvShape(8, 8, (3, 3), 8), True),
        (ConvShape(8, 8, (1, 5), 8, bias=True), True),
        (ConvShape(8, 8, (1, 1), 8), False),  # a scale
        (ConvShape(8, 16, (3, 3), 8), False),  # two filters a channel
        (ConvShape(8, 8, (3, 3), 4), False),
        (ConvShape(8, 8, (3, 3)), False),
        (ConvShape(8, 8, (1, 1), linear=True), False),
    ],
)
def test_what_is_depthwise(conv: ConvShape, own: bool):
    assert conv.depthwise == own


def test_own_tensors_are_those_of_depthwise_convolutions_and_batch_norms(source):
    """Copies at the start; all others are the source's own objects."""
    network = METHOD.place(source, CLASSES)
    shared = {id(t) for t in source.state_dict(keep_vars=True).values()}
    own = {name.rpartition(".")[0] for name, t in network.state_dict(keep_vars=True).items() if id(t) not in shared}
    wanted = {
        name
        for name, m in source.named_modules()
        if isinstance(m, nn.BatchNorm2d) or (isinstance(m, nn.Conv2d) and m.weight.shape[1] == 1)
    }
    assert own == wanted | {"head"} and len(wanted) == 17 + 52
    x = torch.randn(2, 3, SIZE, SIZE, dtype=torch.float64)
    with torch.no_grad():
        assert_start(METHOD, network.eval().body(x), source.body(x))
    assert_count(METHOD, network, source, source.shapes, CLASSES)


def test_the_librarys_model_with_the_file_computes_the_same(source):
    """The formula a second way: torchvision's model with the source's weights, and over them the domain's file."""
    network, x, wanted = trained(source)
    plain = models.mobilenet_v2(width_mult=0.25)
    plain.classifier = nn.Sequential(nn.Dropout(), nn.Linear(plain.last_channel, CLASSES))
    plain = plain.double().eval()
    file = stored_tensors(network, source)
    assert not any(t.shape[1] > 1 for t in file.values() if t.ndim == 4), "a 1x1 or the stem is stored"
    tensors = {name.removeprefix("body."): t for name, t in source.state_dict().items() if name.startswith("body.")}
    plain.load_state_dict(
        tensors | {n.removeprefix("body.").replace("head.", "classifier.1."): t for n, t in file.items()}
    )
    with torch.no_grad():
        got = plain(x)
        off = [float((t - wanted).abs().max() / wanted.abs().max()) for t in (got, merge_for_inference(network)(x))]
    assert max(off) < 1e-10


def test_stored_and_loaded(source):
    network, x, wanted = trained(source)
    fresh = METHOD.place(source, CLASSES).eval()
    with torch.no_grad():
        assert not torch.equal(fresh(x), wanted)
        assert restore(fresh, source, stored_tensors(network, source)) == ""
        assert torch.equal(fresh(x), wanted)


@pytest.mark.parametrize(
    ("name", "printed"),
    [("torchvision/mobilenet_v2", "1.40"), ("torchvision/efficientnet_b0", "1.50"), ("timm/convnext_atto", None)],
)
def test_the_count_is_that_of_the_librarys_own_modules(name: str, printed: str | None):
    """ConvNeXt's depthwise convolutions have biases, and it has no batch norm."""
    library, _, model = name.partition("/")
    whole = timm.create_model(model) if library == "timm" else models.get_model(model)
    layers = [*whole.modules()]
    filters = [m for m in layers if isinstance(m, nn.Conv2d) and m.groups == m.in_channels]
    counted = [*filters, *(m for m in layers if isinstance(m, nn.BatchNorm2d))]
    shapes = shapes_named(name, size=64)
    assert METHOD.floats(shapes) == sum(p.numel() for m in counted for p in m.parameters())
    if printed:
        assert f"{METHOD.multiplier(shapes):.2f}" == printed
        assert f"{printed} on {name}" in " ".join(type(METHOD).__doc__.split())
    else:
        assert all(m.bias is not None for m in filters) and len(filters) == len(counted)


def test_where_there_is_no_depthwise_convolution():
    sentence = METHOD.unsupported_reason("resnet26")
    assert "resnet26 has none" in sentence and sentence.endswith("settings=network=torchvision/mobilenet_v2")
    assert METHOD.unsupported_reason(SMALL) == METHOD.unsupported_reason("timm/resnet18") == ""
    for shapes in (resnet26_shapes(), shapes_named("timm/resnet18"), shapes_named("timm/regnety_002", size=64)):
        with pytest.raises(InputError, match=r"^depthwise gives .* this backbone has none; take a network"):
            METHOD.check(shapes)
    with pytest.raises(InputError, match=r"^depthwise gives"):
        METHOD.place(resnet26(3, 0.125), CLASSES)
