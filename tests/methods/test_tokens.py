"""Prefix and prompt: listed, counted as 0, and refused in one sentence."""

import pytest

from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.registry import select


@pytest.mark.parametrize("name", ["prefix", "prompt"])
@pytest.mark.parametrize("network", ["resnet26", "timm/resnet50"])
def test_refused(name, network):
    (method,) = select(name)
    sentence = method.unsupported_reason(network)
    assert sentence.startswith(f"{name} learns ") and f"self-attention, and {network} has none" in sentence
    assert "vision transformer (ViT)" in sentence and sentence.count(".") == 0
    source = resnet26(3, 0.125)
    before = {n: t.clone() for n, t in source.state_dict().items()}
    with pytest.raises(InputError, match=rf"^{name} learns .* self-attention"):
        method.place(source, 3)
    assert all((t == before[n]).all() for n, t in source.state_dict().items())
    assert method.floats(resnet26_shapes()) == method.bits(resnet26_shapes()) == 0
    assert method.multiplier(resnet26_shapes()) == 1
