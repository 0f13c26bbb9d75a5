"""Specifications: their files, estimated costs and the parts of a profile that are hashed."""

import dataclasses
import json
from pathlib import Path

import msgspec
import pytest

from visual_decathlon.benchmark.config import specs
from visual_decathlon.benchmark.config.profiles import PROFILES, profile
from visual_decathlon.benchmark.config.specs import (
    Backbone,
    ImageSet,
    JointTraining,
    Run,
    network_settings,
    preprocessing_json,
    profile_dict,
    recipe_settings,
    recorded_profile,
)
from visual_decathlon.datasets.catalogue import DOMAINS

STANDIN = PROFILES["standin"]


def images(name: str = "dtd", count: int = 100) -> ImageSet:
    return ImageSet(DOMAINS[name], (), "all", f"manifest of {name}", 5, None, count)


def backbone(**changes) -> Backbone:
    return Backbone(STANDIN, "plain", "pretrained", Path("cache"), **{"images": images("imagenet12"), **changes})


def run(**changes) -> Run:
    usual = {"backbone": backbone(), "train": images(), "evaluate": images(), "seed": 0, "split": "val", "lr": 0.1}
    return Run(**{"method": "feature", "source_cell": False, **usual, **changes})


def test_files_of_a_backbone_and_of_a_joint_training():
    pretrained = backbone()
    assert pretrained.path == Path("cache") / f"{pretrained.hash}.safetensors"
    assert pretrained.checkpoint == Path("cache") / f"{pretrained.hash}.part"
    joint = JointTraining("dan", pretrained, (images(),), 0, 0.1)
    assert joint.path == Path("cache") / f"{joint.hash}.safetensors"
    elsewhere = dataclasses.replace(joint, folder=Path("unfinished"))
    assert elsewhere.checkpoint == Path("unfinished") / f"{joint.hash}.part"


def test_costs_are_images_shown_in_training():
    epochs = STANDIN.adapt.epochs
    assert backbone().estimated_cost == STANDIN.pretrain.epochs * 100
    assert backbone(width_multiplier=2.0).estimated_cost == 4 * STANDIN.pretrain.epochs * 100
    assert backbone(images=None, content="abc").estimated_cost == 0
    assert JointTraining("dan", backbone(), (images(), images("svhn", 50)), 0, 0.1).estimated_cost == epochs * 150
    assert run().estimated_cost == epochs * 100
    assert run(source_cell=True).estimated_cost == run(finished=True).estimated_cost == 0


@pytest.mark.parametrize(
    "changes",
    [{"seed": 1}, {"lr": 0.2}, {"split": "test"}, {"method": "bn_adapt"}, {"train": images("svhn")}],
    ids=lambda changes: next(iter(changes)),
)
def test_the_hash_covers_what_decides_numbers(changes: dict):
    assert run(**changes).hash != run().hash


def test_the_hash_leaves_out_what_decides_none():
    assert run(predictions=True).hash == run(finished=True).hash == run().hash


def test_settings_in_hashes_have_their_recorded_names():
    assert set(recipe_settings(STANDIN.adapt)) == {
        *("epochs", "batch", "decay", "schedule", "momentum", "nesterov", "smoothing", "warm", "drops")
    }
    assert network_settings(STANDIN) == {
        **{"network": "resnet26", "width": 0.25, "shorter": 36, "crop": 32, "whole": 0, "precision": "fp32"}
    }
    assert network_settings(profile("standin", ["compile=true"]))["compile"] == "body"
    assert network_settings(profile("standin", ["network=timm/resnet18"]))["layout"] == "contiguous"


def test_newer_settings_are_recorded_where_they_differ():
    assert not {"compile", "deterministic"} & profile_dict(STANDIN).keys()
    other = profile("standin", ["compile=true", "deterministic=false"])
    assert profile_dict(other).items() >= {"compile": True, "deterministic": False}.items()
    assert recorded_profile(json.dumps(profile_dict(other))) == other


def test_newer_settings_of_a_recipe_are_recorded_and_hashed_where_they_differ():
    newer = {"norm_head_decay", "decay_leak", "paper_lr"}
    plain, by_kind, leaking = (PROFILES[name] for name in ("decathlon", "decathlon-2018", "decathlon-2018-released"))
    assert not newer & {*profile_dict(STANDIN)["adapt"], *profile_dict(leaking)["pretrain"]}
    assert profile_dict(plain)["adapt"].keys() & newer == {"paper_lr"}
    assert recipe_settings(plain.adapt) == recipe_settings(plain.pretrain), "a rate is hashed by itself"
    assert recipe_settings(by_kind.adapt) == recipe_settings(plain.adapt) | {"norm_head_decay": 5.0}
    assert recipe_settings(leaking.adapt) == recipe_settings(by_kind.adapt) | {"decay_leak": True}
    for chosen in (plain, by_kind, leaking):
        assert recorded_profile(json.dumps(profile_dict(chosen))) == chosen
    typed = profile("standin", ["norm_head_decay=0", "pretrain.decay_leak=true"])
    assert (typed.adapt.norm_head_decay, typed.pretrain.decay_leak) == (0.0, True)


PINNED = {  # hashes of backbone and run, from the commit before there were these settings
    "standin": ("55f9d602b16da1de", "9345a5c1a97d73ac"),
    "decathlon": ("0c811b45d0f0189a", "9c6e287bf41f3584"),
}


@pytest.mark.parametrize("name", PINNED)
def test_runs_without_newer_settings_keep_their_hashes(name: str, monkeypatch):
    monkeypatch.setattr(specs, "TRAINING_VERSION", 2)
    shown = dataclasses.replace(backbone(), profile=PROFILES[name])
    assert (shown.hash, run(backbone=shown, method="res_adapter").hash) == PINNED[name]


@pytest.mark.parametrize("settings", ["{", "[]", "{}", '{"name": 3}'])
def test_settings_that_are_no_profile_are_refused(settings: str):
    with pytest.raises(msgspec.DecodeError):
        recorded_profile(settings)


def test_the_preprocessing_is_json_of_four_values():
    domain = DOMAINS["dtd"]
    assert json.loads(preprocessing_json(domain)) == {
        **{"mean": list(domain.mean), "std": list(domain.std), "flip": domain.flip, "crop": domain.crop}
    }
    assert run().presentation == preprocessing_json(domain)
