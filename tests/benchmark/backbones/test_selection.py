"""Selects the network in a checkpoint; sentences name the removed prefixes and the entries left out."""

import argparse
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.benchmark.backbones.small_resnet import (
    BODY,
    EMA,
    NET,
    R18,
    Settings,
    resnet,
    trained,
    value,
    within,
)
from visual_decathlon.benchmark.backbones import state_dicts as state_dicts_module
from visual_decathlon.benchmark.backbones.pickle_names import Unreadable
from visual_decathlon.benchmark.backbones.state_dicts import WithoutNetwork, state_dicts
from visual_decathlon.benchmark.backbones.torch_checkpoint import read_pickled
from visual_decathlon.benchmark.backbones.weights import read_network
from visual_decathlon.datasets.errors import InputError


@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [
        ({"model": NET, "optimizer": {}, "lr_scheduler": {"last": 1}, "args": argparse.Namespace(), "epoch": 3}, ""),
        ({"epoch": 1, "arch": "resnet18", "state_dict": NET, "version": 2, "amp_scaler": {}, "metric": 0.5}, ""),
        ({"net": NET, "acc": 1.0}, ""),
        ({"state_dict": within("model.", NET), "hyper_parameters": Settings()}, "prefix `model.` of all 53 names"),
        ({"module": within("module.", NET), "ds_config": {}}, "prefix `module.` of all 53"),
        ({"classy_state_dict": {"base_model": {"model": {"trunk": within("_feature_blocks.", NET)}}}}, "_feature_"),
        (within("module.", NET), "prefix `module.` of all 53 names taken off"),
        (within("module.module.", NET), "prefix `module.module.` of all 53 names taken off"),
        (within("_orig_mod.", NET), "prefix `_orig_mod.` of all 53 names taken off"),
        (within("module._orig_mod.", NET), "prefix `module.` of all 53 names taken off"),
        (within("_orig_mod.module.", NET), "prefix `_orig_mod.` of all 53 names taken off"),
        (within("_forward_module.", NET), "prefix `_forward_module.` of all 53"),
        (
            {
                f"_fsdp_wrapped_module.{name.replace('layer1.', 'layer1._checkpoint_wrapped_module.')}": t
                for name, t in NET.items()
            },
            "prefix `_checkpoint_wrapped_module.` of 12 of 53",
        ),
        ({n.replace("layer2.0.", "layer2.0._orig_mod."): t for n, t in NET.items()}, "`_orig_mod.` of 6 of 53 names"),
        (within("model.visual.trunk.", NET), "prefix `model.visual.trunk.` of all 53 names taken off"),
        (within("module.", NET) | {"n_averaged": torch.tensor(3)}, "prefix `module.` of 53 of 54 names taken off"),
        (NET | {"layer1.total_ops": torch.zeros(1), "total_params": torch.zeros(1)}, "`layer1.total_ops`, `total_para"),
        (NET | {"ema_decay": 0.9, "epoch": 3}, "left out, as no part of the network: `ema_decay`, `epoch` (2 in all)"),
        (within("backbone.", BODY) | within("classifier.", {"weight": NET["fc.weight"], "bias": NET["fc.bias"]}),
         "`classifier` is its head"),
        (within("m.backbone.", BODY) | within("m.head.fc.", {"weight": NET["fc.weight"], "bias": NET["fc.bias"]}),
         "`m.head.fc` is its head"),
        (within("body.", BODY) | within("head.", {"weight": NET["fc.weight"], "bias": NET["fc.bias"]}), ""),
    ],
    ids=lambda message: message if isinstance(message, str) else "",
)  # fmt: skip
def test_wrapped_networks(checkpoint: dict, message: str, read, tmp_path: Path):
    selected = read(checkpoint)
    assert value(selected) == 1.0
    assert message in " ".join(selected.sentences) if message else not selected.sentences
    if all(isinstance(tensor, torch.Tensor) for tensor in checkpoint.values()):  # alike in every format
        save_file({name: tensor.clone() for name, tensor in checkpoint.items()}, tmp_path / "x.bin")
        again, _ = read_network(tmp_path / "x.bin", R18)
        assert value(again) == 1.0 and [s[:30] for s in again.sentences] == [s[:30] for s in selected.sentences]


def test_module_in_the_middle_is_a_name(read):
    tensors = {name.replace("layer3.0.", "layer3.module.0."): tensor for name, tensor in NET.items()}
    assert "body.layer3.module.0.conv1.weight" in read(tensors | resnet()).tensors


