"""State dicts that torchvision and timm write are read: the features are those of the libraries' own networks."""

from pathlib import Path

import pytest
import torch

from tests.benchmark.backbones.library_files import VIT, features, given, in_cache, library_model, saved, state
from tests.benchmark.backbones.small_resnet import within
from tests.benchmark.backbones.stirred import image, off
from visual_decathlon.benchmark.backbones.library_config import normalisation
from visual_decathlon.benchmark.backbones.library_weights import foreign_place
from visual_decathlon.datasets.errors import InputError

DEIT = "timm/deit_tiny_distilled_patch16_224(img_size=32,patch_size=8,depth=2,embed_dim=48)"
SLIM = "img_size=32,window_size=2,patch_size=2,embed_dim=24,depths=(1,1),num_heads=(2,2)"
SWIN = f"timm/swin_tiny_patch4_window7_224({SLIM})"
MIXER = "timm/mixer_s16_224(img_size=32)"
HALF, USUAL = (0.5, 0.5, 0.5), (0.485, 0.456, 0.406)


@pytest.mark.parametrize(
    ("name", "heads", "mean"),
    [
        ("torchvision/mobilenet_v2(width_mult=0.25)", ["classifier.1"], USUAL),
        ("torchvision/squeezenet1_1", ["classifier.1"], USUAL),
        ("torchvision/densenet121", ["classifier"], USUAL),
        ("torchvision/convnext_tiny", ["classifier.2"], USUAL),
        (VIT, ["head"], HALF),
        (DEIT, ["head", "head_dist"], USUAL),
        (SWIN, ["head.fc"], USUAL),
        (MIXER, ["head"], HALF),
        ("timm/regnetx_002", ["head.fc"], USUAL),
        ("timm/efficientnet_b0", ["classifier"], USUAL),
        ("torchvision/mnasnet0_5", ["classifier.1"], USUAL),
    ],
)
def test_features_are_the_librarys_own(name: str, heads: list[str], mean: tuple, tmp_path: Path):
    whole, x = library_model(name), image(32, torch.float32, 2)
    backbone = given(saved(state(whole), tmp_path), name, 32)
    network, wanted = in_cache(backbone, tmp_path), features(whole, heads, x)
    assert backbone.mean_std[0] == mean and not backbone.headless
    with torch.no_grad():
        assert off(network.body(x), wanted) <= 1e-5
        if len(heads) == 1 and "squeezenet" not in name:  # whose classifier has a ReLU behind it
            assert off(network(x), whole(x)) <= 1e-5
    stated = whole.get_submodule(heads[0])
    assert torch.equal(network.head.weight, stated.weight.flatten(1)) and torch.equal(network.head.bias, stated.bias)
    assert ("`head_dist.weight`" in " ".join(backbone.notes)) == (len(heads) == 2)
    torch.save(state(whole), tmp_path / "x.pth")
    again = given(tmp_path / "x.pth", name, 32)
    assert again.weight_hashes == backbone.weight_hashes and len(again.notes) == len(backbone.notes)


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (lambda net, other: {"state_dict": within("model.", net), "hyper_parameters": {"lr": 1}}, "prefix `model.`"),
        (lambda net, other: within("module.", net), "prefix `module.` of all"),
        (lambda net, other: {"student": within("module.backbone.", other) | within("module.head.", DINO),
                             "teacher": within("backbone.", net) | within("head.", DINO)},
         "`head.mlp.0.weight`, `head.mlp.0.bias`, `head.last_layer.weight_v` (3 in all)"),
        (lambda net, other: {"model": net, "model_ema": within("module.", other) | {"n_averaged": torch.tensor(1)}},
         "`model` is taken"),
        (lambda net, other: within("_orig_mod.", net) | {"mask_token": torch.ones(1, 48)}, "`mask_token` (1 in all)"),
    ],
    ids=("Lightning", "DataParallel", "DINO", "EMA", "compiled"),
)  # fmt: skip
@pytest.mark.parametrize("name", [VIT, "torchvision/mobilenet_v2(width_mult=0.25)"], ids=("vit", "mobilenet"))
def test_wrapped_state_dicts(wrap, message: str, name: str, tmp_path: Path):
    whole, x = library_model(name), image(32, torch.float32)
    body = ["head" if name == VIT else "classifier.1"]
    net, other = state(whole), state(library_model(name, seed=1))
    if "head.mlp" in message:  # DINO's networks have no classifier
        net, other = ({n: t for n, t in each.items() if not n.startswith(body[0])} for each in (net, other))
    backbone = given(saved({}, tmp_path, wrap(net, other)), name, 32)
    assert message in " ".join(backbone.notes) and backbone.headless == ("head.mlp" in message)
    assert ("no head on the features" in " ".join(backbone.notes)) == backbone.headless
    network = in_cache(backbone, tmp_path)
    with torch.no_grad():
        assert off(network.body(x), features(whole, body, x)) <= 1e-5


