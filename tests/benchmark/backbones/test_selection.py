"""Checkpoints as people's trainers write them: the network is found in them, and what is taken off or left is said.

Files are torch.save's own, of tensors with the names of a ResNet-18 and hardly any numbers.
"""

import argparse
import array
import collections
import datetime
import decimal
import enum
import functools
import ipaddress
import math
import operator
import pathlib
import random
import sys
import types
import typing
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from visual_decathlon.benchmark.backbones import torch_checkpoint
from visual_decathlon.benchmark.backbones.pickle_names import Unreadable
from visual_decathlon.benchmark.backbones.selection import Selected
from visual_decathlon.benchmark.backbones.state_dicts import WithoutNetwork, state_dicts
from visual_decathlon.benchmark.backbones.torch_checkpoint import read_pickled
from visual_decathlon.benchmark.backbones.weights import is_weights, read_network
from visual_decathlon.datasets.errors import InputError

R18 = "torchvision/resnet18"
Tensors = dict[str, torch.Tensor]


def resnet(value: float = 1.0, head: bool = True) -> Tensors:
    """The names of torchvision's ResNet-18 (no shortcuts), of 4 features and 3 classes."""
    convs = ["conv1", *(f"layer{stage}.{block}.conv{n}" for stage in (1, 2, 3, 4) for block in (0, 1) for n in (1, 2))]
    tensors = {f"{conv}.weight": torch.full((4, 1, 1, 1), value) for conv in convs}
    for norm in (conv.replace("conv", "bn") for conv in convs):
        tensors |= {f"{norm}.running_var": torch.ones(4), f"{norm}.num_batches_tracked": torch.tensor(7)}
    return tensors | ({"fc.weight": torch.full((3, 4), value), "fc.bias": torch.zeros(3)} if head else {})


def within(prefix: str, tensors: Tensors) -> Tensors:
    return {prefix + name: tensor for name, tensor in tensors.items()}


NET, EMA, BODY = resnet(), resnet(2.0), resnet(head=False)
OURS = {f"{'head' if n.startswith('fc.') else 'body'}.{n.removeprefix('fc.')}" for n in NET}


class Mode(enum.Enum):
    FAST = 1


class Level(enum.IntFlag):
    HIGH = 4


class Settings(dict):
    class Inner:
        pass

    def method(self):
        pass


Pair = collections.namedtuple("Pair", "a b")


def main():
    pass


def trained(value: float = 1.0) -> torch.optim.Optimizer:
    parameter = nn.Parameter(torch.full((3,), value))
    optimiser = torch.optim.AdamW([parameter], lr=0.1)
    parameter.grad = torch.ones(3)
    optimiser.step()
    return optimiser


def table() -> pd.DataFrame:
    columns = {"a": [1, 2], "b": ["x", "y"], "p": pd.period_range("2026", periods=2), "t": pd.to_datetime(["2026"] * 2)}
    return pd.DataFrame(columns | {"c": pd.Categorical(["u", "v"]), "n": pd.array([1, None], dtype="Int64")})


