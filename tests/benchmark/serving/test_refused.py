"""Damaged, foreign or contradictory files of backbones and adapters: one sentence each, and nothing is executed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.benchmark.shop import Shop, batch
from visual_decathlon.benchmark.serving.metadata import AdapterMetadata
from visual_decathlon.benchmark.serving.multi_domain import MultiDomain
from visual_decathlon.datasets.errors import InputError


@pytest.fixture
def altered(lora: Path, tmp_path: Path) -> Callable[..., Path]:
    """`altered(about, tensors)`: the file of lora with these metadata and tensors replaced; None removes one."""

    def make(about: dict | None = None, tensors: dict | None = None) -> Path:
        with safe_open(lora, "pt") as file:
            heads = file.metadata() | (about or {})
        held = load_file(lora) | (tensors or {})
        path = tmp_path / "altered.safetensors"
        kept = [{k: v for k, v in part.items() if v is not None} for part in (held, heads)]
        save_file(kept[0], path, kept[1])
        return path

    return make


def refused(action: Callable, *words) -> str:
    with pytest.raises(InputError) as caught:
        action(*words)
    sentence = str(caught.value)
    assert "\n" not in sentence and 20 < len(sentence) < 900, sentence
    return sentence


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        ({"backbone": "0123456789abcdef"}, "holds adapters of the backbone 0123456789abcdef, and "),
        ({"backbone": None}, "is no file of a domain's adapters (Object missing required field `backbone`)"),
        ({"method": "nothing_like_it()"}, "no method is called 'nothing_like_it'"),
        ({"method": "lora(rank=2, alpha='x')"}, "alpha"),
        ({"method": "lora(rank=0)"}, "rank must be 1 or more"),
        ({"method": "lora(rank=100000)"}, "larger than every matrix"),
        ({"method": "lora*"}, "methods are named"),
        ({"method": "prefix"}, "self-attention"),
        ({"method": "res_adapter"}, "res_adapter needs a series backbone, this one is plain"),
        ({"method": "lora(rank=2)\nand more"}, "is not of the form name"),
        ({"method": "(" * 500}, "is not of the form name"),
        ({"method": "lora" * 500}, "at `$.method`"),
        ({"method": "bn_adapt"}, "so it is not what bn_adapt stores"),
        ({"method": "dora"}, "holds fewer numbers than dora stores"),
        ({"method": "par_adapter"}, "holds fewer numbers than par_adapter stores"),
        ({"method": "res_adapter_finetune_all"}, "needs a series backbone"),
        ({"classes": "6"}, "says that it has 6 classes, its head.weight is of shape (5, 32)"),
        ({"classes": "1000000000"}, "says that it has 1000000000 classes"),
        ({"classes": "five"}, "Expected `int`, got `str` - at `$.classes`"),
        ({"classes": "0"}, "at `$.classes`"),
        ({"crop": None}, "missing required field `crop`"),
        ({"mean": "[0.1, 0.2]"}, "at `$.mean`"),
        ({"mean": "["}, "Input data was truncated"),
        ({"mean": "[" * 100_000}, "is no file of a domain's adapters"),
        ({"std": "[0.2, 0, 0.2]"}, "at `$.std[1]`"),
        ({"joint": "../../secret"}, "at `$.joint`"),
        ({"joint": "0123456789abcdef"}, "is of a joint training, and lora(rank=2) has none"),
        ({"domain": ""}, "at `$.domain`"),
        ({"domain": "dtd\nand more"}, "at `$.domain`"),
        ({"domain": "d" * 1000}, "at `$.domain`"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_metadata_that_do_not_fit(about: dict, expected: str, altered, multi: MultiDomain):
    path = altered(about)
    sentence = refused(multi.load, path)
    assert expected in sentence and sentence.startswith(str(path))
    assert not multi.held


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        ({"head.bias": None}, "lacks head.bias"),
        ({"extra": torch.ones(1)}, "has the unknown extra"),
        ({"head.weight": None}, "its head.weight is of shape (0,)"),
        ({"head.weight": torch.ones(4, 32)}, "says that it has 5 classes, its head.weight is of shape (4, 32)"),
        ({"head.weight": torch.tensor(1.0)}, "is of shape ()"),
        ({"head.bias": torch.ones(6)}, "has head.bias of shape (6,) in float32 where (5,) in float32 belongs"),
        ({"head.bias": torch.ones(5, dtype=torch.float64)}, "has head.bias"),
        ({"head.bias": torch.full((5,), float("nan"))}, "holds NaN or infinity in head.bias"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_tensors_that_do_not_fit_the_method(tensors: dict, expected: str, altered, multi: MultiDomain):
    path = altered(None, tensors)
    sentence = refused(multi.load, path)
    assert expected in sentence and str(path) in sentence and "get" in sentence
    assert not multi.held


def test_code_in_the_method_string_is_not_run(altered, multi: MultiDomain, tmp_path: Path):
    target = tmp_path / "made"
    for code in (
        f"lora(rank=open({str(target)!r}, 'w').write('x'))",
        f"__import__('pathlib').Path({str(target)!r}).touch()",
        f"(lambda: open({str(target)!r}, 'w'))()",
    ):
        assert "is not of the form name" in refused(multi.load, altered({"method": code}))
        assert not target.exists()


def test_damaged_and_foreign_files(lora: Path, multi: MultiDomain, tmp_path: Path):
    content, path = lora.read_bytes(), tmp_path / "broken.safetensors"
    assert "check the path" in refused(multi.load, path)
    for damaged in (content[: len(content) // 2], content[:100], b"", b"not a file of weights"):
        path.write_bytes(damaged)
        assert str(path) in refused(multi.load, path)
    torch.save({"head.weight": torch.ones(5, 32)}, path)
    assert "is no file of a domain's adapters" in refused(multi.load, path)
    assert "is no file of a domain's adapters" in refused(multi.load, multi.path)
    assert not multi.held


def test_a_domain_that_is_not_loaded(multi: MultiDomain, lora: Path):
    assert "no domain is loaded as 'dtd' (loaded: none)" in refused(multi.use, "dtd")
    multi.load(lora)
    assert "no domain is loaded as 'svhn' (loaded: dtd)" in refused(multi.use, "svhn")
    assert "no domain is in use (loaded: dtd)" in refused(multi, batch())


def test_a_joint_training_whose_weights_are_missing(shop: Shop):
    path, _ = shop.together()["dtd"]
    net = MultiDomain(shop.backbone("series").path)
    joint = net.path.with_name(f"{AdapterMetadata.parse(safe_open(path, 'pt').metadata(), path).joint}.safetensors")
    whole, tensors = joint.read_bytes(), load_file(joint)
    joint.unlink()
    assert f"put their file {joint.name} next to {net.path}" in refused(net.load, path)
    joint.write_bytes(whole[:1000])
    assert f"{joint} is cut off or damaged" in refused(net.load, path)
    save_file({n: t for n, t in tensors.items() if "stem" not in n}, joint)
    assert f"{joint} lacks trunk.body.stem.conv.conv.weight" in refused(net.load, path)
    joint.write_bytes(whole)
    with safe_open(path, "pt") as file:
        about = file.metadata()
    save_file(load_file(path), path, {k: v for k, v in about.items() if k != "joint"})
    assert "does not say of which joint training" in refused(net.load, path)
    assert not net.held


@pytest.mark.parametrize(
    ("about", "tensors", "expected"),
    [
        ({"hash": None}, {}, "missing required field `hash`"),
        ({"width": "wide"}, {}, "at `$.width`"),
        ({"width": "0.1"}, {}, "must be a multiple of 1/32"),
        ({"width": "nan"}, {}, "is no backbone of this suite"),
        ({"width": "30"}, {}, "says width 30, which has 7680 features, and its head reads 32"),
        ({"network": "resnet27"}, {}, "no backbone is called 'resnet27'"),
        ({"network": "torchvision/resnet18"}, {}, "lacks body.conv1.weight"),
        ({"structure": "odd"}, {}, "at `$.structure`"),
        ({"structure": "series"}, {}, "lacks body.stem.conv.conv.weight"),
        ({}, {"head.weight": None}, "has no head.weight"),
        ({}, {"head.bias": torch.full((3,), torch.inf)}, "holds NaN or infinity in head.bias"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_files_that_are_no_backbone(about: dict, tensors: dict, expected: str, multi: MultiDomain, tmp_path: Path):
    with safe_open(multi.path, "pt") as file:
        heads = file.metadata() | about
    kept = [{k: v for k, v in p.items() if v is not None} for p in (load_file(multi.path) | tensors, heads)]
    save_file(kept[0], tmp_path / "odd.safetensors", kept[1])
    sentence = refused(MultiDomain, tmp_path / "odd.safetensors")
    assert expected in sentence and str(tmp_path / "odd.safetensors") in sentence


def with_other_weights(path: Path, out: Path) -> None:
    """Write the same file as another processor would have trained it: the last bits of a weight differ."""
    with safe_open(path, "pt") as file:
        about = file.metadata()
    tensors = load_file(path)
    name = next(n for n in tensors if n.endswith("stem.conv.conv.weight") or n.endswith("stem.conv.weight"))
    save_file(tensors | {name: tensors[name] * 1.0000002}, out, about)


def test_other_weights_of_the_same_recipe(shop: Shop, lora: Path, altered, tmp_path: Path):
    """A backbone is named by its recipe, and two processors make different weights of one name."""
    (tmp_path / "cache").mkdir()
    backbone = tmp_path / "cache" / shop.backbone("plain").path.name
    with_other_weights(shop.backbone("plain").path, backbone)
    net = MultiDomain(backbone)
    assert f"{lora} was trained on other weights than {backbone} holds" in refused(net.load, lora)
    net.load(altered({"weights": None}))  # an older file has no digest of the weights
    path, _ = shop.together()["dtd"]
    with safe_open(path, "pt") as file:
        joint = f"{file.metadata()['joint']}.safetensors"
    series = shop.backbone("series").path
    shutil.copy(series, tmp_path / "cache")
    with_other_weights(series.with_name(joint), tmp_path / "cache" / joint)
    net = MultiDomain(tmp_path / "cache" / series.name)
    assert f"was trained on other weights than {tmp_path / 'cache' / joint} holds" in refused(net.load, path)
    assert not net.held
    MultiDomain(series).load(path)


def test_a_header_without_metadata(multi: MultiDomain, lora: Path, tmp_path: Path):
    """`"__metadata__": null`, which safetensors reads."""
    content = lora.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8 : 8 + size]) | {"__metadata__": None}).encode()
    file = tmp_path / "null.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + size :])
    assert load_file(file).keys() == load_file(lora).keys()
    assert "missing required field" in refused(multi.load, file)
    assert "missing required field" in refused(MultiDomain, file)


def test_an_impossible_path(multi: MultiDomain):
    assert "cannot be read (no file can have this name)" in refused(multi.load, "a\0b.safetensors")
