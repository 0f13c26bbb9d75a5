"""BACKBONE= and the backbones of the cache: metadata are used, and an unusable file is one sentence."""

import json
import pickle
import re
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from visual_decathlon.benchmark.backbones.build import build
from visual_decathlon.benchmark.backbones.reference_names import to_reference
from visual_decathlon.benchmark.config.profiles import profile
from visual_decathlon.benchmark.config.specs import Backbone
from visual_decathlon.benchmark.runs.user_backbone import UserBackbone, read_user_backbone
from visual_decathlon.benchmark.training import pretrain
from visual_decathlon.datasets.errors import InputError

SLIM = profile("standin", ["width=0.125"])
MEAN_STD = {"mean": "[0.5, 0.4, 0.3]", "std": "[0.2, 0.2, 0.1]"}


def weights(structure: str = "plain") -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return dict(build(SLIM, structure, 3).state_dict())


@pytest.fixture
def given(tmp_path: Path) -> Callable[..., UserBackbone]:
    """`given(tensors, about, name, *settings)` reads a file of these under a profile."""

    def read(tensors: dict, about: dict | None = None, name: str = "standin", *settings: str) -> UserBackbone:
        save_file(tensors, tmp_path / "given.safetensors", about)
        return read_user_backbone(tmp_path / "given.safetensors", profile(name, settings), settings, tmp_path / "cache")

    return read


@pytest.fixture
def refused(given, tmp_path: Path) -> Callable[..., str]:
    """Read as `given` does; returns the error, and checks that the cache is empty."""

    def read(*words) -> str:
        with pytest.raises(InputError) as caught:
            given(*words)
        sentence = str(caught.value)
        assert str(tmp_path / "given.safetensors") in sentence and "\n" not in sentence
        assert re.search(r"[;:] (give|get|take|add|it must be)|; (raise|lower)|must be", sentence), "has a remedy"
        assert not (tmp_path / "cache").exists()
        return sentence

    return read


STEM, HEAD, NORM = "body.stem.conv.weight", "head.weight", "body.norm"


@pytest.mark.parametrize("names", ["the suite's", "the reference's"])
@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        (STEM, lambda t: torch.tensor(1.0), ": give a decathlon ResNet-26"),
        (STEM, lambda t: t[:0], ": give a decathlon ResNet-26"),
        (HEAD, lambda t: torch.tensor(1.0), ": give a decathlon ResNet-26"),
        (HEAD, lambda t: t[:0], ": give a decathlon ResNet-26"),
        (HEAD, lambda t: t.to(torch.complex64), "torch.complex64"),
        (HEAD, lambda t: t.int(), "torch.int32"),
        (HEAD, lambda t: t * float("nan"), "holds NaN or infinity in head.weight; get the file again"),
        (HEAD, lambda t: t.double() * 1e300, "holds NaN or infinity in head.weight; get the file again"),
        (f"{NORM}.running_var", lambda t: t / 0, f"holds NaN or infinity in {NORM}.running_var; get the file again"),
        (f"{NORM}.num_batches_tracked", lambda t: t.float(), "torch.float32"),
        (f"{NORM}.num_batches_tracked", lambda t: t.to(torch.complex64), "torch.complex64"),
    ],
)
def test_odd_tensors(name: str, change: Callable, expected: str, names: str, refused):
    tensors = weights()
    tensors[name] = change(tensors[name])
    assert expected in refused(tensors if names == "the suite's" else to_reference(tensors))


def test_head_of_no_class(refused):
    tensors = weights()
    tensors |= {"head.weight": tensors["head.weight"][:0], "head.bias": tensors["head.bias"][:0]}
    assert "has no head.weight of classes x features" in refused(tensors)


def test_series_file_without_its_adapters(refused):
    assert "mix" in refused(
        {n: t for n, t in weights("series").items() if n != "body.stages.0.0.unit1.conv.mix.weight"}
    )
    assert "decathlon ResNet-26" in refused({n: t for n, t in weights("series").items() if ".mix." not in n})