DINO = {"mlp.0.weight": torch.ones(7, 48), "mlp.0.bias": torch.ones(7), "last_layer.weight_v": torch.ones(9, 7)}


def test_the_average_can_be_chosen(tmp_path: Path):
    tensors = {"model": state(library_model(VIT)), "model_ema": within("module.", state(library_model(VIT, seed=1)))}
    path = saved({}, tmp_path, tensors)
    network = in_cache(given(Path(f"{path}:model_ema"), VIT, 32), tmp_path)
    assert torch.equal(network.state_dict()["body.cls_token"], tensors["model_ema"]["module.cls_token"])


# --- other grids --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (VIT, {"img_size": 64}, "`pos_embed` is resized from a grid of 8x8 to 4x4 positions by timm's own function"),
        (DEIT, {"img_size": 48}, "`pos_embed` is resized from a grid of 6x6 to 4x4 positions by timm's own function"),
        (VIT, {"img_size": 64, "patch_size": 16},
         "`patch_embed.proj.weight` is resized from 16x16 to 8x8 by timm's own function"),
        (SWIN, {"img_size": 64, "window_size": 4}, "`layers.0.blocks.0.attn.relative_position_bias_table` and 1 more "
         "are resized from windows of 4x4 to 2x2"),
        ("timm/convit_tiny(img_size=32,patch_size=8,depth=2,embed_dim=48,local_up_to_layer=1)", {"img_size": 48},
         "`pos_embed` is resized from a grid of 6x6 to 4x4"),
    ],
)  # fmt: skip
def test_positions_of_another_grid_are_resized_as_timm_does(name: str, changes: dict, message: str, tmp_path: Path):
    from timm.layers import resample_abs_pos_embed
    from timm.models import load_state_dict
    from timm.models.swin_transformer import checkpoint_filter_fn as swin
    from timm.models.vision_transformer import checkpoint_filter_fn as vit

    file, x = saved(state(library_model(name, **changes)), tmp_path), image(32, torch.float32, 2)
    backbone = given(file, name, 32)
    assert message in " ".join(backbone.notes), backbone.notes
    whole, tensors = library_model(name, seed=3), load_state_dict(str(file))
    if "convit" in name:
        tensors["pos_embed"] = resample_abs_pos_embed(tensors["pos_embed"], [4, 4], num_prefix_tokens=0)
    else:
        tensors = (swin if name == SWIN else vit)(tensors, whole)
    whole.load_state_dict(tensors, strict=name != SWIN)  # whose masks are of no file
    heads = {SWIN: ["head.fc"], DEIT: ["head", "head_dist"]}.get(name, ["head"])
    with torch.no_grad():
        assert off(in_cache(backbone, tmp_path).body(x), features(whole, heads, x)) <= 1e-5


def test_torchvisions_vit_with_its_older_names_and_another_grid(tmp_path: Path, monkeypatch):
    """The names of torchvision's own files, which its MLPBlock replaces as it loads them."""
    from torchvision.models import vision_transformer

    real = vision_transformer._vision_transformer
    slim = {"patch_size": 8, "num_layers": 1, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 32}
    monkeypatch.setattr(vision_transformer, "_vision_transformer", lambda **all_: real(**all_ | slim))
    name = "torchvision/vit_b_16(image_size=32)"
    own = state(library_model(name, image_size=48))
    older = {n.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): t for n, t in own.items()}
    assert older.keys() != own.keys()
    backbone = given(saved(older, tmp_path), name, 32)
    assert "`encoder.pos_embedding` is resized from a grid of 6x6 to 4x4 positions by torchvision's own function" in (
        " ".join(backbone.notes)
    )
    whole, x = library_model(name, seed=3), image(32, torch.float32, 2)
    whole.load_state_dict(vision_transformer.interpolate_embeddings(32, 8, own))
    with torch.no_grad():
        assert off(in_cache(backbone, tmp_path).body(x), features(whole, ["heads.head"], x)) <= 1e-5


