"""Which well-known network of torchvision or timm a file holds, for the sentence that refuses another network.

The shapes of position embeddings are not compared, because they depend on the size of images.
"""

from collections.abc import Iterator, Mapping

from visual_decathlon.benchmark.backbones.library import body_without_values
from visual_decathlon.benchmark.backbones.library_weights import Shape, current_names, fits
from visual_decathlon.datasets.errors import InputError

_VITS = tuple(f"timm/{kind}_patch{patch}_224" for patch in (16, 32) for kind in ("vit_tiny", "vit_small", "vit_base"))
_FAMILIES = (  # (a name that only these have, networks)
    ("layer4.0.conv1.weight", ("resnet18", "resnet34", "resnet50", "resnet101", "wide_resnet50_2", "resnext50_32x4d")),
    ("features.18.0.weight", ("mobilenet_v2",)),
    ("features.16.0.weight", ("mobilenet_v3_large",)),
    ("features.12.0.weight", ("mobilenet_v3_small",)),
    ("features.8.0.weight", ("efficientnet_b0",)),
    ("features.28.weight", ("vgg16",)),
    ("features.norm5.weight", ("densenet121", "densenet169", "densenet201")),
    ("features.12.squeeze.weight", ("squeezenet1_1", "squeezenet1_0")),
    ("features.7.0.block.0.weight", ("convnext_tiny",)),
    ("features.7.0.attn.qkv.weight", ("swin_t", "swin_s", "swin_b")),
    ("encoder.layers.encoder_layer_0.ln_1.weight", ("vit_b_16", "vit_b_32", "vit_l_16")),
    ("trunk_output.block1.block1-0.f.a.0.weight", ("regnet_x_400mf", "regnet_y_400mf")),
    ("dist_token", ("timm/deit_tiny_distilled_patch16_224", "timm/deit_small_distilled_patch16_224")),
    ("blocks.0.attn.qkv.weight", _VITS),
    ("layers.0.blocks.0.attn.qkv.weight", ("timm/swin_tiny_patch4_window7_224", "timm/swin_base_patch4_window7_224")),
    ("blocks.0.mlp_tokens.fc1.weight", ("timm/mixer_s16_224", "timm/mixer_b16_224")),
    ("s4.b1.conv1.conv.weight", ("timm/regnetx_002", "timm/regnety_002", "timm/regnetx_004")),
    ("blocks.6.0.conv_dw.weight", ("timm/efficientnet_b0",)),
    ("blocks.6.0.conv.weight", ("timm/mobilenetv3_large_100",)),
    ("stages.3.blocks.0.conv_dw.weight", ("timm/convnext_tiny", "timm/convnext_small", "timm/convnext_base")),
)


def known_network(shapes: Mapping[str, Shape]) -> str:
    """The first well-known network whose every tensor is there with its shape, under any prefix; "" for none."""
    shapes = current_names(shapes)
    for marker, networks in _FAMILIES:
        place = next((name for name in shapes if f".{name}".endswith(f".{marker}")), None)
        if place is None:
            continue
        prefix = place.removesuffix(marker)
        inside = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
        for network in networks:
            full = network if "/" in network else f"torchvision/{network}"
            wanted = dict(_wanted(full))
            if wanted and all(
                name in inside and (fits(inside[name], shape) or ".pos_embed" in f".{name}")
                for name, shape in wanted.items()
            ):
                return full
    return ""


def _wanted(network: str) -> Iterator[tuple[str, Shape]]:
    """Names and shapes of the body's tensors, counters apart."""
    try:
        tensors = body_without_values(network).state_dict()
    except InputError:  # not in this version of the library
        return
    yield from ((n, tuple(t.shape)) for n, t in tensors.items() if not n.endswith("num_batches_tracked"))
