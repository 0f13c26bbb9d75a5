"""Networks whose code does other things with their layers than most, each with a method that met it."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from visual_decathlon.benchmark.backbones.library import library_network, library_shapes
from visual_decathlon.benchmark.runs.trial_pass import check_pass
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.layers.network import is_norm
from visual_decathlon.methods.registry import select

TINY = "timm/tiny_vit_5m_224(depths=(1,1,1,1),embed_dims=(32,64,64,64),num_heads=(2,2,2,2),window_sizes=(7,7,7,7))"
VIT = "timm/vit_tiny_patch16_224(depth=2,embed_dim=24,img_size=32,num_heads=2,patch_size=8)"


def method_of(spec: str):
    (method,) = select(spec)
    return method


@pytest.mark.parametrize(("name", "thirds"), [(TINY, False), (VIT, True)])
def test_values_are_the_last_third_of_a_fused_projection_or_none_are_adapted(name: str, thirds: bool):
    """What goes into the output projection is linear in the values: twice those rows, twice all of it."""
    torch.manual_seed(0)
    network = library_network(name, 3).eval()
    attention = network.shapes.attentions[0]
    assert {a.thirds for a in network.shapes.attentions} == {thirds}
    seen = []
    network.get_submodule(attention.proj).register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    fused = network.get_submodule(attention.qkv)
    images = torch.randn(1, 3, network.shapes.size, network.shapes.size)
    with torch.no_grad():
        network(images)
        for tensor in (fused.weight, fused.bias):
            tensor[2 * attention.inner :] *= 2
        network(images)
    assert torch.allclose(seen[1], 2 * seen[0], rtol=1e-4, atol=1e-6) == thirds
    lora, ia3 = method_of("lora(where='qv')"), method_of("ia3")
    adapted = {conv.name for conv in ia3.adapted(network.shapes)}
    assert (attention.qkv in adapted) == thirds and attention.hidden[2] in adapted
    if thirds:
        lora.check(network.shapes)
    else:
        with pytest.raises(InputError, match="one behind the other"):
            lora.check(network.shapes)
        method_of("lora(where='attention')").check(network.shapes)  # whole layers, in whatever order


@pytest.mark.parametrize("spec", ["par_adapter", "adapter", "dan", "rep_adapter"])
def test_a_linear_layer_whose_output_is_viewed(spec: str):
    """Relative positions of `RelPosMlp` are viewed in another shape, which takes a contiguous tensor."""
    source = library_network("timm/test_vit_relpos(img_size=32)", 3).requires_grad_(False).eval()
    network = method_of(spec).place(source, 3).eval()
    with torch.no_grad():
        assert network(torch.randn(1, 3, 32, 32)).shape == (1, 3)


def test_channels_of_blocks_that_change_their_axis():
    """The first of MambaOut reads maps and gives channels last, that of PVT reads them last and gives maps."""
    for name, expected in (
        ("timm/test_mambaout", [(3, 16, False), (16, 16, True), (32, 32, True)]),
        ("timm/pvt_v2_b0(depths=(1,1,1,1))", [(32, 32, False), (32, 64, True), (64, 160, True)]),
        ("timm/focalnet_tiny_srf", [(96, 96, True), (96, 96, True), (192, 192, True)]),
    ):
        shapes = library_shapes(name)
        assert [(b.cin, b.cout, b.simple) for b in shapes.block_shapes][:3] == expected, name
    with pytest.raises(InputError, match="follows one map from block to block"):
        method_of("lst").check(library_shapes("timm/test_mambaout"))


def test_blocks_that_give_tuples():
    shapes = library_shapes("timm/mvitv2_tiny")
    assert not shapes.block_shapes[0].single and not shapes.block_shapes[0].simple
    with pytest.raises(InputError, match="gives more; use feature"):
        method_of("side").check(shapes)


def test_an_mlp_of_another_width_than_its_attention():
    """MViT's attention maps 96 channels to 192 where a stage begins; the MLP behind it has 192, or gives as many."""
    shapes = library_shapes("timm/mvitv2_tiny")
    widths = {conv.name: (conv.cin, conv.cout) for conv in shapes.convs}
    mlps = [widths[a.hidden[1]][0] for a in shapes.attentions if widths[a.hidden[1]][0] == widths[a.hidden[2]][1]]
    assert any(a.dim != widths[a.hidden[1]][0] for a in shapes.attentions)
    method, m = method_of("adaptformer(bottleneck=8)"), 8
    assert method.floats(shapes) == shapes.affine + sum(2 * c * m + c + m for c in mlps)
    source = library_network("timm/mvitv2_tiny", 3).requires_grad_(False).eval()
    network, images = method.place(source, 3).eval(), torch.randn(1, 3, 64, 64)
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    assert trained == method.floats(shapes) + network.head.weight.numel() + 3
    with torch.no_grad():
        assert torch.allclose(network.body(images), source.body(images), atol=1e-5)  # it starts at zero
    with pytest.raises(InputError, match="adaptformer puts"):  # its attention gives a tuple
        method_of("adaptformer(bottleneck=8,where='attention')").check(shapes)


