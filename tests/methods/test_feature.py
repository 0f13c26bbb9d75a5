"""What the head of a feature extractor reads: the library's own choice, the class token or the mean of the image's."""

import pytest
import torch

from visual_decathlon.benchmark.backbones.library import library_network
from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes
from visual_decathlon.benchmark.backbones.structure import shapes_of_body
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.feature import Feature
from visual_decathlon.methods.layers.network import Network, merge_for_inference, restore, stored_tensors
from visual_decathlon.methods.layers.token_pool import pooled

OPTIONS = "img_size=32,patch_size=8,depth=2,embed_dim=12,num_heads=2"
CLASS = f"timm/vit_tiny_patch16_224({OPTIONS})"
REGISTERS = f"timm/vit_tiny_patch16_224({OPTIONS},reg_tokens=3)"
MEAN = f"timm/vit_tiny_patch16_224({OPTIONS},global_pool='avg')"
NO_CLASS = f"timm/vit_tiny_patch16_224({OPTIONS},class_token=False,global_pool='avg')"
DISTILLED = f"timm/deit_tiny_distilled_patch16_224({OPTIONS})"
TORCHVISION = "torchvision's VisionTransformer"
WINDOWS = (
    "timm/swin_tiny_patch4_window7_224"
    "(img_size=32,window_size=2,patch_size=2,embed_dim=24,depths=(1,1),num_heads=(2,2))"
)


def source_of(name: str):
    torch.manual_seed(0)
    if name == TORCHVISION:
        from torchvision.models import VisionTransformer

        body = VisionTransformer(image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=12, mlp_dim=24)
        body.heads = torch.nn.Identity()
        return Network(body, torch.nn.Linear(12, 3), *shapes_of_body(body, 32)).requires_grad_(False).eval()
    return library_network(name, 3).for_size(32).requires_grad_(False).eval()


def tokens_of(network, x):
    """What the last block gives, by a hook of its own."""
    seen = []
    handle = network.get_submodule(network.blocks[-1]).register_forward_hook(lambda m, a, y: seen.append(y))
    network.body(x)
    handle.remove()
    return seen[-1]


@pytest.mark.parametrize(
    ("name", "extra"), [(CLASS, 1), (REGISTERS, 4), (MEAN, 1), (NO_CLASS, 0), (DISTILLED, 2), (TORCHVISION, 1)]
)
@torch.no_grad()
def test_the_features_are_the_last_norm_of_the_pooled_tokens(name, extra):
    source, x = source_of(name), torch.randn(3, 3, 32, 32)
    tokens, body = tokens_of(source, x), source.body
    own = body.encoder.ln if name == TORCHVISION else body.fc_norm if "avg" in name else body.norm
    assert isinstance(own, torch.nn.LayerNorm)
    wanted = {"mean": own(tokens[:, extra:].mean(1)), "cls": own(tokens[:, 0])}
    for pool in ("mean",) if name == NO_CLASS else ("mean", "cls"):
        method = Feature(pool=pool)
        method.check(source.shapes)
        network = method.place(source, 4).eval()
        frozen, head = method.split(network)
        torch.testing.assert_close(frozen(x), wanted[pool], rtol=1e-5, atol=1e-6)
        for same in (head(frozen(x)), merge_for_inference(network)(x)):
            torch.testing.assert_close(network(x), same)
        again = method.place(source, 4).eval()
        assert restore(again, source, stored_tensors(network, source)) == ""
        assert torch.equal(again(x), network(x)) and len(stored_tensors(network, source)) == 2  # the head
    torch.testing.assert_close(tokens_of(source, x), tokens)  # the source is as it was


@torch.no_grad()
def test_by_default_the_head_reads_what_the_librarys_does():
    for name in (CLASS, MEAN):
        source, x = source_of(name), torch.randn(2, 3, 32, 32)
        assert torch.equal(Feature().place(source, 4).eval().body(x), source.body(x))
    network = Feature(pool="cls").place(source_of(CLASS), 4).eval()
    torch.testing.assert_close(network.body(x), source_of(CLASS).body(x))  # timm's ViT reads its class token
    assert Feature().full_spec == "feature" and Feature(pool="cls").full_spec == "feature(pool='cls')"


@torch.no_grad()
def test_windows_of_channels_last_have_a_mean():
    source, x = source_of(WINDOWS), torch.randn(2, 3, 32, 32)
    wanted = source.body.norm(tokens_of(source, x).mean((1, 2)))
    torch.testing.assert_close(Feature(pool="mean").place(source, 4).eval().body(x), wanted, rtol=1e-5, atol=1e-6)


def test_what_has_no_such_tokens_is_refused():
    maps = r"feature\(pool='{}'\): the last block of this backbone gives no tokens; leave pool out"
    for pool in ("cls", "mean"):
        with pytest.raises(InputError, match=maps.format(pool)):
            Feature(pool=pool).check(resnet26_shapes())
        with pytest.raises(InputError, match=maps.format(pool)):
            Feature(pool=pool).place(resnet26(3, 0.125), 4)
        with pytest.raises(InputError, match="layers behind the last block of this backbone pool its tokens"):
            Feature(pool=pool).check(source_of(NO_CLASS.replace("'avg'", "'map'")).shapes)
    for name in (NO_CLASS, WINDOWS):
        with pytest.raises(
            InputError, match=r"feature\(pool='cls'\): this backbone has no class token; use pool='mean'"
        ):
            Feature(pool="cls").place(source_of(name), 4)
    with pytest.raises(InputError, match="gives no tokens of the image"):
        pooled(torch.zeros(2, 1, 4), 1, "mean")
