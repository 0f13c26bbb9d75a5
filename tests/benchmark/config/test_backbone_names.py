"""Names of backbones: one spelling for each, and a message on names that are none, wherever they are given."""

import pytest

from visual_decathlon.benchmark.cli.main import main, parse
from visual_decathlon.benchmark.config.backbone_names import canonical
from visual_decathlon.benchmark.config.profiles import profile
from visual_decathlon.datasets.errors import InputError


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vit", "name its library too, as in timm/vit"),
        ("ConvNeXt", "name its library too, as in timm/convnext"),
        ("resnet34", "name its library too, as in timm/resnet34"),
        ("resnet18", "did you mean torchvision/resnet18 or timm/resnet18?"),
        ("ResNet-50", "did you mean torchvision/resnet50 or timm/resnet50?"),
        ("torchvison/resnet", "name its library too, as in timm/resnet"),
        ("resent26", "did you mean resnet26?"),
        ("x", "there are resnet26, or torchvision/NAME or timm/NAME"),
        ("timm/", "there are resnet26"),
    ],
)
def test_unknown_backbones(name: str, message: str, capsys):
    with pytest.raises(InputError) as caught:
        profile("standin", [f"network={name}"])
    assert str(caught.value).startswith(f"settings=network={name}: no backbone is called {name!r}")
    assert message in str(caught.value)
    with pytest.raises(SystemExit) as ended:
        main(["methods", "--network", name])
    assert ended.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "spelled"),
    [
        ("resnet26", "resnet26"),
        ("timm/resnet26", "timm/resnet26"),
        ("timm/vit_tiny_patch16_224.augreg_in21k", "timm/vit_tiny_patch16_224"),
        ("timm/vit_tiny_patch16_224()", "timm/vit_tiny_patch16_224"),
        (" timm/swin_t(patch_size=2, depths = [1, 1])", "timm/swin_t(depths=[1, 1],patch_size=2)"),
        ("timm/swin_t( depths=[1,1],patch_size=2 )", "timm/swin_t(depths=[1, 1],patch_size=2)"),
        ("torchvision/mobilenet_v2(width_mult=0.25)", "torchvision/mobilenet_v2(width_mult=0.25)"),
    ],
)
def test_one_spelling(name: str, spelled: str):
    assert canonical(name) == spelled == canonical(spelled)
    assert profile("standin", [f"network={name}"]).network == spelled


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm/vit(num_classes=10)", "the suite sets num_classes itself; leave it out"),
        ("timm/vit(pretrained=True)", "the suite sets pretrained itself"),
        ("timm/vit(64)", "its arguments are not of the form timm/vit(img_size=64,patch_size=8)"),
        ("timm/vit(img_size=64", "its arguments are not of the form"),
        ("timm/vit(img_size=f(2))", "its arguments are not of the form"),
        ("timm/vit(a=1,a=2)", "its arguments are not of the form"),
        ("timm/vit(**{})", "its arguments are not of the form"),
    ],
)
def test_arguments_that_are_refused(name: str, message: str):
    with pytest.raises(InputError, match=r"^settings=network=") as caught:
        profile("standin", [f"network={name}"])
    assert message in str(caught.value)


def test_commas_inside_of_parentheses_belong_to_the_name():
    """SET= takes lists of settings with commas or blanks between them."""
    network = "network=timm/swin(img_size=64, depths=(1, 1), patch_size=2)"
    words = ["run", "--method", "feature", "--set", f"epochs=1,{network} batch=8", "lr=0.1"]
    settings = ["epochs=1", network, "batch=8", "lr=0.1"]
    assert parse(words).set == settings


def test_width_is_a_setting_of_our_own_network():
    """A library's network has its width in its arguments, so that one network is one backbone in every profile."""
    name = "timm/resnet18"
    chosen = [profile("standin", [f"network={name}", *width]) for width in ([], ["width=1"], ["width=0.25"])]
    assert {one.width for one in chosen} == {1.0} and {one.network for one in chosen} == {name}
    assert profile("standin").width == 0.25 and profile("standin", ["width=0.5"]).width == 0.5
    with pytest.raises(InputError, match=r"width=0.5 is a setting of resnet26; timm/resnet18 takes arguments"):
        profile("standin", [f"network={name}", "width=0.5"])
