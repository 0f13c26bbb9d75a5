"""A small network of classes that exist only while it is saved."""

import sys

import pytest

from tests.benchmark.backbones.torch_files import ResNet, bring_models


@pytest.fixture
def network():
    bring_models()
    yield ResNet()
    sys.modules.pop("models", None)