# --- names of older versions and of the networks' authors ----------------------------------------------------------


@pytest.mark.parametrize("name", ["torchvision/densenet121", "timm/densenet121(growth_rate=8,block_config=(2,2,2,2))"])
def test_densenets_older_names(name: str, tmp_path: Path):
    own = state(library_model(name))
    older = {n.replace(".norm1.", ".norm.1.").replace(".conv2.", ".conv.2."): t for n, t in own.items()}
    assert len(older.keys() - own.keys()) > 30
    network = in_cache(given(saved(older, tmp_path), name, 32), tmp_path)
    assert all(torch.equal(network.state_dict()[f"body.{n}"], t) for n, t in own.items() if "classifier" not in n)


def test_names_of_the_networks_authors_are_replaced_by_timms_function(tmp_path: Path):
    """ConvNeXt as its authors write it, wrapped: no name but the head's is timm's."""
    name = "timm/convnext_atto(depths=(1,1,1,1),dims=(8,8,8,8),conv_mlp=False)"
    whole, x = library_model(name), image(32, torch.float32, 2)
    authors = {}
    for n, t in state(whole).items():
        n = n.replace("stem.", "downsample_layers.0.").replace("head.fc.", "head.").replace("head.norm.", "norm.")
        for stage in range(4):
            n = n.replace(f"stages.{stage}.downsample.", f"downsample_layers.{stage}.")
            n = n.replace(f"stages.{stage}.blocks.", f"stages.{stage}.")
        authors[n.replace("conv_dw", "dwconv").replace("mlp.fc", "pwconv")] = t
    backbone = given(saved({}, tmp_path, {"model": within("module.trunk.", authors)}), name, 32)
    assert "names of the network's authors are replaced by timm's own function for timm/convnext_atto(" in (
        " ".join(backbone.notes)
    )
    with torch.no_grad():
        assert off(in_cache(backbone, tmp_path)(x), whole(x)) <= 1e-5


def test_dinov2_with_registers_as_its_authors_name_it(tmp_path: Path):
    name = "timm/vit_small_patch14_reg4_dinov2(img_size=28,depth=1,embed_dim=48,num_heads=3)"
    whole, x = library_model(name), image(28, torch.float32, 2)
    authors = {n: t for n, t in state(whole).items() if not n.startswith("head.")}
    first = torch.full((1, 1, 48), 0.5)  # the class token's own position, which timm adds to the token
    authors["pos_embed"] = torch.cat([first, authors["pos_embed"]], dim=1)
    authors["cls_token"] = authors["cls_token"] - first
    authors |= {"register_tokens": authors.pop("reg_token"), "mask_token": torch.ones(1, 48)}
    backbone = given(saved(authors, tmp_path), name, 28)
    assert backbone.headless and "`mask_token`" in " ".join(backbone.notes)
    with torch.no_grad():
        assert off(in_cache(backbone, tmp_path).body(x), features(whole, ["head"], x)) <= 1e-5


def test_sizes_that_no_memory_holds_are_no_network():
    """The library's function sees shapes alone."""
    shapes = {"patch_embed.proj.weight": (2**40, 2**40), "pos_embed": (1, 2**40, 3), "mask_token": (1,)}
    assert foreign_place(shapes, VIT) is None


# --- the suite's own files, mean and std, sizes --------------------------------------------------------------------


def test_a_file_of_the_cache_is_the_same_backbone(tmp_path: Path):
    first = given(saved(state(library_model(VIT)), tmp_path), VIT, 32)
    (kept,) = (tmp_path / "cache" / "backbones").glob("*.safetensors")
    again = given(kept, VIT, 32)
    assert again.weight_hashes == first.weight_hashes and "left out" not in " ".join(again.notes)


def test_the_image_size_is_the_networks_own_where_it_takes_no_other(tmp_path: Path):
    name = VIT.replace("32", "48")
    backbone = given(saved(state(library_model(name)), tmp_path), name, 0)
    assert (backbone.profile.crop, backbone.profile.resize) == (48, 54)
    assert "images are shown at 48 pixels, as timm/vit_tiny_patch16_224(" in " ".join(backbone.notes)
    name = "torchvision/mobilenet_v2(width_mult=0.25)"
    backbone = given(saved(state(library_model(name)), tmp_path), name, 0)
    assert (backbone.profile.crop, backbone.profile.resize) == (32, 36)
    assert "is made for images of 224 pixels and gets 32 here" in " ".join(backbone.notes)


