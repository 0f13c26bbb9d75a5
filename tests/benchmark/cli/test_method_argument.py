"""Words that method= does not take but another variable does: backbones, settings, profiles."""

import dataclasses

import pytest

from visual_decathlon.benchmark.cli.main import main
from visual_decathlon.benchmark.cli.method_argument import asked_methods
from visual_decathlon.benchmark.config.backbone_names import EXAMPLES, OWN, backbone_as_method
from visual_decathlon.benchmark.config.profiles import FIXED, PROFILES, Profile, Recipe
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.registry import GROUPS, entries

SETTINGS = {field.name for kind in (Profile, Recipe) for field in dataclasses.fields(kind)}
SETTINGS -= {"name", "adapt", "pretrain", *FIXED}


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("resnet50", "is a backbone, not a method: settings=network=torchvision/resnet50;"),
        ("ResNet-18", "is a backbone, not a method: settings=network=torchvision/resnet18;"),
        *(
            (name, f"is a backbone, not a method: settings=network={name};")
            for name in (OWN, *EXAMPLES)
            if "(" not in name
        ),
        ("resnet", "is a backbone, not a method: settings=network= takes resnet26, "),
        *(
            (name, "is a backbone, not a method: settings=network= takes resnet26, ")
            for name in ("vit", "vit_b_16", "swin_t", "efficientnet_b0", "ResNet101", "wide-resnet50", "timm/vit_tiny")
        ),
        *((name, f"is a setting, not a method: settings={name}=;") for name in sorted(SETTINGS)),
        ("LR", "is a setting, not a method: settings=lr=;"),
        *((value, f"is a setting, not a method: settings=precision={value};") for value in ("fp32", "tf32", "bf16")),
        ("one_cycle", "is a setting, not a method: settings=schedule=one-cycle;"),
        *((name, f"is a profile, not a method: profile={name};") for name in PROFILES),
        ("vgg-flowers", "is a domain, not a method: domains=vgg-flowers;"),
    ],
)
def test_the_name_of_a_backbone_setting_or_profile(word: str, expected: str):
    with pytest.raises(InputError) as caught:
        asked_methods(f"bn_adapt, {word}")
    assert f"method={word}: {word} {expected}" in str(caught.value)


def test_no_entry_is_taken_for_something_else():
    assert [method.spec for method in asked_methods("all")] == [entry.name for entry in entries()]
    assert not [name for name in (*GROUPS, *(entry.name for entry in entries())) if backbone_as_method(name)]


@pytest.mark.parametrize(
    "words",
    [
        ["run", "--method", "resnet50"],
        ["submit", "--method", "resnet50"],
        ["sweep", "--method", "resnet50"],
        ["compare", "feature", "resnet50"],
    ],
)
def test_every_command_that_takes_a_method(words: list[str], capsys):
    assert main(words) == 2
    assert "=resnet50: resnet50 is a backbone" in capsys.readouterr().err
