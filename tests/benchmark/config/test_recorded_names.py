"""Settings have new names; records and hashes keep the old ones, so that every committed record keeps its hash."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from visual_decathlon.benchmark.config.profiles import (
    PROFILES,
    RECORDED_NAMES,
    current_name,
    profile,
    spelling_notes,
)
from visual_decathlon.benchmark.config.specs import (
    Backbone,
    ImageSet,
    JointTraining,
    Run,
    profile_dict,
    recorded_profile,
)
from visual_decathlon.benchmark.records.store import read_records
from visual_decathlon.datasets.catalogue import DOMAINS
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.registry import select

ROOT = Path(__file__).parents[3]
SHIPPED = ROOT / "results" / "standin"
SPELLINGS = [
    ("decay", "weight_decay", "0.01"),
    ("pretrain.decay", "pretrain.weight_decay", "0.01"),
    ("smoothing", "label_smoothing", "0.1"),
    ("warm", "warmup_fraction", "0.3"),
    ("pretrain.warm", "pretrain.warmup_fraction", "0.3"),
    ("drops", "milestones", "0.5/0.8"),
    ("shorter", "resize", "40"),
    ("whole", "uncropped_size", "32"),
]


def rebuilt(record: dict, manifests: dict[tuple, str]) -> Run:
    """The run of a record, from the record and the manifests of the other domains alone."""

    def images(domain: str, manifest: str) -> ImageSet:
        return ImageSet(DOMAINS[domain], (), "all", manifest, record["classes"], record["limit"], 1)

    settings = recorded_profile(record["settings"])
    assert json.dumps(profile_dict(settings), sort_keys=True) == record["settings"]
    (method,) = select(record["method_full"])
    backbone = Backbone(
        settings,
        record["structure"],
        record["backbone_source"],
        Path("cache"),
        method.width_multiplier,
        images("imagenet12", manifests[record["split"], "imagenet12"]),
    )
    joint = classifier = None
    if record["together"]:
        others = tuple(images(name, manifests[record["split"], name]) for name in record["together"])
        (joint_method,) = select(method.joint_method) if method.joint_method else (method,)
        joint = JointTraining(joint_method.full_spec, backbone, others, record["seed"], record["lr"])
        if method.classifies_domains:
            classifier = JointTraining(
                method.full_spec, backbone, others, record["seed"], record["lr"], classifier=True
            )
    return Run(
        method=method.full_spec,
        backbone=backbone,
        train=images(record["domain"], record["train_manifest"]),
        evaluate=images(record["domain"], record["eval_manifest"]),
        seed=record["seed"],
        split=record["split"],
        lr=record["lr"],
        source_cell=record["source_cell"],
        joint=joint,
        classifier=classifier,
    )


def test_every_committed_record_keeps_its_hash_and_its_settings():
    records = read_records([SHIPPED])
    manifests = {(record["split"], record["domain"]): record["train_manifest"] for record in records}
    assert len(records) == 1990
    for record in records:
        run = rebuilt(record, manifests)
        assert (run.settings, run.method) == (record["settings"], record["method_full"])
        assert (run.backbone.hash, run.hash) == (record["backbone"], record["hash"]), run.method


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_is_read_again_from_what_a_record_keeps(name: str):
    kept = profile_dict(PROFILES[name])
    assert recorded_profile(json.dumps(kept)) == PROFILES[name]
    assert not {*RECORDED_NAMES} & {*kept, *kept["adapt"], *kept["pretrain"]}


@pytest.mark.parametrize(("old", "new", "value"), SPELLINGS, ids=[old for old, _, _ in SPELLINGS])
def test_an_old_spelling_works_and_the_new_one_is_named(old: str, new: str, value: str):
    assert profile("standin", [f"{old}={value}"]) == profile("standin", [f"{new}={value}"]) != PROFILES["standin"]
    assert current_name(old) == current_name(new) == new
    assert spelling_notes([f"{new}={value}", "epochs=3"]) == []
    assert spelling_notes([f"{old}={value}", f"{old}={value}"]) == [
        f"settings={old}= is now called {new}; the old name still works"
    ]


def test_every_renamed_setting_has_its_old_spelling():
    assert {new.rpartition(".")[2] for _, new, _ in SPELLINGS} == {*RECORDED_NAMES}


@pytest.mark.parametrize(("setting", "name"), [("drops=a/b", "milestones"), ("pretrain.warm=x", "warmup_fraction")])
def test_an_error_on_an_old_spelling_shows_what_was_typed_and_the_new_name(setting: str, name: str):
    with pytest.raises(InputError) as error:
        profile("standin", [setting])
    assert str(error.value).startswith(f"settings={setting}: {name} must be ")


def make(*words: str) -> subprocess.CompletedProcess:
    """Runs make without starting the command."""
    if shutil.which("make") is None:
        pytest.skip("there is no make here")
    env = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    return subprocess.run(["make", "-n", *words], cwd=ROOT, env=env, capture_output=True, text=True)


@pytest.mark.parametrize("name", ["warmup_fraction", "pretrain.weight_decay", "warm"])
def test_make_takes_both_names_in_set(name: str):
    done = make("bench", "METHOD=feature", f"SET={name}=0.1")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("variable", "new"), [("DECAY", "weight_decay"), ("WARMUP_FRACTION", "warmup_fraction")])
def test_make_names_the_new_setting_where_a_setting_is_given_as_a_variable(variable: str, new: str):
    done = make("bench", "METHOD=feature", f"{variable}=0.1")
    assert done.returncode == 2 and f"{variable}= (did you mean SET={new}=?)" in done.stderr