def test_library_file_that_lacks_all_but_a_stem(refused):
    tensors = {name: torch.ones(3) for name in ("conv1.weight", "fc.weight", "fc.bias")}
    assert "none of the names known here" in refused(tensors, None, "standin", "network=torchvision/resnet18")


@pytest.mark.parametrize("size", ["", "x", "0", "7", "10000", "9" * 5000])
def test_image_sizes_that_are_no_number_of_pixels(size: str, refused):
    assert f"image_size={size[:40]!r}" in refused(weights(), {"image_size": size})


def test_an_image_size_that_does_not_fit_names_the_file(refused, given):
    assert "says width=0.125 crop=30 resize=33: settings=crop=30" in refused(weights(), {"image_size": "30"})
    by_hand = given(weights(), {"image_size": "30"}, "standin", "crop=32")
    assert (by_hand.profile.crop, by_hand.profile.resize) == (32, 33)


@pytest.mark.parametrize(
    "change",
    [
        {"std": "[0.2]"},
        {"std": "0.2"},
        {"std": "[0.2, 0, 0.2]"},
        {"std": "[0.2, -1, 0.2]"},
        {"std": "[0.2, NaN, 0.2]"},
        {"std": "[0.2, null, 0.2]"},
        {"mean": "[0.2, 0.2]"},
        {"mean": "[0.2, Infinity, 0.2]"},
        {"mean": "[0.2, 1" + "0" * 400 + ", 0.2]"},
        {"mean": "no numbers"},
        {"mean": "[" * 100_000},
        {"mean": None},
        {"std": None},
    ],
    ids=lambda change: str(change)[:30],
)
def test_a_mean_or_std_of_other_than_three_numbers(change: dict, refused):
    about = {key: text for key, text in (MEAN_STD | change).items() if text is not None}
    assert "give three numbers each" in refused(weights(), about)


def test_metadata_of_the_file_are_used(given):
    read = given(weights(), {"image_size": "64"} | MEAN_STD)
    chosen = read.profile
    assert (chosen.width, chosen.crop, chosen.resize, chosen.uncropped_size) == (0.125, 64, 72, 0)
    assert read.mean_std == tuple(tuple(json.loads(MEAN_STD[key])) for key in ("mean", "std"))
    assert given(weights()).mean_std is None
    by_hand = given(weights(), {"image_size": "64"}, "standin", "crop=48", "resize=50").profile
    assert (by_hand.crop, by_hand.resize) == (48, 50)


@pytest.mark.parametrize(("size", "shorter", "whole"), [(64, 72, 72), (32, 36, 32), (72, 81, 80), (8, 9, 8)])
def test_uncropped_domains_are_shown_at_the_files_size(size: int, shorter: int, whole: int, given):
    chosen = given(weights(), {"image_size": f"{size}x{size}"}, "decathlon").profile
    assert (chosen.crop, chosen.resize, chosen.uncropped_size) == (size, shorter, whole)
    assert given(weights(), {"image_size": f"{size}"}, "decathlon", "uncropped_size=0").profile.uncropped_size == 0
    assert given(weights(), {"image_size": f"{size}"}, "decathlon", "uncropped_size=8").profile.uncropped_size == 8


# --- checkpoints -------------------------------------------------------------------------------------------------


def scaled(tensors: dict[str, torch.Tensor], factor: float) -> dict[str, torch.Tensor]:
    return {name: tensor * factor if name.endswith("conv.weight") else tensor for name, tensor in tensors.items()}


def read(path: Path | str, *settings: str, name: str = "standin") -> UserBackbone:
    return read_user_backbone(Path(path), profile(name, settings), settings, Path(path).parent / "cache")


def trained(path: Path) -> Path:
    """A checkpoint as torchvision's reference scripts write it, of the suite's network under the reference's names."""
    plain, average = to_reference(weights()), to_reference(scaled(weights(), 2))
    others = {"args": Namespace(lr=0.1, data_path=Path("/data")), "epoch": 3, "optimizer": {"state": {0: {"step": 1}}}}
    average = {f"module.{name}": tensor for name, tensor in average.items()} | {"n_averaged": torch.tensor(9)}
    torch.save({"model": plain, "model_ema": average, **others}, path)
    return path