def test_norms_of_timms_own():
    shapes = library_shapes("timm/test_vit4(img_size=32)")
    assert len(shapes.norms) == 19 and method_of("bn_adapt").floats(shapes) == 19 * 96
    assert not is_norm(nn.Linear(2, 2))


@pytest.mark.parametrize("name", ["torchvision/alexnet", "torchvision/squeezenet1_1"])
def test_no_norms_at_all(name: str):
    with pytest.raises(InputError, match="this one has none; use feature or bitfit"):
        method_of("bn_adapt").check(library_shapes(name))


class Failing(nn.Module):
    def __init__(self, message: str = "shapes\n do not fit " + "x" * 200):
        super().__init__()
        self.message = message

    def forward(self, x):
        raise RuntimeError(self.message)


def test_a_pass_that_fails_is_one_sentence(monkeypatch):
    """Whatever the code of a library does with adapters in it; the network and the random numbers stay as they were."""
    run = SimpleNamespace(profile=SimpleNamespace(network=VIT, crop=32))
    with pytest.raises(InputError) as caught:
        check_pass(run, method_of("lst"), Failing(), "cpu")
    sentence = str(caught.value)
    assert sentence.startswith("lst") and VIT in sentence and "32 pixels" in sentence and "\n" not in sentence
    assert "shapes do not fit" in sentence and len(sentence) < 400 and "choose another" in sentence
    network = nn.Sequential(nn.Dropout(), nn.BatchNorm2d(3)).train()
    state, before = torch.get_rng_state(), network[1].running_mean.clone()
    check_pass(run, method_of("lst"), network, "cpu")
    assert network.training and network[1].training and torch.equal(network[1].running_mean, before)
    assert torch.equal(torch.get_rng_state(), state)
    for message in ("DefaultCPUAllocator: can't allocate memory", "put_ does not have a deterministic implementation"):
        with pytest.raises(RuntimeError, match=message):  # no fault of the network's: told as such further up
            check_pass(run, method_of("lst"), Failing(message), "cpu")
    run.profile.network = "resnet26"
    check_pass(run, method_of("lst"), Failing(), "cpu")  # the suite's own is not tried


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("torchvision/vit_b_16", "torchvision/vit_b_16(image_size=32)"),
        ("timm/vit_tiny_patch16_224(depth=2)", "timm/vit_tiny_patch16_224(depth=2,img_size=32)"),
        ("timm/levit_128s", "it is made for 224 pixels"),
    ],
)
def test_the_remedy_for_a_size_works(name: str, remedy: str):
    with pytest.raises(InputError) as caught:
        library_shapes(name, 32)
    quoted = f"'network={remedy}'" if "(" in remedy else remedy
    assert str(caught.value).endswith(quoted)
    if "(" in remedy:
        assert library_shapes(remedy, 32).size == 32