def inert() -> dict[str, object]:
    """What stands beside the weights in people's checkpoints, one kind each."""
    settings = Settings(a=1)
    settings.b = 2
    schedule = torch.optim.lr_scheduler.MultiStepLR(trained(), [3])
    return {
        "Namespace": argparse.Namespace(lr=0.1, data=pathlib.Path("/data"), func=main, type=float, mode=Mode.FAST),
        "paths": [pathlib.PurePosixPath("a"), pathlib.PureWindowsPath("b")],
        "enums": [Mode.FAST, Level.HIGH, {Mode.FAST: 1}],
        "times": [datetime.datetime.now(datetime.UTC), datetime.date(2026, 1, 1), datetime.timedelta(1)],
        "containers": [
            collections.defaultdict(list, {"a": [1]}),
            collections.Counter("aab"),
            collections.deque([1, 2], 3),
            collections.ChainMap({"a": 1}),
            {(1, "a"): 1, 0.5: 2, None: 3, True: 4, int: 5, b"x": 6},
            {1, 2},
            frozenset({1}),
        ],
        "own classes": [
            settings,
            Settings.Inner(),
            Settings.Inner,
            settings.method,
            Pair(1, 2),
            types.SimpleNamespace(a=1),
        ],
        "types": [typing.Any, int | None, list[int], dict, range(3), slice(1), type(None), ...],
        "scalars": [1 + 2j, b"bytes", bytearray(b"x"), 2**100, decimal.Decimal("1.5"), uuid.UUID(int=1)],
        "partial": functools.partial(nn.BatchNorm2d, eps=1e-3),
        "numpy": [np.float64(1), np.float32(1), np.bool_(True), np.arange(3), np.array(["a"], object), np.dtype("f4")],
        "random": [random.getstate(), np.random.get_state(), np.random.default_rng(0), torch.get_rng_state()],
        "torch": [torch.Size([1]), torch.float16, torch.float8_e4m3fn, torch.device("cuda:7"), torch.strided],
        "functions": [torch.relu, nn.functional.gelu, nn.GELU, torch.utils.data.default_collate, nn.init.zeros_],
        "functions of numpy": [np.less, np.mean, np.vectorize(len)],
        "functions of Python": [
            argparse.Namespace(key=len, best=max),
            *(operator.gt, operator.itemgetter(1), math.cos, enum.IntEnum, object, collections.namedtuple),
            functools.partial(sorted, key=operator.attrgetter("a")),
        ],
        "plain data": [array.array("d", [1]), ipaddress.ip_address("127.0.0.1"), ipaddress.ip_network("10.0.0.0/8")],
        "exceptions and iterators": [ValueError("x"), iter([1]), enumerate([1])],
        "DataFrame": table(),
        "parts of DataFrames": [table()["p"], table().set_index("t").index, table().set_index(["a", "b"]).index],
        "scalars of pandas": [
            pd.Timestamp("2026-01-01", tz="Europe/Paris"),
            *(pd.Timedelta(1), pd.NaT, pd.NA, pd.Period("2026"), pd.Interval(0, 1), pd.offsets.Day(2)),
        ],
        "optimiser": [trained().state_dict(), trained(), torch.amp.GradScaler("cpu")],
        "schedule": [schedule.state_dict(), schedule],
        "storage": torch.ones(3).untyped_storage(),
    }


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Selected]:
    """`read(thing, choice, network, **how)`: what torch.save writes of a thing, selected again."""

    def select(thing: object, choice: str = "", network: str = R18, **how) -> Selected:
        torch.save(thing, tmp_path / "x.pth", **how)
        return read_network(tmp_path / "x.pth", network, choice)[0]

    return select


def value(selected: Selected) -> float:
    assert set(selected.tensors) == OURS
    return selected.tensors["body.conv1.weight"].mean().item()


OLD = {"_use_new_zipfile_serialization": False}


@pytest.mark.parametrize("how", [{}, {"pickle_protocol": 5}, {"pickle_protocol": 0}, OLD], ids=str)
@pytest.mark.parametrize("kind", list(inert()))
def test_what_stands_beside_the_weights_is_inert(kind: str, how: dict, read):
    """Read as data, in every format, and nothing of it is there afterwards."""
    assert value(read({"model": NET, "beside": inert()[kind]}, **how)) == 1.0
    assert value(read({**NET, "beside": inert()[kind]}, **how)) == 1.0


@pytest.mark.parametrize("protocol", [0, 1])
@pytest.mark.parametrize("how", [{}, OLD], ids=["zip", "legacy"])
def test_the_oldest_protocols(protocol: int, how: dict, read, tmp_path: Path):
    settings = Settings(a=1, net=NET)
    for thing in (NET, {"model": NET, "optimizer": trained().state_dict()}, [NET, trained()], settings):
        assert value(read(thing, pickle_protocol=protocol, **how)) == 1.0
    assert is_weights(tmp_path / "x.pth")
    parts = torch.ones(4, 4)[2:]
    assert (
        read(NET | {"conv1.weight": parts.T}, pickle_protocol=protocol, **how)
        .tensors["body.conv1.weight"]
        .equal(parts.T)
    )


