"""Every adapter of a convolution at a linear layer: it computes what it does at the 1x1 convolution of the same weight.

Its formula on that convolution is tested with its family.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from visual_decathlon.methods.layers.adapter import Adapter
from visual_decathlon.methods.layers.linear import LinearConv, adapter_at, as_map, as_tokens
from visual_decathlon.methods.per_conv import PerConv
from visual_decathlon.methods.registry import entries, select
from visual_decathlon.methods.shapes import ConvShape

OPTIONS = (
    "lora(init='pissa'),lora(form='loralib'),lora(where='q'),lora(where='qv'),lora(where='qkv'),oft(side='left'),"
    "lokr(rank=2),fact(form='tk'),glora(shift='vector'),rep_adapter(bias=True),shira(mask='gradient')"
)
METHODS = [m for m in (*(entry() for entry in entries()), *select(OPTIONS)) if isinstance(m, PerConv)]
CIN, COUT = 32, 48  # a multiple of 3, as a fused projection has


def layers(bias: bool) -> tuple[LinearConv, nn.Conv2d]:
    torch.manual_seed(0)
    linear = nn.Linear(CIN, COUT, bias).requires_grad_(False)
    conv = nn.Conv2d(CIN, COUT, 1, bias=bias).requires_grad_(False)
    conv.load_state_dict({n: t[:, :, None, None] if n == "weight" else t for n, t in linear.state_dict().items()})
    return LinearConv(linear), conv


def moved(make, at: nn.Module) -> Adapter:
    """An adapter whose trained tensors are changed from the start, by the same numbers at every call."""
    torch.manual_seed(1)
    adapter = make(at)
    for p in adapter.parameters():
        if p.requires_grad:
            change = 0.3 * torch.randn_like(p)
            p.data += change.abs() if p.numel() == 1 else change  # a layer's gate, as that of `taps`, opens
    return adapter.eval()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.spec)
@torch.no_grad()
def test_it_is_the_adapter_of_a_1x1_convolution(method, bias):
    linear, conv = layers(bias)
    if method.skip_reason(ConvShape.of(linear)):
        pytest.skip(method.skip_reason(ConvShape.of(linear)))
    ours = moved(lambda module: adapter_at(module, method.layer), linear)
    theirs = moved(method.layer, conv)
    x = torch.randn(2, 7, CIN)
    wanted = as_tokens(theirs(as_map(x)), x.shape[:-1])
    assert float((wanted - linear(x)).abs().max()) > 0.01
    torch.testing.assert_close(ours(x), wanted, rtol=1e-5, atol=1e-5)
    if method.mergeable:
        merged = ours.merge()
        assert type(merged) is LinearConv and not any(p.requires_grad for p in merged.parameters())
        torch.testing.assert_close(F.linear(x, merged.weight[:, :, 0, 0], merged.bias), wanted, rtol=1e-5, atol=1e-5)
    if ours.any_axis:  # any number of axes, as windows and maps of channels last have
        torch.testing.assert_close(ours(x[:, None]), wanted[:, None], rtol=1e-5, atol=1e-5)
