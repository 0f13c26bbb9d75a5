"""What is read from one pass of a network: layers, norms, blocks, stages, attention, and where it can be cut."""

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from tests.benchmark.backbones.stirred import image, off, stirred
from visual_decathlon.benchmark.backbones.library import library_network, library_shapes
from visual_decathlon.benchmark.backbones.structure import shapes_of_body
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.layers.cut import cut
from visual_decathlon.methods.shapes import AttentionShape, BlockShape, SdpaShape, onwards

VIT = "timm/vit_tiny_patch16_224(img_size=32,patch_size=8,depth=2,embed_dim=48)"
SWIN = "timm/swin_tiny_patch4_window7_224(img_size=32,window_size=2,patch_size=2,depths=(1,1),num_heads=(2,2))"


@pytest.mark.parametrize(
    ("name", "layers", "batch_norms", "other_norms", "stages"),
    [  # counted in the papers and in the libraries' code
        ("torchvision/resnet18", 20, 20, 0, [2, 2, 2, 2]),
        ("timm/resnet26", 29, 29, 0, [2, 2, 2, 2]),
        ("torchvision/mobilenet_v2", 52, 52, 0, [1, 2, 3, 4, 3, 3, 1]),
        ("torchvision/squeezenet1_1", 25, 0, 0, [2, 2, 2, 2]),
        ("torchvision/shufflenet_v2_x1_0", 56, 56, 0, [4, 8, 4]),
        ("torchvision/densenet121", 120, 121, 0, [6, 12, 24, 16]),
        ("torchvision/convnext_tiny", 58, 0, 23, [3, 3, 9, 3]),
        ("timm/mobilenetv1_100", 27, 27, 0, [1, 2, 2, 6, 2]),
        ("timm/regnetx_002", 44, 44, 0, [1, 1, 4, 7]),
        ("timm/vit_tiny_patch16_224", 49, 0, 25, [12]),
        ("timm/mixer_s16_224", 33, 0, 17, [8]),
        ("timm/swin_tiny_patch4_window7_224", 52, 0, 29, [2, 2, 6, 2]),
        ("timm/convnext_atto", 40, 0, 17, [2, 2, 6, 2]),
        ("timm/pit_ti_224", 53, 0, 25, [2, 6, 4]),
        ("timm/pvt_v2_b0", 58, 0, 30, [2, 2, 2, 2]),
        ("torchvision/vgg11", 10, 0, 0, []),
    ],
)
def test_layers_norms_and_stages(name, layers, batch_norms, other_norms, stages):
    network = library_network(name, 3)
    shapes = network.shapes
    assert (len(shapes.convs), sum(n.batch for n in shapes.norms)) == (layers, batch_norms)
    assert sum(not n.batch for n in shapes.norms) == other_norms
    assert [len(stage) for stage in shapes.stages] == stages
    assert shapes.base == sum(p.numel() for p in network.body.parameters())
    assert set(shapes.order) == {
        layer.name for layers in (shapes.convs, shapes.norms, shapes.others) for layer in layers
    }


@pytest.mark.parametrize(
    "name",
    ["torchvision/resnet50", "timm/resnet18", "torchvision/mobilenet_v3_small", "torchvision/densenet121",
     "timm/regnetx_002", "torchvision/googlenet"],
)  # fmt: skip
def test_a_convolutions_norm_is_the_one_that_alone_reads_it(name):
    """Held against a real pass: exactly these pairs hand a tensor on, and every other batch norm reads a sum."""
    network = library_network(name, 3).eval()
    given, conv_of = {}, {}
    for path, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda m, i, out, path=path: conv_of.update({id(out): (path, out)}))
        if isinstance(module, _BatchNorm):
            module.register_forward_pre_hook(
                lambda m, i, path=path: given.update({path: conv_of.get(id(i[0]), ("",))[0]})
            )
    with torch.no_grad():
        network(image(64, torch.float32))
    assert {site.norm: site.conv for site in network.sites if site.norm} == {k: v for k, v in given.items() if v}


def test_the_blocks_of_a_bottleneck_and_their_last_norm():
    shapes = library_network("torchvision/resnet50", 3).shapes
    assert shapes.block_shapes[3] == BlockShape("body.layer2.0", 256, 512, 1, "body.layer2.0.bn3", 512)