def test_memory_formats(read):
    """Which torch.save can write from protocol 4 on."""
    assert value(read({"model": NET, "layout": torch.channels_last}, pickle_protocol=4)) == 1.0


def test_old_names_of_numpy(tmp_path: Path):
    """numpy 1 wrote `numpy.core`, numpy 2 writes `numpy._core`."""
    thing = {"model": NET, "acc": np.float64(1), "curve": np.arange(3)}
    torch.save(thing, tmp_path / "x.pth", _use_new_zipfile_serialization=False)
    written = (tmp_path / "x.pth").read_bytes()
    assert b"cnumpy._core.multiarray\n" in written
    (tmp_path / "x.pth").write_bytes(written.replace(b"cnumpy._core.", b"cnumpy.core."))
    assert value(read_network(tmp_path / "x.pth", R18)[0]) == 1.0


# --- where the network is, and what wraps its names --------------------------------------------------------------


@pytest.mark.parametrize(
    ("checkpoint", "told"),
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
    ids=lambda told: told if isinstance(told, str) else "",
)  # fmt: skip
def test_wrapped_networks(checkpoint: dict, told: str, read, tmp_path: Path):
    selected = read(checkpoint)
    assert value(selected) == 1.0
    assert told in " ".join(selected.sentences) if told else not selected.sentences
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


def test_whole_modules_of_any_package(tmp_path: Path, monkeypatch):
    """Compiled, averaged, with hooks, with a whole optimiser beside, whose state has parameters as its keys."""
    import torchvision

    class OptimizedModule:  # as torch.compile's are written, without the seconds of importing it
        def __init__(self, *made_of):
            self.made_of = made_of

        def __reduce__(self):
            return OptimizedModule, self.made_of

    OptimizedModule.__module__, OptimizedModule.__qualname__ = "torch._dynamo.eval_frame", "OptimizedModule"
    place = types.SimpleNamespace(OptimizedModule=OptimizedModule)
    monkeypatch.setitem(sys.modules, OptimizedModule.__module__, place)
    network = torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=2)
    expected = network.state_dict()
    optimiser = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
    for parameter in network.parameters():
        optimiser.state[parameter]["momentum_buffer"] = torch.ones(1)
    network.register_forward_hook(main)
    compiled = OptimizedModule(network, functools.partial(main))
    for thing in (network, compiled, nn.DataParallel(network), {"model": network, "optimizer": optimiser}):
        torch.save(thing, tmp_path / "x.pth")
        tensors = read_pickled(tmp_path / "x.pth")
        assert {name: t.shape for name, t in tensors.items()} == {name: t.shape for name, t in expected.items()}
        assert torch.equal(tensors["layer4.0.conv2.weight"], expected["layer4.0.conv2.weight"])
    averaged = torch.optim.swa_utils.AveragedModel(nn.Sequential(collections.OrderedDict(fc=nn.Linear(2, 2))))
    torch.save(averaged, tmp_path / "x.pth")
    assert list(read_pickled(tmp_path / "x.pth")) == ["n_averaged", "fc.weight", "fc.bias"]


@pytest.mark.slow
def test_a_compiled_module(tmp_path: Path):
    network = nn.Sequential(nn.Linear(2, 2))
    torch.save({"model": torch.compile(network), "x": 1}, tmp_path / "x.pth")
    assert torch.equal(read_pickled(tmp_path / "x.pth")["0.weight"], network[0].weight)


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16", "float8_e4m3fn", "complex64", "uint16"])
def test_types_of_numbers(dtype: str, read):
    tensors = {name: tensor.to(getattr(torch, dtype)) for name, tensor in NET.items() if "num_" not in name}
    for how in ({}, {"_use_new_zipfile_serialization": False}):
        got = read(tensors, **how).tensors
        assert got["head.weight"].dtype == getattr(torch, dtype)
        assert torch.equal(got["head.weight"].to(torch.complex64), NET["fc.weight"].to(torch.complex64))


