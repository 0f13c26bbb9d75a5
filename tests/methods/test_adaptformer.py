"""Adapters of a transformer's layer: AdaptFormer parallel to the MLP or attention, Pfeiffer's behind the MLP."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.entries import assert_count, assert_start
from visual_decathlon.benchmark.backbones.library import library_network, library_shapes
from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.layers.network import Network, restore, stored_tensors
from visual_decathlon.methods.registry import select

VIT = "timm/vit_tiny_patch16_224(img_size=32,patch_size=8,depth=2,embed_dim=48)"
SPECS = ("adaptformer(bottleneck=8)", "adaptformer(bottleneck=8, where='attention', scale=1.0)", "pfeiffer")


def source() -> Network:
    torch.manual_seed(0)
    return library_network(VIT, 3).for_size(32).requires_grad_(False).eval()


def moved(network: Network) -> Network:
    """Every trained tensor away from its start."""
    torch.manual_seed(2)
    for p in network.parameters():
        if p.requires_grad:
            nn.init.normal_(p, std=0.1)
    return network.eval()


@pytest.mark.parametrize("spec", SPECS)
def test_start_count_and_file(spec):
    (method,), shared = select(spec), source()
    torch.manual_seed(1)
    network = method.place(shared, 4).eval()
    assert_count(method, network, shared, shared.shapes, 4)
    x = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        assert_start(method, network.body(x), shared.body(x))
        wanted = moved(network)(x)
        assert not torch.allclose(network.body(x), shared.body(x), atol=1e-3)
        again = method.place(shared, 4).eval()
        assert restore(again, shared, stored_tensors(network, shared)) == ""
        assert torch.equal(again(x), wanted)


@pytest.mark.parametrize("spec", SPECS)
def test_one_layer_by_its_formula(spec):
    (method,), shared = select(spec), source()
    network = moved(method.place(shared, 4))
    x = torch.randn(2, 17, 48)
    plain, block = shared.body.blocks[1], network.body.blocks[1]
    trained = [p.detach().flatten(1) if p.dim() > 1 else p.detach() for p in block.parameters() if p.requires_grad]
    down, d, up, u = trained  # in the order of registration

    def branch(z):
        return F.linear(F.relu(F.linear(z, down, d)), up, u)

    with torch.no_grad():
        z = plain.norm1(x)
        h = plain.attn(z) + (branch(z) if "attention" in spec else 0)
        h = h + x
        z = plain.norm2(h)
        y = plain.mlp(z)
        if spec == "pfeiffer":
            y = y + branch(y)
        elif "attention" not in spec:
            y = y + 0.1 * branch(z)
        assert torch.allclose(block(x), h + y, atol=1e-5)


def test_counts_on_a_vit_b():
    shapes = library_shapes("timm/vit_base_patch16_224", 224)
    adaptformer, pfeiffer = select("adaptformer,pfeiffer")
    assert adaptformer.floats(shapes) == 12 * (2 * 768 * 64 + 768 + 64) == 1_189_632
    assert pfeiffer.floats(shapes) == 12 * (2 * 768 * 8 + 768 + 8)


@pytest.mark.parametrize("name", ["adaptformer", "pfeiffer"])
def test_what_they_refuse(name):
    (method,) = select(name)
    with pytest.raises(InputError, match=r"no attention with one linear layer .* in front of an MLP"):
        method.check(resnet26_shapes())
    (wide,) = select(f"{name}(bottleneck=49)")
    with pytest.raises(InputError, match=r"\(bottleneck=49\) is no bottleneck: .* 48 channels; lower it"):
        wide.check(source().shapes)
    with pytest.raises(InputError, match="the bottleneck must be 1 or more"):
        select(f"{name}(bottleneck=0)")