def test_the_attention_of_a_transformer():
    shapes = library_network(VIT, 3).shapes
    assert shapes.attentions[1] == AttentionShape(
        "body.blocks.1.attn",
        "body.blocks.1.attn.qkv",
        "body.blocks.1.attn.proj",
        48,
        48,
        3,
        ("body.blocks.1.mlp", "body.blocks.1.mlp.fc1", "body.blocks.1.mlp.fc2"),
        thirds=True,
        gives=48,
    )
    assert shapes.sdpas[1] == SdpaShape("body.blocks.1.attn", heads=3, keys=48, values=48)
    assert shapes.block_shapes[1] == BlockShape(
        "body.blocks.1", 48, 48, 0, "body.blocks.1.mlp.fc2", 48, True, any_length=True
    )
    assert [(o.name, o.floats) for o in shapes.others] == [("body", (1 + 17) * 48)]  # class token, positions
    assert onwards(shapes.order, "body.blocks.1")[0] == "body.blocks.1.norm1"
    assert len(library_network(SWIN, 3).shapes.attentions) == 2


@pytest.mark.parametrize(
    ("name", "size"),
    [("torchvision/resnet18", 40), ("torchvision/mobilenet_v3_small", 40), ("torchvision/squeezenet1_1", 64),
     ("torchvision/shufflenet_v2_x1_0", 40), ("torchvision/efficientnet_b0", 40)],
)  # fmt: skip
def test_a_chain_can_be_cut_before_each_block(name, size):
    """Its parts one behind the other are the whole network."""
    torch.manual_seed(0)
    network = stirred(library_network(name, 3)).eval()
    assert network.shapes.chain
    x = image(size, torch.float32)
    with torch.no_grad():
        for block in network.blocks[:: len(network.blocks) // 3]:
            before, rest = cut(network, block)
            assert off(rest(before(x)), network(x)) < 1e-6


@pytest.mark.parametrize(
    ("name", "size", "blocks"),
    [  # a stage begins with a layer that is no block; a stage of one block has none that follows it
        ("timm/convnext_atto(depths=(1,1,3,1),dims=(8,8,8,8))", 32, ["0.0", "1.0", "2.0", "2.1", "2.2", "3.0"]),
        ("timm/swin_tiny_patch4_window7_224(depths=(1,2),embed_dim=8,img_size=32,num_heads=(2,2),patch_size=2,window_size=4)",
         32, ["0.0", "1.0", "1.1"]),
        ("timm/pit_ti_224", 224, ["0.0", "0.1", *(f"1.{i}" for i in range(6)), *(f"2.{i}" for i in range(4))]),
        ("timm/efficientvit_b0", 224, None),
    ],
)  # fmt: skip
def test_every_block_of_a_stage_is_found(name, size, blocks):
    shapes = library_shapes(name, size)
    if blocks is None:  # a residual block around another module stays the block, with its sum
        assert [b.name for b in shapes.block_shapes[1:3]] == ["body.stages.0.blocks.0.main", "body.stages.0.blocks.1"]
    else:
        assert [
            b.name.partition(".")[2].partition(".")[2].replace(".blocks", "") for b in shapes.block_shapes
        ] == blocks


@pytest.mark.parametrize("name", ["torchvision/densenet121", VIT, "timm/regnetx_002"])
def test_no_chain(name):
    assert not library_network(name, 3).shapes.chain


def test_a_layer_that_computes_in_its_own_way_is_left_alone():
    """It is counted, and no adapter is put there: W + ΔW would not be what it computes with."""

    class Standardised(nn.Conv2d):
        def forward(self, x):
            return self._conv_forward(x, self.weight - self.weight.mean(), self.bias)

    body = nn.Sequential(
        Standardised(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    sites, shapes = shapes_of_body(body, 16)
    assert [site.conv for site in sites] == ["body.2"] and shapes.dim == 5
    assert [(o.name, o.floats, o.layer) for o in shapes.others] == [("body.0", 3 * 4 * 9 + 4, True)]


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("timm/vit_tiny_patch16_224", 32, "does not take images of 32 pixels"),
        ("torchvision/inception_v3", 32, "does not take images of 32 pixels"),
        ("timm/vit_tiny_patch16_224(colour=1)", 32, "timm does not build it"),
        ("timm/vit_tinny_patch16_224", 32, "did you mean timm/vit_tiny_patch16_224"),
        ("torchvision/fasterrcnn_resnet50_fpn", 64, "torchvision has no classifier of that name"),
    ],
)
def test_networks_that_are_refused(name, size, message):
    with pytest.raises(InputError) as caught:
        library_shapes(name, size)
    assert str(caught.value).startswith(f"settings=network={name}") and message in str(caught.value)


def test_a_part_of_the_channels_may_be_as_many_as_pixels_in_a_row():
    """MixNet splits its convolutions: the last of one block gives 28 of the channels of an image of 28 x 28."""
    shapes = library_shapes("timm/mixnet_l", 224)
    assert not shapes.of_tokens and [block.cout for block in shapes.block_shapes[-2:]] == [264, 264]