def test_the_choice_of_a_state_dict_is_another_backbone(tmp_path: Path):
    path = trained(tmp_path / "a:b.pth.tar")
    plain, average = read(path), read(f"{path}:model_ema")
    assert plain.name == "a:b.pth.tar" and average.name == "a:b.pth.tar:model_ema"
    assert plain.weight_hashes != average.weight_hashes
    assert read(f"{path}:model").weight_hashes == plain.weight_hashes
    assert "`model` is taken" in plain.notes[0] and "(`model_ema`)" in plain.notes[0]
    assert "prefix `module.` of" in average.notes[1] and "n_averaged" in average.notes[2]
    save_file(weights(), tmp_path / "alone.safetensors")
    assert read(tmp_path / "alone.safetensors").weight_hashes == plain.weight_hashes, "however it is packed"
    assert read(tmp_path / "alone.safetensors").notes == ()
    with pytest.raises(InputError, match="has no network at `modl`: choose one of `model`, `model_ema`"):
        read(f"{path}:modl")
    with pytest.raises(InputError, match="does not exist"):
        read(tmp_path / "none.pth:model")


def test_a_file_whose_name_ends_like_a_choice_is_that_file(tmp_path: Path):
    trained(tmp_path / "x.pth")
    other = tmp_path / "x.pth:model_ema"
    torch.save(to_reference(scaled(weights(), 3)), other)
    assert read(other).name == "x.pth:model_ema" and read(other).notes == ()


@pytest.mark.parametrize("names", ["the suite's", "the reference's"])
@pytest.mark.parametrize("structure", ["plain", "series"])
def test_prefixes_and_a_missing_head_of_the_suites_network(names: str, structure: str, tmp_path: Path):
    tensors = weights(structure)
    whole = tensors if names == "the suite's" else to_reference(tensors)
    headless = {name: tensor for name, tensor in whole.items() if not name.startswith(("head.", "linears."))}
    for path, thing in (
        (tmp_path / "x.safetensors", {f"model._orig_mod.{name}": tensor for name, tensor in headless.items()}),
        (tmp_path / "x.ckpt", {f"_orig_mod.net.{name}": tensor for name, tensor in headless.items()}),
    ):
        save_file(thing, path) if path.suffix == ".safetensors" else torch.save({"state_dict": thing}, path)
        given = read(path)
        assert given.headless and list(given.weight_hashes) == [structure]
        assert "no head on the features" in " ".join(given.notes)
        (kept,) = (tmp_path / "cache" / "backbones").glob("*.safetensors")
        with safe_open(kept, "pt") as file:
            assert file.metadata()["head"] == "none"
            assert not file.get_tensor("head.weight").any() and file.get_tensor("head.weight").shape == (1, 32)
            assert torch.equal(file.get_tensor("body.norm.weight"), tensors["body.norm.weight"])


def test_a_library_network_without_head_or_in_half_precision(tmp_path: Path):
    settings = ("network=torchvision/resnet18",)
    torch.manual_seed(0)
    tensors = build(profile("standin", settings), "plain", 3).body.state_dict()
    half = {name: t.half() if t.is_floating_point() else t for name, t in tensors.items()}
    torch.save({"teacher": {f"backbone.{name}": t for name, t in half.items()}}, tmp_path / "dino")
    given = read(tmp_path / "dino", *settings)
    assert given.headless and len(given.weight_hashes) == 1
    (kept,) = (tmp_path / "cache" / "backbones").iterdir()
    with safe_open(kept, "pt") as file:
        assert torch.equal(file.get_tensor("body.conv1.weight"), half["conv1.weight"].float())
        assert file.get_tensor("head.weight").shape == (1, 512)


