"""BACKBONE= and the cache's backbones: what a file says of itself is taken, and a useless one is one sentence."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from benchmark import networks
from benchmark.backbones.reference_names import to_reference
from benchmark.cells import Backbone
from benchmark.given import GivenBackbone, read_given
from benchmark.profiles import profile
from datasets.errors import BadInput

SLIM = profile("standin", ["width=0.125"])
COLOURS = {"mean": "[0.5, 0.4, 0.3]", "std": "[0.2, 0.2, 0.1]"}


def weights(structure: str = "plain") -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return dict(networks.build(SLIM, structure, 3).state_dict())


@pytest.fixture
def given(tmp_path: Path) -> Callable[..., GivenBackbone]:
    """`given(tensors, about, name, *settings)` reads a file of these under a profile."""

    def read(tensors: dict, about: dict | None = None, name: str = "standin", *settings: str) -> GivenBackbone:
        save_file(tensors, tmp_path / "given.safetensors", about)
        return read_given(tmp_path / "given.safetensors", profile(name, settings), settings, tmp_path / "cache")

    return read


@pytest.fixture
def refused(given, tmp_path: Path) -> Callable[..., str]:
    """As `given`; its sentence, and nothing was kept."""

    def read(*words) -> str:
        with pytest.raises(BadInput) as caught:
            given(*words)
        sentence = str(caught.value)
        assert str(tmp_path / "given.safetensors") in sentence and "\n" not in sentence
        assert re.search(r"[;:] (give|get|take|add|it must be)|; (raise|lower)|must be", sentence), "says the mend"
        assert not (tmp_path / "cache").exists()
        return sentence

    return read


STEM, HEAD, NORM = "body.stem.conv.weight", "head.weight", "body.norm"


@pytest.mark.parametrize("names", ["ours", "the reference's"])
@pytest.mark.parametrize(
    ("name", "change", "told"),
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
def test_odd_tensors(name: str, change: Callable, told: str, names: str, refused):
    tensors = weights()
    tensors[name] = change(tensors[name])
    assert told in refused(tensors if names == "ours" else to_reference(tensors))


def test_head_of_no_class(refused):
    tensors = weights()
    tensors |= {"head.weight": tensors["head.weight"][:0], "head.bias": tensors["head.bias"][:0]}
    assert "has no head.weight of classes x features" in refused(tensors)


def test_series_file_without_its_adapters(refused):
    assert "mix" in refused(
        {n: t for n, t in weights("series").items() if n != "body.stages.0.0.unit1.conv.mix.weight"}
    )
    assert "decathlon ResNet-26" in refused({n: t for n, t in weights("series").items() if ".mix." not in n})


@pytest.mark.parametrize("lacking", ["fc.weight", "fc.bias"])
def test_library_file_without_half_its_head(lacking: str, refused):
    tensors = {name: torch.ones(3) for name in ("conv1.weight", "fc.weight", "fc.bias") if name != lacking}
    assert f"has no {lacking}" in refused(tensors, None, "standin", "network=torchvision/resnet18")


def test_scalar_head_of_a_library_file(refused):
    tensors = {name: torch.tensor(1.0) for name in ("conv1.weight", "fc.weight", "fc.bias")}
    assert "has no head.weight of" in refused(tensors, None, "standin", "network=torchvision/resnet18")


@pytest.mark.parametrize("size", ["", "x", "0", "7", "10000", "9" * 5000])
def test_image_size_that_is_none(size: str, refused):
    assert f"image_size={size[:40]!r}" in refused(weights(), {"image_size": size})


def test_image_size_that_does_not_fit_is_the_files_own(refused, given):
    assert "says width=0.125 crop=30 shorter=33: SET=crop=30" in refused(weights(), {"image_size": "30"})
    by_hand = given(weights(), {"image_size": "30"}, "standin", "crop=32")
    assert (by_hand.profile.crop, by_hand.profile.shorter) == (32, 33)


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
def test_colours_that_are_none(change: dict, refused):
    about = {key: text for key, text in (COLOURS | change).items() if text is not None}
    assert "give three numbers each" in refused(weights(), about)


def test_what_the_file_says_is_taken(given):
    read = given(weights(), {"image_size": "64"} | COLOURS)
    chosen = read.profile
    assert (chosen.width, chosen.crop, chosen.shorter, chosen.whole) == (0.125, 64, 72, 0)
    assert read.colours == tuple(tuple(json.loads(COLOURS[key])) for key in ("mean", "std"))
    assert given(weights()).colours is None
    by_hand = given(weights(), {"image_size": "64"}, "standin", "crop=48", "shorter=50").profile
    assert (by_hand.crop, by_hand.shorter) == (48, 50)


@pytest.mark.parametrize(("size", "shorter", "whole"), [(64, 72, 72), (32, 36, 32), (72, 81, 80), (8, 9, 8)])
def test_uncropped_domains_are_shown_at_the_files_size(size: int, shorter: int, whole: int, given):
    chosen = given(weights(), {"image_size": f"{size}x{size}"}, "decathlon").profile
    assert (chosen.crop, chosen.shorter, chosen.whole) == (size, shorter, whole)
    assert given(weights(), {"image_size": f"{size}"}, "decathlon", "whole=0").profile.whole == 0
    assert given(weights(), {"image_size": f"{size}"}, "decathlon", "whole=8").profile.whole == 8


# --- in the cache -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["NaN", "infinite", "cut off", "empty", "shape", "foreign", "no head", "scalar head"])
def test_damaged_backbone_in_the_cache_is_to_be_removed(fault: str, tmp_path: Path):
    backbone = Backbone(SLIM, "plain", "given", tmp_path, content="some file's")
    tensors = weights()
    save_file(tensors, backbone.path, {"hash": backbone.hash})
    assert torch.equal(networks.load(backbone, "cpu")[0].head.bias, tensors["head.bias"])
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
    with pytest.raises(BadInput, match=r"; remove it, and it is made again$") as caught:
        networks.load(backbone, "cpu")
    assert str(backbone.path) in str(caught.value) and "\n" not in str(caught.value)


# --- what it is known by ----------------------------------------------------------------------------------------


def test_the_same_network_saved_otherwise_is_the_same_backbone(given, tmp_path: Path):
    """By its weights: not by the bytes of a file, its format, its names, or metadata that decide nothing."""
    tensors = weights()
    first = given(tensors, COLOURS | {"made": "yesterday"}).contents
    assert given(tensors, {"made": "today"} | COLOURS).contents == first
    assert given(to_reference(tensors)).contents == first
    assert given({n: t for n, t in tensors.items() if "num_batches_tracked" not in n}).contents == first
    assert given({n: t.double() if t.is_floating_point() else t for n, t in tensors.items()}).contents == first
    torch.save(tensors, tmp_path / "given.pt")
    assert read_given(tmp_path / "given.pt", SLIM, (), tmp_path / "cache").contents == first
    assert len(list((tmp_path / "cache" / "backbones").iterdir())) == 1
    tensors[HEAD] = tensors[HEAD].nextafter(torch.ones(()))
    assert given(tensors).contents != first


def test_a_file_kept_in_the_cache_repeats_its_bytes(given, tmp_path: Path):
    given(weights(), COLOURS)
    (kept,) = (tmp_path / "cache" / "backbones").iterdir()
    before = kept.read_bytes()
    given(weights(), dict(reversed(COLOURS.items())))
    assert kept.read_bytes() == before