def test_parameters_with_attributes_views_and_ties(read):
    marked = nn.Parameter(NET["fc.weight"])
    marked.shard, plain = "row", torch.arange(4.0).reshape(4, 1, 1, 1)
    plain.note = "mine"
    turned = torch.arange(12.0).reshape(4, 3).t()
    tensors = NET | {
        "fc.weight": marked,
        "conv1.weight": plain,
        "layer1.0.conv1.weight": turned,
        "layer1.0.conv2.weight": turned,
    }
    got = read({"model": tensors}).tensors
    assert torch.equal(got["head.weight"], marked) and torch.equal(got["body.conv1.weight"], plain)
    assert torch.equal(got["body.layer1.0.conv1.weight"], turned)
    assert got["body.layer1.0.conv1.weight"].data_ptr() == got["body.layer1.0.conv2.weight"].data_ptr()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8), "a quantised tensor: save its dequantize"),
        (lambda t: t.to_sparse(), "a sparse tensor: save its to_dense"),
        (lambda t: t.to("meta"), "without data"),
        (lambda t: torch.complex(t, t).conj().imag, r"resolve_conj\(\).resolve_neg\(\)"),
    ],
)
def test_tensors_that_are_not_read(change: Callable, told: str, read):
    """Refused where it is the network's, by its name in the file; no harm beside it."""
    for name in ("conv1.weight", "fc.weight"):
        with pytest.raises(InputError, match=told):
            read({"model": NET | {name: change(NET[name])}})
    if "resolve" not in told:
        assert value(read({"model": NET, "mask": change(torch.ones(3))})) == 1.0


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
def test_which_of_several_is_said_and_can_be_chosen(checkpoint: dict, plain: str, other: str, read):
    selected = read(checkpoint)
    assert value(selected) == 1.0
    assert selected.sentences[0] == f"`{plain}` is taken; BACKBONE=FILE:NAME takes another (`{other}`)"
    chosen = read(checkpoint, other)
    assert value(chosen) == 2.0 and chosen.sentences[0].startswith(f"`{other}` is taken")
    assert value(read(checkpoint, plain)) == 1.0
    assert value(read(checkpoint, other.split(".")[1] if "." in other else other)) in (1.0, 2.0)


def test_a_part_of_the_name_is_enough(read):
    assert value(read(LIGHTNING, "ema_model")) == value(read(MOCO, "encoder_k")) == value(read(DINO, "student")) == 2.0
    assert value(read(MOCO, "state_dict")) == 1.0, "the plainest of those in it"
    with pytest.raises(InputError, match="has no network at `mode`: choose of `model`, `model_ema`"):
        read(TORCHVISION, "mode")
    with pytest.raises(InputError, match="has no network at `x`: choose of ``"):
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
    """The bound is on what stands at several places, since the pickle's own length bounds the rest."""
    monkeypatch.setattr(torch_checkpoint, "MOST_VISITS", 1000)
    history = [(n, {"loss": [n]}) for n in range(2000)]
    found = state_dicts({"model": {"a.weight": Unreadable("")}, "history": history})
    assert [each.place for each in found] == ["model"]


@pytest.mark.parametrize("checkpoint", [[NET, EMA], (NET, EMA), {0: NET, 1: EMA}, {"0": NET, "1": EMA}], ids=type)
def test_one_of_a_list_is_chosen_by_its_number(checkpoint: object, read):
    with pytest.raises(InputError, match=r"several networks: choose one of `0`, `1`, spelled as BACKBONE=FILE:0"):
        read(checkpoint)
    assert value(read(checkpoint, "0")) == 1.0 and value(read(checkpoint, "1")) == 2.0
    with pytest.raises(InputError, match="no network at `2`: choose of `0`, `1`"):
        read(checkpoint, "2")