def test_folders_are_read_by_content(tmp_path: Path):
    """A trainer's folder: files without a network are left out with a note, whatever the suffix; damaged ones fail."""
    folder = tmp_path / "run"
    folder.mkdir()
    torch.save({"state_dict": to_reference(weights())}, folder / "last")
    save_file(weights("series"), folder / "series.bin")
    torch.save({"state": {}, "param_groups": []}, folder / "optimizer.bin")
    torch.save(Namespace(lr=1), folder / "training_args.bin")
    (folder / "random_states_0.pkl").write_bytes(pickle.dumps({"seed": 1}))
    (folder / "config.json").write_text("{}")
    given = read(folder)
    assert given.weight_hashes.keys() == {"plain", "series"}
    notes = " ".join(given.notes)
    assert all(name in notes for name in ("optimizer.bin", "training_args.bin", "random_states_0.pkl"))
    assert "config.json" not in notes
    (folder / "series.bin").write_bytes((folder / "series.bin").read_bytes()[:-9])
    with pytest.raises(InputError, match=r"series\.bin is cut off or damaged"):
        read(folder)
    (folder / "series.bin").unlink()
    torch.save(weights(), folder / "again.pt")
    with pytest.raises(InputError, match="holds two plain networks"):
        read(folder)
    for name in ("last", "again.pt"):
        (folder / name).unlink()
    with pytest.raises(InputError, match=r"optimizer\.bin holds no weights"):
        read(folder)
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(InputError, match="run holds no file of weights"):
        read(folder)


# --- in the cache -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["NaN", "infinite", "cut off", "empty", "shape", "foreign", "no head", "scalar head"])
def test_damaged_backbone_in_the_cache_is_to_be_removed(fault: str, tmp_path: Path):
    backbone = Backbone(SLIM, "plain", "given", tmp_path, content="some file's")
    tensors = weights()
    save_file(tensors, backbone.path, {"hash": backbone.hash})
    assert torch.equal(pretrain.load(backbone, "cpu")[0].head.bias, tensors["head.bias"])
    if fault == "NaN":
        tensors["head.bias"][1] = float("nan")
    elif fault == "infinite":
        tensors["body.stem.bn.running_mean"][1] = float("inf")
    elif fault == "shape":
        tensors["head.bias"] = tensors["head.bias"][:1].clone()
    elif fault == "foreign":
        tensors["body.extra"] = torch.ones(1)
    elif fault == "no head":
        del tensors["head.weight"]
    elif fault == "scalar head":
        tensors["head.weight"] = torch.tensor(1.0)
    save_file(tensors, backbone.path, {"hash": backbone.hash})
    if fault in ("cut off", "empty"):
        content = backbone.path.read_bytes()
        backbone.path.write_bytes(content[: len(content) // 2 if fault == "cut off" else 0])
    with pytest.raises(InputError, match=r"; remove it, and it is made again$") as caught:
        pretrain.load(backbone, "cpu")
    assert str(backbone.path) in str(caught.value) and "\n" not in str(caught.value)


# --- identity ----------------------------------------------------------------------------------------


def test_the_same_network_saved_otherwise_is_the_same_backbone(given, tmp_path: Path):
    """A backbone is identified by its weights, not by file bytes, format, names, or metadata without effect."""
    tensors = weights()
    first = given(tensors, MEAN_STD | {"made": "yesterday"}).weight_hashes
    assert given(tensors, {"made": "today"} | MEAN_STD).weight_hashes == first
    assert given(to_reference(tensors)).weight_hashes == first
    assert given({n: t for n, t in tensors.items() if "num_batches_tracked" not in n}).weight_hashes == first
    assert given({n: t.double() if t.is_floating_point() else t for n, t in tensors.items()}).weight_hashes == first
    torch.save(tensors, tmp_path / "given.pt")
    assert read_user_backbone(tmp_path / "given.pt", SLIM, (), tmp_path / "cache").weight_hashes == first
    assert len(list((tmp_path / "cache" / "backbones").iterdir())) == 1
    tensors[HEAD] = tensors[HEAD].nextafter(torch.ones(()))
    assert given(tensors).weight_hashes != first


def test_a_file_kept_in_the_cache_repeats_its_bytes(given, tmp_path: Path):
    given(weights(), MEAN_STD)
    (kept,) = (tmp_path / "cache" / "backbones").iterdir()
    before = kept.read_bytes()
    given(weights(), dict(reversed(MEAN_STD.items())))
    assert kept.read_bytes() == before
