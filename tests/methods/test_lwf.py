"""Learning without forgetting: its loss against the formula written out, and its training aids."""

import copy

import pytest
import torch
import torch.nn.functional as F

from visual_decathlon.benchmark.backbones.library import library_network
from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.layers.network import exported, merge_for_inference, own_tensors, restore, stored_tensors
from visual_decathlon.methods.registry import select


@pytest.fixture
def source():
    torch.manual_seed(0)
    network = resnet26(7, 0.125)
    for _ in range(3):
        network.train()(torch.randn(8, 3, 16, 16))
    return network.requires_grad_(False).eval()


def placed(spec, source):
    (method,) = select(spec)
    torch.manual_seed(1)
    return method, method.place(source, 3)


X = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(2))
Y = torch.tensor([0, 1, 2, 1])


@pytest.mark.parametrize(("weight", "temperature"), [(1.0, 2.0), (0.5, 1.0), (3.0, 5.0)])
def test_the_loss_written_out(source, weight, temperature):
    method, network = placed(f"lwf(weight={weight}, temperature={temperature})", source)
    network.train()
    with torch.no_grad():
        for p in network.parameters():
            if p.requires_grad:
                p += 0.05 * torch.randn_like(p)
    again = copy.deepcopy(network)
    loss, logits = method.loss(network, X, Y, F.cross_entropy)
    features = again.body(X)
    assert torch.equal(logits, again.head(features))
    p = (source(X) / temperature).softmax(1)
    q = (again.aids["old_head"](features) / temperature).softmax(1)
    divergence = (p * (p.log() - q.log())).sum(1).mean()
    wanted = F.cross_entropy(again.head(features), Y) + weight * divergence
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-4)
    assert divergence > 1e-3


def test_no_weight_is_finetuning(source):
    (method, network), (_, plain) = placed("lwf(weight=0)", source), placed("finetune", source)
    loss, logits = method.loss(network.eval(), X, Y, F.cross_entropy)
    wanted = plain.eval()(X)
    assert torch.equal(logits, wanted) and loss == F.cross_entropy(wanted, Y)


def test_nothing_is_forgotten_at_the_start(source):
    method, network = placed("lwf", source)
    network.eval()
    loss, logits = method.loss(network, X, Y, F.cross_entropy)
    assert loss.item() == pytest.approx(F.cross_entropy(logits, Y).item(), abs=1e-6)


def test_it_forgets_less(source):
    """After the same steps the old head on the trained features is closer to the original with the term."""

    def off(spec):
        method, network = placed(spec, source)
        network.train()
        optimiser = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 0.02, momentum=0.9)
        for _ in range(10):
            optimiser.zero_grad()
            method.loss(network, X, Y, F.cross_entropy)[0].backward()
            optimiser.step()
        with torch.no_grad():
            return (network.aids["old_head"](network.body(X)).softmax(1) - source(X).softmax(1)).abs().max()

    assert off("lwf(weight=40)") < 0.5 * off("lwf(weight=0)")


def test_the_teacher_is_the_shared_network_and_never_trains(source):
    method, network = placed("lwf", source)
    with torch.no_grad():
        wanted = source(X)
    for mode in (True, False, True):
        network.train(mode)
        assert not any(m.training for m in network.aids["teacher"].body.modules())
        method.loss(network, X, Y, F.cross_entropy)[0].backward()
        with torch.no_grad():
            assert torch.equal(network.aids["teacher"](X), wanted)
    for mine, original in zip(network.aids["teacher"].parameters(), source.parameters(), strict=True):
        assert mine is original and mine.grad is None


def test_aids_are_resumed_and_not_stored(source):
    _, network = placed("lwf", source)
    own, stored = own_tensors(network, source), stored_tensors(network, source)
    assert {name for name in own if name.startswith("aids.")} == {"aids.old_head.weight", "aids.old_head.bias"}
    assert stored.keys() == own.keys() - {"aids.old_head.weight", "aids.old_head.bias"}
    assert stored.keys() == {n for n, _ in source.state_dict().items()}
    assert torch.equal(network.aids["old_head"].weight, source.head.weight)
    fresh = placed("lwf", source)[1]
    assert restore(fresh, source, {name: t + 1 for name, t in stored.items()}) == ""
    assert torch.equal(fresh.head.weight, network.head.weight + 1)
    assert torch.equal(fresh.aids["old_head"].weight, source.head.weight)


def test_merged_it_is_a_bare_network(source):
    _, network = placed("lwf", source)
    network.eval()
    out = merge_for_inference(network)
    assert not len(out.aids) and len(network.aids) == 2
    with torch.no_grad():
        assert torch.allclose(out(X), network(X), rtol=1e-4, atol=1e-5)
    assert {name for name in exported(network) if not name.startswith("fc.")} == source.body.state_dict().keys()


@pytest.mark.parametrize("name", ["torchvision/resnet18", "timm/resnet18"])
def test_on_the_libraries_networks(name):
    torch.manual_seed(0)
    source = library_network(name, 7).requires_grad_(False).eval()
    method, network = placed("lwf", source)
    loss, _ = method.loss(network.train(), torch.randn(4, 3, 40, 40), Y, F.cross_entropy)
    loss.backward()
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)
    assert all(p.grad is None for p in source.parameters())


@pytest.mark.parametrize("spec", ["lwf(weight=-1)", "lwf(temperature=0)", "lwf(temperature=-2)"])
def test_options_that_mean_nothing(spec):
    with pytest.raises(InputError, match=r"lwf\((weight|temperature)="):
        select(spec)