def test_the_same_by_a_prefix_in_safetensors(tmp_path: Path):
    save_file(within("model.", NET) | within("model_ema.module.", EMA), tmp_path / "x.safetensors")
    assert value(read_network(tmp_path / "x.safetensors", R18)[0]) == 1.0
    assert value(read_network(tmp_path / "x.safetensors", R18, "model_ema")[0]) == 2.0


# --- heads, and what is no such network ---------------------------------------------------------------------------


def test_no_head_is_said(read):
    projection = {"fc.0.weight": torch.ones(4, 4), "fc.2.weight": torch.ones(2, 4), "queue": torch.ones(2, 2)}
    for beside in ({}, projection, {"fc.weight": torch.ones(3, 5)}, {"fc.bias": torch.ones(3)}):
        selected = read(BODY | beside)
        assert not [name for name in selected.tensors if name.startswith("head")]
        assert ("left out" in " ".join(selected.sentences)) == bool(beside)
    del projection["queue"]
    assert "fc.0.weight" in " ".join(read(BODY | projection).sentences)


def test_a_head_without_bias(read):
    selected = read({name: tensor for name, tensor in NET.items() if name != "fc.bias"})
    assert "head.bias" not in selected.tensors and "`fc` has no bias" in selected.sentences[0]


def test_what_is_no_such_network(read):
    ours = {"body.norm.weight": torch.ones(2), "body.stem.conv.weight": torch.ones(2)}
    deep = within("x.", NET | {f"layer1.{n}.conv1.weight": torch.ones(1) for n in (2, 3)})
    for thing, network, told in (
        (NET, "resnet26", "add SET=network=torchvision/resnet18 or timm/resnet18"),
        (within("model.", NET), "resnet26", "add SET=network=torchvision/resnet18"),
        (deep, "resnet26", "is a ResNet of 4-2-2-2 blocks"),
        (deep, R18, "holds a ResNet of 4-2-2-2 blocks a stage, not a torchvision/resnet18"),
        (NET, "timm/resnet50", "holds a resnet18, not a timm/resnet50: name it by SET=network=timm/resnet18"),
        (ours, R18, "names of a decathlon ResNet-26, not of torchvision/resnet18: leave SET=network= out"),
        ({"model": {"features.0.weight": torch.ones(1)}}, R18, "under `model` (first: `features.0.weight`)"),
        ({"epoch": 3, "optimizer": trained().state_dict()}, R18, "holds no weights: under 'epoch', 'optimizer'"),
        ({"a\x1b[2Jb": torch.ones(1)}, R18, r"`a\x1b[2Jb`"),
    ):
        with pytest.raises(WithoutNetwork) as caught:
            read(thing, network=network)
        assert told in str(caught.value) and "x.pth" in str(caught.value) and str(caught.value).isprintable()


def test_what_the_network_has_not_stays_and_is_refused_later(read):
    """Only known companions are left out: a further stage or a gate within a block changes what is computed."""
    tensors = NET | {
        "layer1.0.se.weight": torch.ones(1),
        "layer5.0.weight": torch.ones(1),
        "conv2.weight": torch.ones(1),
    }
    assert {"body.layer1.0.se.weight", "body.layer5.0.weight", "body.conv2.weight"} <= read(tensors).tensors.keys()


def test_other_kinds_of_file(tmp_path: Path):
    class Twice(nn.Module):
        def forward(self, x):
            return x + x

    path = tmp_path / "x.pt"
    with pytest.warns(match="deprecated"):
        torch.jit.save(torch.jit.script(Twice()), path)
    with pytest.raises(InputError, match=r"TorchScript archive: load it by torch\.jit\.load"):
        read_pickled(path)
    for content, told in (
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"<!DOCTYPE html>", "a web page"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"\x1f\x8b\x08", "gzip"),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=f"is no PyTorch checkpoint but .*{told}"):
            read_pickled(path)
