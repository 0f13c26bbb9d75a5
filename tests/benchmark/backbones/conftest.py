"""Shared by the tests of checkpoints."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.benchmark.backbones.small_resnet import R18
from tests.benchmark.backbones.torch_files import ResNet, bring_models
from visual_decathlon.benchmark.backbones.selection import Selected
from visual_decathlon.benchmark.backbones.weights import read_network


@pytest.fixture
def network():
    """A small network of classes that exist only while it is saved."""
    bring_models()
    yield ResNet()
    sys.modules.pop("models", None)


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Selected]:
    """`read(thing, choice, network, **how)`: saves a thing with torch.save and selects the network in it again."""

    def select(thing: object, choice: str = "", network: str = R18, **how) -> Selected:
        torch.save(thing, tmp_path / "x.pth", **how)
        return read_network(tmp_path / "x.pth", network, choice)[0]

    return select
