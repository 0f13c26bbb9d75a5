"""Counts and memory of modules against closed forms that are written out here."""

import math

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision import models

from visual_decathlon.benchmark.backbones.safetensors_file import write_safetensors
from visual_decathlon.benchmark.perf.efficiency import count
from visual_decathlon.benchmark.perf.efficiency.blocks import BLOCKS, KERNEL
from visual_decathlon.benchmark.perf.efficiency.live_tensors import LiveTensors, peak_activation
from visual_decathlon.benchmark.training.macs import pass_macs


class Attention(nn.Module):
    """Self-attention with the products fused, as in timm."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        b, n, dim = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, dim))


# 17 x 11 pixels at stride 2 and padding 1 are 9 x 6 positions.
CASES = {
    "conv": (nn.Conv2d(8, 12, 3, 2, 1), (8, 17, 11), 9 * 6 * 12 * 8 * 9),
    "grouped": (nn.Conv2d(8, 12, 3, 2, 1, groups=4), (8, 17, 11), 9 * 6 * 12 * 2 * 9),
    "depthwise": (nn.Conv2d(8, 8, 3, 2, 1, groups=8), (8, 17, 11), 9 * 6 * 8 * 9),
    "dilated": (nn.Conv2d(8, 12, 3, padding=2, dilation=2), (8, 5, 7), 5 * 7 * 12 * 8 * 9),
    "linear": (nn.Linear(24, 10), (24,), 240),
    "linear on tokens": (nn.Linear(24, 10), (7, 24), 7 * 240),
    "attention": (Attention(24, 3), (7, 24), 7 * 24 * 96 + 2 * 7 * 7 * 24),
    "norm, activation, pooling": (nn.Sequential(nn.BatchNorm2d(8), nn.ReLU(), nn.AvgPool2d(2)), (8, 6, 6), 0),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("batch", [1, 3])
def test_multiply_adds_are_those_of_a_closed_form(case: str, batch: int):
    module, shape, wanted = CASES[case]
    assert pass_macs(module.train(), torch.randn(batch, *shape)) == wanted
    assert module.training, "the mode is as before"


def test_the_attention_of_torchvision_is_counted_too():
    """Its fast path in eval mode is one operation that torch's counter does not know."""
    dim, mlp, tokens, layers = 48, 96, 1 + 4 * 4, 2
    network = models.VisionTransformer(32, 8, layers, 4, dim, mlp, num_classes=10)
    wanted = 16 * 3 * 64 * dim + layers * (tokens * (4 * dim**2 + 2 * dim * mlp) + 2 * tokens**2 * dim) + 10 * dim
    assert pass_macs(network, torch.zeros(2, 3, 32, 32)) == wanted
    assert torch.backends.mha.get_fastpath_enabled()


def test_counting_changes_no_statistics():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(4)).train()
    pass_macs(network, torch.ones(1, 3, 5, 5))
    assert network[1].num_batches_tracked == 0 and not network[1].running_mean.any()


def test_known_networks_have_their_published_sizes():
    with torch.device("meta"):
        network = models.resnet50()
        vit = timm.create_model("vit_tiny_patch16_224")
        assert count.parameters(network) == 25_557_032
        assert pass_macs(network, torch.zeros(1, 3, 224, 224)) == 4_089_184_256
        assert round(pass_macs(vit, torch.zeros(1, 3, 224, 224)) / 1e4) == 125_368


def test_the_file_is_as_large_as_a_written_one(tmp_path):
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 5))
    size = write_safetensors(tmp_path / "a.safetensors", network.state_dict(), {})
    assert count.file_bytes(network) == size == (tmp_path / "a.safetensors").stat().st_size
    numbers = sum(t.numel() for t in network.state_dict().values())
    assert size > 4 * numbers and len(load_file(tmp_path / "a.safetensors")) == 9
    whole = count.file_bytes(network)
    half = count.file_bytes(network.to(torch.bfloat16))
    assert abs(whole - half - 2 * (numbers - 1)) < 64, "all but batch norm's counter take two bytes less"
    network.to(memory_format=torch.channels_last)
    assert count.file_bytes(network) == half


