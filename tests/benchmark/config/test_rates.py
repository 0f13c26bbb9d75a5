"""The peak learning rate of every method in every profile."""

import dataclasses

import pytest

from visual_decathlon.benchmark.config.profiles import PROFILES, profile
from visual_decathlon.benchmark.config.rates import PAPER_METHODS, REFERENCE, peak_rate, rate_note
from visual_decathlon.benchmark.runs.backbones import lower_rates
from visual_decathlon.methods.registry import GROUPS, entries, select

PAPER = [name for name in PROFILES if name.startswith("decathlon") and not name.endswith("vit")]


def rates(name: str, *settings: str) -> dict[str, float]:
    recipe = profile(name, settings).adapt
    return {entry.name: peak_rate(recipe, entry(), name.endswith("vit")) for entry in entries()}


def test_the_papers_methods_are_those_of_its_tables():
    assert {*GROUPS["table1"], "par_adapter", "par_adapter_joint_svd"} == PAPER_METHODS
    (reference,) = select("res_adapter")
    assert reference.lr == REFERENCE


def test_the_stand_ins_have_each_methods_own_rate():
    assert rates("standin") == {entry.name: entry.lr for entry in entries()}


@pytest.mark.parametrize("name", PAPER)
def test_the_decathlon_profiles(name: str):
    found = rates(name)
    assert {found[method] for method in PAPER_METHODS} == {0.1}
    own = {entry.name: entry.lr for entry in entries() if entry.name not in PAPER_METHODS}
    assert {method: found[method] for method in own} == own, "0.1 for each 0.1 of the sweep"
    assert (found["oft"], found["partial"], found["finetune"]) == (0.06, 0.05, 0.1)


def test_lower_rates_are_a_third_and_none_is_the_papers():
    own = {entry.name: float(f"{entry.lr / 3:.1g}") for entry in entries()}
    assert rates("standin-vit") == own and own["lora"] == 0.05
    assert rates("decathlon-vit") == pytest.approx(own, rel=1e-12), "0.1 for each 0.1 of the sweep"


@pytest.mark.parametrize("name", PROFILES)
def test_a_setting_decides_for_all(name: str):
    assert set(rates(name, "lr=0.03").values()) == {0.03}


def test_pretraining_has_the_papers_rate():
    assert {PROFILES[name].pretrain.lr for name in PAPER} == {0.1}


def test_the_note():
    recipe = PROFILES["decathlon"].adapt
    assert rate_note(recipe, select("finetune,partial,oft,spottune,res_adapter"), False) == (
        "learning rates: the paper's 0.1 for finetune res_adapter; 0.05 for partial spottune, 0.06 for oft, "
        "from the sweep on the stand-ins; settings=lr= sets one for all"
    )
    assert rate_note(recipe, select("oft"), False).startswith("learning rates: 0.06 for oft, from the sweep")
    assert rate_note(recipe, select("table1"), False) == ""
    assert rate_note(profile("decathlon", ["lr=0.1"]).adapt, select("oft"), False) == ""
    note = rate_note(PROFILES["decathlon-vit"].adapt, select("res_adapter,prompt"), True)
    assert "paper" not in note and note.startswith(
        "learning rates: 0.03 for res_adapter prompt, a third of those on ResNets"
    )
    assert rate_note(PROFILES["standin-vit"].adapt, select("lora"), True).startswith("learning rates: 0.05 for lora")
    assert rate_note(PROFILES["standin"].adapt, select("oft"), False) == ""


@pytest.mark.parametrize(
    ("network", "lower"),
    [
        ("resnet26", False),
        ("torchvision/resnext50_32x4d", False),
        ("torchvision/densenet121", False),
        ("torchvision/mobilenet_v2", True),
        ("timm/convnextv2_atto", False),
        ("torchvision/shufflenet_v2_x0_5", True),
        (PROFILES["standin-vit"].network, True),
        ("torchvision/vit_b_32(image_size=32)", True),
        ("timm/mixer_s16_224(img_size=32)", True),
    ],
)
def test_which_networks_have_lower_rates(network: str, lower: bool):
    assert lower_rates(dataclasses.replace(PROFILES["standin"], network=network)) == lower


@pytest.mark.parametrize(
    ("network", "lr"),
    [("resnet26", 0.15), (PROFILES["standin-vit"].network, 0.05), ("torchvision/shufflenet_v2_x0_5", 0.05)],
)
def test_planned_runs_have_the_rate_of_their_network(network: str, lr: float, planned):
    runs = planned("lora", settings=f"network={network} width=1")[2]
    assert {run.lr for run in runs} == {lr} and len(runs) == 10
