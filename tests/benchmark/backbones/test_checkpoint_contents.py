"""Checkpoints as people's trainers write them: the weights are read next to any other content."""

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
from torch import nn

from tests.benchmark.backbones.small_resnet import (
    NET,
    R18,
    Settings,
    trained,
    value,
)
from visual_decathlon.benchmark.backbones.torch_checkpoint import read_pickled
from visual_decathlon.benchmark.backbones.weights import is_weights, read_network
from visual_decathlon.datasets.errors import InputError


class Mode(enum.Enum):
    """An enum of a user's package."""

    FAST = 1


class Level(enum.IntFlag):
    """A flag of a user's package."""

    HIGH = 4


Pair = collections.namedtuple("Pair", "a b")


def main():
    pass


def table() -> pd.DataFrame:
    columns = {"a": [1, 2], "b": ["x", "y"], "p": pd.period_range("2026", periods=2), "t": pd.to_datetime(["2026"] * 2)}
    return pd.DataFrame(columns | {"c": pd.Categorical(["u", "v"]), "n": pd.array([1, None], dtype="Int64")})


def inert() -> dict[str, object]:
    """Other entries of people's checkpoints, next to the weights, by kind."""
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


OLD = {"_use_new_zipfile_serialization": False}


@pytest.mark.parametrize("how", [{}, {"pickle_protocol": 5}, {"pickle_protocol": 0}, OLD], ids=str)
@pytest.mark.parametrize("kind", list(inert()))
def test_other_entries_are_inert(kind: str, how: dict, read):
    """They are read as data, in every format, and are not among the tensors."""
    assert value(read({"model": NET, "other": inert()[kind]}, **how)) == 1.0
    assert value(read({**NET, "other": inert()[kind]}, **how)) == 1.0


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


def test_whole_modules_of_any_package(tmp_path: Path, monkeypatch):
    """Compiled, averaged, with hooks, next to a whole optimiser, whose state has parameters as its keys."""
    import torchvision

    class OptimizedModule:
        """Saved like torch.compile's modules, without the seconds of importing it."""

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
    ("change", "message"),
    [
        (lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8), "a quantised tensor: save its dequantize"),
        (lambda t: t.to_sparse(), "a sparse tensor: save its to_dense"),
        (lambda t: t.to("meta"), "without data"),
        (lambda t: torch.complex(t, t).conj().imag, r"resolve_conj\(\).resolve_neg\(\)"),
    ],
)
def test_tensors_that_are_not_read(change: Callable, message: str, read):
    """Refused where it is the network's, by its name in the file; harmless next to it."""
    for name in ("conv1.weight", "fc.weight"):
        with pytest.raises(InputError, match=message):
            read({"model": NET | {name: change(NET[name])}})
    if "resolve" not in message:
        assert value(read({"model": NET, "mask": change(torch.ones(3))})) == 1.0