def test_a_tensor_with_two_names_is_stored_and_counted_once():
    tied = nn.Sequential(nn.Linear(64, 64, bias=False), nn.Linear(64, 64, bias=False))
    apart = count.file_bytes(tied)
    assert count.parameters(tied) == 2 * 64 * 64
    tied[1].weight = tied[0].weight
    assert count.parameters(tied) == 64 * 64
    assert 4 * 64 * 64 <= count.file_bytes(tied) < apart - 4 * 64 * 64 + 1


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
@pytest.mark.parametrize(("channels", "side"), [(32, 6), (64, 5), (128, 3)])
def test_the_closed_form_of_a_block_is_what_is_counted(block, channels: int, side: int):
    module = block.build(channels)
    x = torch.randn(2, channels, side, side)
    assert module(x).shape == x.shape
    assert count.parameters(module) == block.weights(channels)
    assert pass_macs(module, x) == side**2 * block.weights(channels)
    standard = BLOCKS[0]
    assert block.ratio(channels) * standard.weights(channels) == block.weights(channels)
    names = {"C": channels, "k": KERNEL, "g": 4, "t": 6}
    assert math.isclose(_value(block.formula, names), block.weights(channels))
    assert math.isclose(_value(block.ratio_formula, names), block.ratio(channels))


def _value(formula: str, names: dict[str, int]) -> float:
    """The value of a closed form as it is printed: juxtaposed factors are multiplied."""
    words = formula.replace("²", " ** 2").replace("(", "( ").replace(")", " )").split()
    text = ""
    for word in words:
        factor = word[0].isalnum() or word == "("
        text += (" * " if factor and text and (text[-1].isalnum() or text[-1] == ")") else " ") + word
    text = text.replace("** * 2", "** 2")
    return eval(text, {}, names)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_the_receptive_field_of_a_block(block):
    """The pixels whose change moves the output in the middle."""
    module, side = block.build(32), 9
    x = torch.rand(1, 32, side, side, requires_grad=True)
    module(x)[..., side // 2, side // 2].sum().backward()
    touched = x.grad.abs().sum(dim=(0, 1)) > 0
    rows = touched.any(dim=1).nonzero().flatten()
    assert int(rows.max() - rows.min()) + 1 == block.field


KB = 1024  # (1, 16, 4, 4) of float32


def test_the_peak_is_that_of_the_live_tensors():
    x = torch.ones(1, 16, 4, 4)
    relu, inplace = nn.ReLU(), nn.ReLU(inplace=True)
    assert peak_activation(nn.Identity(), x) == KB
    assert peak_activation(relu, x) == 2 * KB
    assert peak_activation(nn.Sequential(relu, inplace, inplace), x) == 2 * KB
    assert peak_activation(nn.Sequential(relu, relu, relu, relu), x) == 3 * KB, "only the last two and the input live"
    assert peak_activation(nn.Sequential(relu, nn.Flatten(), nn.Unflatten(1, (16, 4, 4))), x) == 2 * KB, "views"
    grow = nn.Sequential(nn.Conv2d(16, 48, 1), nn.Conv2d(48, 8, 1))
    assert peak_activation(grow, x) == KB + 3 * KB + KB // 2
    for _ in range(2):
        assert peak_activation(grow.to(torch.bfloat16), x.to(torch.bfloat16)) == (KB + 3 * KB + KB // 2) // 2


def test_weights_and_their_views_do_not_count():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(64, 64))
            self.loose = torch.ones(64, 64)  # neither parameter nor buffer

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.weight.t().view(64, 64)[:, :8] + self.loose.t()[0, :8]

    assert peak_activation(Odd(), torch.ones(2, 64)) == 4 * (2 * 64 + 2 * 2 * 8)


def test_what_is_freed_does_not_count_any_more():
    with LiveTensors() as live:
        for _ in range(5):
            torch.ones(256)
        assert live.peak == KB
        kept = [torch.ones(256) for _ in range(3)]
        assert live.peak == 3 * KB and len(kept) == 3


@pytest.mark.parametrize(
    ("name", "units"), [("standard", 2), ("pointwise", 2), ("depthwise-separable", 3), ("inverted residual", 13)]
)
def test_the_activations_of_blocks(name: str, units: int):
    """In multiples of the input: an inverted residual has the input, and twice six times as many channels."""
    (block,) = (b for b in BLOCKS if b.name == name)
    x = torch.ones(1, 32, 8, 8)
    assert peak_activation(block.build(32).eval(), x) == units * x.nbytes
