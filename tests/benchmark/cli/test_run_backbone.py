"""Runs on the user's own backbones, through the command line."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.benchmark.backbones.library_files import VIT, library_model, state
from tests.benchmark.backbones.small_resnet import within
from visual_decathlon.benchmark.backbones.reference_names import to_reference
from visual_decathlon.benchmark.config.profiles import profile
from visual_decathlon.benchmark.records.store import read_frame, read_records
from visual_decathlon.benchmark.report.screen import Screen
from visual_decathlon.benchmark.runs import bench as bench_module
from visual_decathlon.benchmark.runs.backbones import requested_backbones
from visual_decathlon.methods.registry import select


@pytest.fixture
def files(planned, finished: Path) -> dict[str, Path]:
    """The pretrained backbones of the finished run, by structure."""
    request, data, _ = planned("feature")
    return {structure: base.path for structure, base in requested_backbones(request, data).items()}


def test_user_backbones_make_imagenet_a_target(here, files: dict[str, Path], tmp_path: Path):
    (tmp_path / "given").mkdir()
    for structure, path in files.items():  # under the names of the authors' released code
        save_file(to_reference(load_file(path)), tmp_path / "given" / f"{structure}.safetensors")
    words = ("--backbone", str(tmp_path / "given"), "--domains", "imagenet12,svhn")
    done = here(*words, method="res_adapter,feature", results=tmp_path / "results")
    assert done.code == 0, done.err
    records = read_records([tmp_path / "results" / "records"])
    assert len(records) == 4 and not any(r["source_cell"] for r in records)
    assert all(len(r["history"]) == 2 and r["bytes"] for r in records)
    assert {r["backbone_source"].split()[0] for r in records} == {"given"}
    assert {r["method"]: r["structure"] for r in records} == {"res_adapter": "series", "feature": "plain"}


def test_plain_backbone_takes_series_adapters_only_when_asked(here, files: dict[str, Path], tmp_path: Path):
    words = ("--backbone", str(files["plain"]), "--domains", "svhn")
    sentence = here(*words, method="res_adapter", results=tmp_path).sentence
    assert "off_the_shelf=True" in sentence and "res_adapter" in sentence
    done = here(*words, method="res_adapter(init='zero', off_the_shelf=True)", results=tmp_path)
    assert done.code == 0, done.err
    (record,) = read_records([tmp_path / "records"])
    assert record["off_the_shelf"] and record["structure"] == "plain" and record["domain"] == "svhn"


def test_backbone_without_a_plain_network_leaves_the_score_empty(planned, files: dict[str, Path], tmp_path: Path):
    from visual_decathlon.benchmark.runs.user_backbone import read_user_backbone

    chosen_profile = profile("standin", ["width=0.125", "epochs=2"])
    given = read_user_backbone(files["series"], chosen_profile, (), tmp_path)
    request, data, asked = planned("res_adapter", user_backbone=given)
    assert len(asked) == 10
    assert bench_module.baseline(request, data, asked, read_frame([]), Screen()) == ([], None)


def test_a_backbone_with_new_weights_under_its_name_has_its_own_table(planned, files: dict[str, Path], tmp_path: Path):
    from visual_decathlon.benchmark.runs.user_backbone import read_user_backbone

    sources, hashes = set(), set()
    for factor in (1.0, 2.0):
        tensors = load_file(files["plain"])
        tensors["head.bias"] *= factor
        save_file(tensors, tmp_path / "same.safetensors")
        given = read_user_backbone(
            tmp_path / "same.safetensors", profile("standin", ["width=0.125"]), (), tmp_path / "cache"
        )
        _, _, runs = planned("feature", user_backbone=given, domains=["svhn"])
        sources.add(runs[0].backbone.source)
        hashes.add(runs[0].hash)
    assert len(sources) == len(hashes) == 2
    hashes.add(planned("feature", user_backbone=given, domains=["svhn"], limit=5)[2][0].hash)
    assert len(hashes) == 3, "a given backbone is the same, the images are not"


def test_weights_of_a_librarys_vit_at_another_size(here, tmp_path: Path):
    """A Lightning checkpoint of 64 pixels for a network of 32, by the command line."""
    tensors = within("model.", state(library_model(VIT, img_size=64)))
    torch.save({"state_dict": tensors}, tmp_path / "vit.ckpt")
    settings = f"network={VIT} epochs=1 batch=8"
    words = ("--backbone", str(tmp_path / "vit.ckpt"), "--domains", "svhn", "--limit", "8")
    done = here(*words, method="lora", results=tmp_path / "results", settings=settings)
    assert done.code == 0, done.err
    text = " ".join((done.out + done.err).split())
    for part in (
        "prefix `model.` of all 32 names taken off",
        "`pos_embed` is resized from a grid of 8x8 to 4x4 positions by timm's own function",
        "mean (0.5, 0.5, 0.5) and std (0.5, 0.5, 0.5) are those of timm's configuration",
    ):
        assert part in text, text
    (record,) = read_records([tmp_path / "results" / "records"])
    assert record["backbone_source"].split()[0] == "vit.ckpt" and record["structure"] == "plain"


@pytest.mark.parametrize("fault", ["shape", "foreign", "missing", "no head", "by hand", "no weights", "absent"])
def test_backbone_that_does_not_fit_is_refused(fault: str, here, files: dict[str, Path], tmp_path: Path):
    file, settings = tmp_path / "other.safetensors", "width=0.125 epochs=2"
    tensors = load_file(files["plain"])
    if fault == "shape":
        tensors["body.norm.weight"] = tensors["body.norm.weight"][:-1].clone()
    elif fault == "foreign":
        tensors["body.extra"] = tensors["body.norm.weight"].clone()
    elif fault == "missing":
        del tensors["body.norm.weight"]
    elif fault == "no head":
        del tensors["head.weight"]
    elif fault == "by hand":
        settings = "width=0.25 epochs=2"
    if fault == "no weights":
        file.write_bytes(b"these are no weights")
    elif fault != "absent":
        save_file(tensors, file)
    done = here("--backbone", str(file), method="feature", results=tmp_path / "results", settings=settings)
    assert str(file) in done.sentence
    assert not (tmp_path / "results" / "records").exists()


def test_the_metadata_of_a_pretrained_file(files: dict[str, Path]):
    with safe_open(files["plain"], "pt") as file:
        about = file.metadata()
    assert (about["width"], about["image_size"], about["structure"], about["classes"]) == ("0.125", "32", "plain", "3")
    assert select("feature")[0].backbone_structure == "plain"
