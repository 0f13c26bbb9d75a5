"""Ladder side-tuning: the side network computed in a second way, and no graph in the frozen one."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.layers.lst import SideBlock, gated
from visual_decathlon.methods.registry import select
from visual_decathlon.methods.shapes import Shapes


def placed(options: str = "", source=None):
    torch.manual_seed(1)
    source = source or resnet26(3, 0.25)
    source.requires_grad_(False).eval()
    network = select(f"lst({options})")[0].place(source, 4).eval()
    with torch.no_grad():
        for name, p in network.named_parameters():
            if p.requires_grad:
                p.normal_(std=0.3)
            assert p.requires_grad == ("trunk" not in name), name
    return source, network


def test_the_side_network_in_a_second_way():
    """Maps by walking through the blocks, laterals by einsum, gates and norms by hand; sides of 40 x 24 pixels."""
    source, network = placed()
    x, side = torch.randn(2, 3, 40, 24), network.body
    h = source.body.stem(x)
    maps = [h] + [h := block(h) for stage in source.body.stages for block in stage]
    assert len(maps) == len(side.laterals) == 13

    def normed(norm: nn.BatchNorm2d, s: torch.Tensor) -> torch.Tensor:
        mean, var, weight, bias = (
            t[:, None, None] for t in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
        )
        return ((s - mean) / (var + norm.eps).sqrt() * weight + bias).clamp_min(0)

    def read(i: int) -> torch.Tensor:
        return torch.einsum("nchx,wc->nwhx", maps[i], side.laterals[i].weight[:, :, 0, 0])

    s = read(0)
    for i, step in enumerate(side.steps, 1):
        if maps[i].shape[2:] != s.shape[2:]:
            s = s.unflatten(3, (-1, 2)).mean(4).unflatten(2, (-1, 2)).mean(3)
        patches = F.unfold(normed(step.norm, s), 3, padding=1)
        y = (step.conv.weight.flatten(1) @ patches).view(len(x), -1, *s.shape[2:])
        y = y + s if y.shape == s.shape else y
        mu = 1 / (1 + torch.exp(-10 * side.gates[i - 1]))
        s = mu * y + (1 - mu) * read(i)
    features = source.body(x) + normed(side.norm, s).mean((2, 3)) @ side.up.weight.t()
    torch.testing.assert_close(network.body(x), features, rtol=1e-4, atol=1e-4)


def test_gates():
    side, lateral = torch.ones(2, 3), torch.zeros(2, 3)
    assert torch.equal(gated(torch.tensor(0.0), side, lateral), torch.full((2, 3), 0.5))
    assert torch.allclose(gated(torch.tensor(0.1), side, lateral), torch.sigmoid(torch.tensor(1.0)).expand(2, 3))


def test_a_step_averages_odd_sides_to_those_of_a_strided_block():
    s = torch.randn(1, 4, 7, 5)
    assert SideBlock(4, 6)(s, torch.Size((4, 3))).shape == (1, 6, 4, 3)
    assert SideBlock(4, 4)(s, torch.Size((7, 5))).shape == s.shape


def test_the_frozen_network_keeps_no_graph():
    """No output of a frozen module has a graph, even of images that require gradients; no frozen weight is held."""
    source, network = placed()
    network.train()
    kept, made, x = [], [], torch.randn(4, 3, 32, 32, requires_grad=True)
    for module in network.body.trunk.modules():
        module.register_forward_hook(lambda module, args, y: made.append(y))
        assert not module.training or not isinstance(module, nn.BatchNorm2d)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        loss = F.cross_entropy(network(x), torch.arange(4))
    tensors = [t for y in made for t in (y if isinstance(y, tuple) else (y,)) if isinstance(t, torch.Tensor)]
    assert len(tensors) > 80 and not any(t.requires_grad for t in tensors)
    weights = {t.data_ptr() for t in source.state_dict().values()}
    assert kept and not weights & {t.data_ptr() for t in kept}
    loss.backward()
    assert x.grad is None and all((p.grad is not None) == p.requires_grad for p in network.parameters())


def test_it_holds_less_than_a_method_that_adapts_the_network():
    """Bytes of the tensors that are saved for the backward pass, each storage once: under half of par_adapter."""

    def held(spec: str) -> int:
        source = resnet26(3, 0.25).requires_grad_(False).eval()
        network, kept = select(spec)[0].place(source, 4).train(), {}

        def keep(t: torch.Tensor) -> torch.Tensor:
            kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
            loss = network(torch.randn(4, 3, 32, 32)).sum()
        return sum(kept.values()) if loss.requires_grad else 0

    assert 0 < held("lst") < 0.5 * held("par_adapter")


def test_counts():
    """13 laterals, 12 steps and U at width 1, by hand."""
    c = [32] + [64] * 4 + [128] * 4 + [256] * 4
    w = [n // 4 for n in c]
    laterals = sum(a * b for a, b in zip(c, w, strict=True))
    steps = sum(9 * w[i] * w[i + 1] + 2 * w[i] + 1 for i in range(12))
    (method,) = select("lst")
    assert method.floats(resnet26_shapes()) == laterals + steps + 64 * (2 + 256) == 272_924
    assert f"{method.multiplier(resnet26_shapes()):.2f}" == "1.42"


@pytest.mark.parametrize(("options", "message"), [("reduction=0", "1 or more"), ("reduction=0.5", "of type int")])
def test_wrong_options(options, message):
    with pytest.raises(InputError, match=message):
        select(f"lst({options})")


def test_backbones_that_do_not_fit():
    with pytest.raises(InputError, match="widest block has 64 channels"):
        select("lst(reduction=65)")[0].check(resnet26_shapes(0.25))
    with pytest.raises(InputError, match="has none"):
        select("lst")[0].check(Shapes((), (), 8))
