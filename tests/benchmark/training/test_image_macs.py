"""Multiply-adds of networks whose work is not in convolutions alone, against closed forms."""

import pytest
import torch

from visual_decathlon.benchmark.backbones.library import library_network
from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.config.backbone_names import OWN
from visual_decathlon.benchmark.training.macs import conv_macs, image_macs
from visual_decathlon.methods.layers.network import merge_for_inference
from visual_decathlon.methods.registry import select

DIM, MLP, DEPTH, SIDE, PATCH = 24, 96, 2, 16, 4
TOKENS = 1 + (SIDE // PATCH) ** 2
VIT = f"timm/vit_tiny_patch16_224(depth={DEPTH},embed_dim={DIM},img_size={SIDE},num_heads=2,patch_size={PATCH})"
BLOCK = TOKENS * (4 * DIM**2 + 2 * DIM * MLP) + 2 * TOKENS**2 * DIM
WHOLE = (TOKENS - 1) * 3 * PATCH**2 * DIM + DEPTH * BLOCK


def placed(spec: str):
    (method,) = select(spec)
    return method.place(library_network(VIT, 5).requires_grad_(False).eval(), 7)


@pytest.mark.parametrize(
    ("spec", "beside"),
    [
        ("finetune", 0),
        ("lora", 0),  # the product of A and B is one for all images
        ("ia3", 0),
        ("houlsby(bottleneck=4)", DEPTH * 2 * TOKENS * 2 * DIM * 4),
        ("adaptformer(bottleneck=3)", DEPTH * TOKENS * 2 * DIM * 3),
    ],
)
def test_a_vision_transformer_has_the_closed_form(spec: str, beside: int):
    network = placed(spec)
    assert image_macs(network, SIDE) == WHOLE + beside
    assert conv_macs(network, SIDE) == (TOKENS - 1) * 3 * PATCH**2 * DIM, "the patches alone"


def test_what_is_trained_stays_so():
    """CaiT's class token is trained and an input of modules, on which torch's counter fails."""
    source = library_network("timm/cait_xxs24_224(depth=1,img_size=32)", 5).requires_grad_(False).eval()
    network = select("finetune")[0].place(source, 7)
    trained = [name for name, p in network.named_parameters() if p.requires_grad]
    assert image_macs(network, 32) == image_macs(source, 32) > 0
    assert trained == [name for name, p in network.named_parameters() if p.requires_grad]


def test_a_head_that_no_image_passes_is_not_subtracted():
    """The frozen teacher of lwf has a head of its own."""
    assert image_macs(placed("lwf"), SIDE) == WHOLE


def test_of_an_image_it_does_not_depend_on_the_head():
    with torch.no_grad():
        few, many = (library_network(VIT, classes) for classes in (2, 1000))
        assert image_macs(few, SIDE) == image_macs(many, SIDE) == WHOLE


def test_merged_adapters_cost_nothing():
    assert image_macs(merge_for_inference(placed("lora")), SIDE) == WHOLE


@pytest.mark.parametrize("name", [OWN, "torchvision/mobilenet_v2"])
def test_of_convolutions_both_counts_agree(name: str):
    network = resnet26(5, 0.25) if name == OWN else library_network(name, 5)
    assert image_macs(network, 32) == conv_macs(network, 32)
