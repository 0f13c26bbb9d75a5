"""DTL: the side maps computed in a second way, no graph in the first half, and what a pass leaves behind."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.layers import dtl
from visual_decathlon.methods.layers.network import share
from visual_decathlon.methods.registry import select
from visual_decathlon.methods.shapes import Shapes


def placed(options: str = "", source=None):
    torch.manual_seed(1)
    source = source or resnet26(3, 0.25)
    source.requires_grad_(False).eval()
    network = select(f"dtl({options})")[0].place(source, 4).eval()
    with torch.no_grad():
        for name, p in network.named_parameters():
            if p.requires_grad:
                p.normal_(std=0.3)
            late = any(f"stages.{s}.{b}." in name for s, b in [(1, 3), (2, 0), (2, 1), (2, 2), (2, 3)])
            own = ".side." in name or "head" in name or "body.norm" in name or (late and ".bn." in name)
            assert p.requires_grad == own, name
    return source, network


@pytest.mark.parametrize("kernel", [0, 5])
def test_the_side_maps_in_a_second_way(kernel):
    """Blocks one by one without hooks, sums by einsum over a list of what was read; sides of 40 x 24 pixels."""
    source, network = placed(f"kernel={kernel}")
    plain = share(network).eval()
    for module in plain.modules():
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
    x = torch.randn(2, 3, 40, 24)
    h, index = plain.body.stem(x), 0
    for stage in plain.body.stages:
        total = 0
        for block in stage:
            read, h = h, block(h)
            if index >= 4:
                u, d = block.side.up.weight[:, :, 0, 0], block.side.down.weight[:, :, 0, 0]
                if index in (4, 8):
                    read = read.unflatten(3, (-1, 2)).mean(4).unflatten(2, (-1, 2)).mean(3)
                total = total + torch.einsum("or,rc,nchw->nohw", u, d, read)
            if index >= 6:
                added = total / (1 + torch.exp(-100 * total))
                if kernel:
                    mixes = stage[0].side.mix.weight.split(1)
                    each = [F.conv2d(a, mix, padding=2) for a, mix in zip(added.split(1, 1), mixes, strict=True)]
                    added = torch.cat(each, 1)
                h = h + added
            index += 1
    features = F.relu(plain.body.norm(h)).mean((2, 3))
    torch.testing.assert_close(network.body(x), features, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(features, source.body(x), atol=0.1)


def test_no_gradient_in_the_first_half():
    """Outputs of the first six blocks have no graph, though what is read of two of them has; all others have one."""
    _, network = placed()
    network.train()
    has_graph = {}
    for block in network.blocks:
        network.get_submodule(block).unit2.register_forward_hook(
            lambda module, args, y, block=block: has_graph.update({block: y.requires_grad})
        )
    network(torch.randn(4, 3, 32, 32)).sum().backward()
    assert list(has_graph.values()) == [False] * 7 + [True] * 5  # the seventh adds behind itself
    for name, p in network.named_parameters():
        assert (p.grad is not None and bool(p.grad.any())) == p.requires_grad, name


def test_batch_norm_before_the_first_addition_keeps_the_source_s_statistics():
    source, network = placed()
    before = {name: t.clone() for name, t in source.state_dict().items()}
    network.train()(torch.randn(4, 3, 32, 32))
    assert all(torch.equal(t, before[name]) for name, t in source.state_dict().items())
    own = [name for name, m in network.named_modules() if isinstance(m, nn.BatchNorm2d) and m.training]
    assert len(own) == 2 * 5 + 1 and own[0] == "body.stages.1.3.unit1.bn" and own[-1] == "body.norm"


def test_a_pass_leaves_nothing_behind_and_threads_do_not_meet():
    _, network = placed("kernel=3")
    images = [torch.randn(2, 3, 32, 32) for _ in range(8)]
    expected = [network(x) for x in images]
    assert dtl._RUNNING.read is dtl._RUNNING.total is dtl._RUNNING.mix is None
    with ThreadPoolExecutor(4) as pool:
        for y, alone in zip(pool.map(network, images * 4), expected * 4, strict=True):
            torch.testing.assert_close(y, alone)


def test_counts():
    """At width 1 by hand: eight blocks of two stages, eleven norms, two depthwise kernels."""
    maps = 4 * ((64 + 128) + 3 * 256 + (128 + 256) + 3 * 512)
    norms = 2 * (2 * 128 + 8 * 256 + 256)
    (method,), (plus,) = select("dtl"), select("dtl(kernel=5)")
    assert method.floats(resnet26_shapes()) == maps + norms == 16_640
    assert plus.floats(resnet26_shapes()) == maps + norms + 25 * (128 + 256)
    assert f"{method.multiplier(resnet26_shapes()):.2f}, {plus.multiplier(resnet26_shapes()):.2f}" == "1.03, 1.04"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("rank=0", "rank must be 1 or more"),
        ("kernel=-1", "odd"),
        ("kernel=4", "odd"),
        ("kernel=33", "at most 31"),
        ("rank=1.5", "of type int"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(InputError, match=message):
        select(f"dtl({options})")


def test_backbones_that_do_not_fit():
    with pytest.raises(InputError, match="widest block has 64 channels"):
        select("dtl(rank=65)")[0].check(resnet26_shapes(0.25))
    with pytest.raises(InputError, match="has none"):
        select("dtl")[0].check(Shapes((), (), 8))