def test_a_tensor_under_two_names_is_refused(read):
    with pytest.raises(InputError, match=r"'conv1\.weight' twice"):
        read(NET | within("_orig_mod.", {"conv1.weight": NET["conv1.weight"]}))


# --- several networks --------------------------------------------------------------------------------------------


TORCHVISION = {"model": NET, "model_ema": within("module.", EMA) | {"n_averaged": torch.tensor(1)}}
LIGHTNING = {"state_dict": within("net.", NET) | within("ema_model.module.", EMA)}
MOCO = {
    "state_dict": within("module.encoder_q.", NET) | within("module.encoder_k.", EMA) | {"module.queue": torch.ones(1)}
}
DINO = {"student": within("module.backbone.", EMA), "teacher": within("backbone.", NET)}


@pytest.mark.parametrize(
    ("checkpoint", "plain", "other"),
    [
        (TORCHVISION, "model", "model_ema"),
        (dict(reversed(TORCHVISION.items())), "model", "model_ema"),
        ({"state_dict": NET, "state_dict_ema": EMA}, "state_dict", "state_dict_ema"),
        (LIGHTNING, "state_dict.net", "state_dict.ema_model.module"),
        (MOCO, "state_dict.encoder_q", "state_dict.encoder_k"),
        (DINO, "teacher.backbone", "student.backbone"),
        ({"model": NET, "best": {"model": EMA}}, "model", "best.model"),
        ({"ema": {"shadow": EMA}, "weights": NET}, "weights", "ema.shadow"),
        ({"online": NET, "momentum_net": EMA}, "online", "momentum_net"),
    ],
    ids=str.__class__,
)
def test_the_selected_one_of_several_is_reported_and_can_be_chosen(checkpoint: dict, plain: str, other: str, read):
    selected = read(checkpoint)
    assert value(selected) == 1.0
    assert selected.sentences[0] == f"`{plain}` is taken; backbone=FILE:NAME takes another (`{other}`)"
    chosen = read(checkpoint, other)
    assert value(chosen) == 2.0 and chosen.sentences[0].startswith(f"`{other}` is taken")
    assert value(read(checkpoint, plain)) == 1.0
    assert value(read(checkpoint, other.split(".")[1] if "." in other else other)) in (1.0, 2.0)


def test_a_part_of_the_name_is_enough(read):
    assert value(read(LIGHTNING, "ema_model")) == value(read(MOCO, "encoder_k")) == value(read(DINO, "student")) == 2.0
    assert value(read(MOCO, "state_dict")) == 1.0, "the plainest of those in it"
    with pytest.raises(InputError, match="has no network at `mode`: choose one of `model`, `model_ema`"):
        read(TORCHVISION, "mode")
    with pytest.raises(InputError, match="has no network at `x`: choose one of ``"):
        read(NET, "x")


def test_equally_plain_ones_are_not_guessed(read):
    gan = {"generator": NET, "discriminator": EMA}
    with pytest.raises(
        InputError, match=r"x\.pth has several networks: .*`generator`, `discriminator`.*FILE:generator"
    ):
        read(gan)
    assert value(read(gan, "discriminator")) == 2.0