def test_metadata_go_before_the_librarys_mean_and_std(tmp_path: Path):
    from safetensors.torch import save_file

    save_file(state(library_model(VIT)), tmp_path / "x.safetensors", {"mean": "[0.1, 0.2, 0.3]", "std": "[1, 1, 1]"})
    backbone = given(tmp_path / "x.safetensors", VIT, 32)
    assert backbone.mean_std == ((0.1, 0.2, 0.3), (1, 1, 1)) and not any("mean" in note for note in backbone.notes)


def test_torchvisions_second_normalisation_is_in_the_mean_and_std():
    """GoogLeNet with its own weights transforms its input; a body without that gets mean and std 0.5."""
    from torchvision.models import get_model

    whole = get_model("googlenet", weights=None, init_weights=False, transform_input=True)
    x = torch.rand(2, 3, 4, 4)
    usual = torch.tensor(USUAL)[:, None, None], torch.tensor((0.229, 0.224, 0.225))[:, None, None]
    mean, std = (torch.tensor(values)[:, None, None] for values in normalisation("torchvision/googlenet"))
    assert off(whole._transform_input((x - usual[0]) / usual[1]), (x - mean) / std) < 1e-5
    assert normalisation("torchvision/googlenet(transform_input=True)").mean == USUAL


# --- weights of other networks -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "other", "changes", "message"),
    [
        (VIT, VIT, {"embed_dim": 96},
         "has body.cls_token of shape (1, 1, 96), the network has (1, 1, 48); give weights of timm/vit_tiny"),
        (VIT, VIT, {"depth": 3}, "has body.blocks.2.attn.proj.bias, which is not in the network; give weights of"),
        (VIT, DEIT, {}, "has body.pos_embed of shape (1, 18, 48), the network has (1, 17, 48); give weights of"),
        (VIT, "timm/mixer_s16_224", {}, "lacks body.cls_token; give weights of timm/vit_tiny_patch16_224(depth=2"),
        (VIT, "timm/mixer_s16_224", {}, "or name theirs by settings=network=timm/mixer_s16_224"),
        (VIT, "timm/regnetx_002", {}, "holds a timm/regnetx_002, not a timm/vit_tiny"),
        (VIT, "torchvision/resnet18", {}, "holds a resnet18, not a timm/vit_tiny_patch16_224"),
        ("torchvision/mobilenet_v2", "torchvision/mobilenet_v2", {"width_mult": 0.25},
         "has body.features.0.0.weight of shape (8, 3, 3, 3), the network has (32, 3, 3, 3); give weights of torchvis"),
        ("torchvision/mobilenet_v2(width_mult=0.25)", "torchvision/mobilenet_v2", {"width_mult": 1.0},
         "or name theirs by settings=network=torchvision/mobilenet_v2"),
        ("resnet26", VIT, {}, "has none of the names known here"),
        ("resnet26", "torchvision/mobilenet_v2", {}, "holds a torchvision/mobilenet_v2, not a resnet26: add settings="),
    ],
)  # fmt: skip
def test_weights_of_another_network_are_one_sentence(name: str, other: str, changes: dict, message: str, tmp_path):
    path = saved(state(library_model(other, **changes)), tmp_path)
    with pytest.raises(InputError) as caught:
        given(path, name, 32)
    sentence = str(caught.value)
    assert message in sentence and str(path) in sentence and "\n" not in sentence, sentence
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("wrapped", [False, True])
def test_the_stages_of_a_swin_are_no_vits(wrapped: bool, tmp_path: Path):
    """Each has some names of a ViT; neither is asked to be chosen."""
    tensors = state(library_model(f"timm/swin_tiny_patch4_window7_224({SLIM})"))
    with pytest.raises(InputError, match=r"has none of the names known here .*give weights of timm/vit_tiny"):
        given(saved(tensors, tmp_path, {"model": tensors} if wrapped else None), VIT, 32)


@pytest.mark.parametrize("wrapped", [None, {}])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm/vit_tiny_patch16_225", "timm has no classifier of that name; did you mean timm/vit_tiny_patch16_224"),
        ("timm/vit_tiny_patch16_224(imgsize=32)", "timm does not build it"),
    ],
)
def test_a_mistyped_network_is_no_damaged_file(name: str, message: str, wrapped: dict | None, tmp_path: Path):
    tensors = state(library_model(VIT))
    with pytest.raises(InputError, match=message):
        given(saved(tensors, tmp_path, wrapped if wrapped is None else tensors), name, 0)