@pytest.mark.parametrize(
    ("checkpoint", "place"),
    [
        ([NET, trained().state_dict()], ""),
        ([NET, {"optimizer": trained().state_dict()}, 3], "0"),
        ((3, NET), "1"),
        ({0: NET}, "0"),
        ({"nets": [{"epoch": 1}, ({5: NET},)]}, "nets.1.0.5"),
        ({"model": NET, "best": [EMA]}, "model"),
        ([("resnet", NET)], "0.1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_lists_tuples_and_numbers_hold_networks_too(checkpoint: object, place: str, read):
    assert value(read(checkpoint)) == 1.0
    assert value(read(checkpoint, place)) == 1.0


def test_a_long_history_is_no_bomb(monkeypatch):
    """Only objects at several places are limited, since the pickle's own length limits the others."""
    monkeypatch.setattr(state_dicts_module, "MOST_VISITS", 1000)
    history = [(n, {"loss": [n]}) for n in range(2000)]
    selected = state_dicts({"model": {"a.weight": Unreadable("")}, "history": history})
    assert [each.place for each in selected] == ["model"]


@pytest.mark.parametrize("checkpoint", [[NET, EMA], (NET, EMA), {0: NET, 1: EMA}, {"0": NET, "1": EMA}], ids=type)
def test_one_of_a_list_is_chosen_by_its_number(checkpoint: object, read):
    with pytest.raises(InputError, match=r"several networks: choose one of `0`, `1`, spelled as backbone=FILE:0"):
        read(checkpoint)
    assert value(read(checkpoint, "0")) == 1.0 and value(read(checkpoint, "1")) == 2.0
    with pytest.raises(InputError, match="no network at `2`: choose one of `0`, `1`"):
        read(checkpoint, "2")


def test_the_same_by_a_prefix_in_safetensors(tmp_path: Path):
    save_file(within("model.", NET) | within("model_ema.module.", EMA), tmp_path / "x.safetensors")
    assert value(read_network(tmp_path / "x.safetensors", R18)[0]) == 1.0
    assert value(read_network(tmp_path / "x.safetensors", R18, "model_ema")[0]) == 2.0


# --- heads, and files without such a network ---------------------------------------------------------------------


def test_a_missing_head_is_reported(read):
    projection = {"fc.0.weight": torch.ones(4, 4), "fc.2.weight": torch.ones(2, 4), "queue": torch.ones(2, 2)}
    for others in ({}, projection, {"fc.weight": torch.ones(3, 5)}, {"fc.bias": torch.ones(3)}):
        selected = read(BODY | others)
        assert not [name for name in selected.tensors if name.startswith("head")]
        assert ("left out" in " ".join(selected.sentences)) == bool(others)
    del projection["queue"]
    assert "fc.0.weight" in " ".join(read(BODY | projection).sentences)


def test_a_head_without_bias(read):
    selected = read({name: tensor for name, tensor in NET.items() if name != "fc.bias"})
    assert "head.bias" not in selected.tensors and "`fc` has no bias" in selected.sentences[0]


def test_a_file_without_such_a_network(read):
    decathlon = {"body.norm.weight": torch.ones(2), "body.stem.conv.weight": torch.ones(2)}
    deep = within("x.", NET | {f"layer1.{n}.conv1.weight": torch.ones(1) for n in (2, 3)})
    for thing, network, message in (
        (NET, "resnet26", "add settings=network=torchvision/resnet18 or timm/resnet18"),
        (within("model.", NET), "resnet26", "add settings=network=torchvision/resnet18"),
        (deep, "resnet26", "is a ResNet of 4-2-2-2 blocks"),
        (deep, R18, "holds a ResNet of 4-2-2-2 blocks a stage, not a torchvision/resnet18"),
        (NET, "timm/resnet50", "holds a resnet18, not a timm/resnet50: name it by settings=network=timm/resnet18"),
        (decathlon, R18, "names of a decathlon ResNet-26, not of torchvision/resnet18: leave settings=network= out"),
        ({"model": {"features.0.weight": torch.ones(1)}}, R18, "under `model` (first: `features.0.weight`)"),
        ({"epoch": 3, "optimizer": trained().state_dict()}, R18, "holds no weights: under 'epoch', 'optimizer'"),
        ({"a\x1b[2Jb": torch.ones(1)}, R18, r"`a\x1b[2Jb`"),
    ):
        with pytest.raises(WithoutNetwork) as caught:
            read(thing, network=network)
        assert message in str(caught.value) and "x.pth" in str(caught.value) and str(caught.value).isprintable()


def test_unknown_parts_are_kept_and_refused_later(read):
    """Only known other entries are left out: a further stage or a gate within a block changes the network."""
    tensors = NET | {
        "layer1.0.se.weight": torch.ones(1),
        "layer5.0.weight": torch.ones(1),
        "conv2.weight": torch.ones(1),
    }
    assert {"body.layer1.0.se.weight", "body.layer5.0.weight", "body.conv2.weight"} <= read(tensors).tensors.keys()


def test_other_kinds_of_file(tmp_path: Path):
    class Twice(nn.Module):
        """A module for TorchScript."""

        def forward(self, x):
            return x + x

    path = tmp_path / "x.pt"
    with pytest.warns(match="deprecated"):
        torch.jit.save(torch.jit.script(Twice()), path)
    with pytest.raises(InputError, match=r"TorchScript archive: load it by torch\.jit\.load"):
        read_pickled(path)
    for content, message in (
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"<!DOCTYPE html>", "a web page"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"\x1f\x8b\x08", "gzip"),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=f"is no PyTorch checkpoint but .*{message}"):
            read_pickled(path)
