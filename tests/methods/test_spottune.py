"""SpotTune: the block each image uses, the noise of training, and its count."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from visual_decathlon.benchmark.backbones.library import library_network
from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes, shapes_of
from visual_decathlon.benchmark.training.macs import conv_macs
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.layers.network import merge_for_inference, own_tensors, stored_tensors
from visual_decathlon.methods.layers.spottune import GATES, Policy, Spot, choose
from visual_decathlon.methods.registry import select
from visual_decathlon.methods.spottune import POLICY

X = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(2))
Y = torch.arange(6) % 3


@pytest.fixture
def source():
    torch.manual_seed(0)
    network = resnet26(7, 0.125)
    for _ in range(3):
        network.train()(torch.randn(8, 3, 16, 16))
    return network.requires_grad_(False).eval()


def placed(source, seed=1):
    (method,) = select("spottune")
    torch.manual_seed(seed)
    return method, method.place(source, 3)


def policy_of(network) -> Policy:
    (policy,) = (m for m in network.modules() if isinstance(m, Policy))
    return policy


def test_a_block_computes_what_each_image_chose():
    frozen, tuned = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
    spot, x = Spot(frozen, tuned), torch.randn(4, 3, 5, 6)
    GATES.put(spot, torch.tensor([1.0, 0, 0, 1]))
    got = spot(x)
    for i, chosen in enumerate((tuned, frozen, frozen, tuned)):
        assert torch.equal(got[i], chosen(x)[i])
    with pytest.raises(KeyError):
        GATES.take(spot)  # the pass has taken it


def test_at_test_the_policy_takes_the_larger_logit(source):
    """Against the plain network, block by block, one image at a time."""
    _, network = placed(source)
    with torch.no_grad():
        for name, p in network.named_parameters():
            if p.requires_grad and "policy" not in name:
                p.mul_(1.1).add_(0.02)
        policy_of(network).head.weight.normal_(std=30)
        network.eval()
        gates = policy_of(network)(X)
        logits = policy_of(network).head(policy_of(network).layers(X).mean((2, 3))).view(6, 12, 2)
        assert torch.equal(gates, (logits[:, :, 1] > logits[:, :, 0]).float())
        assert 0.05 < gates.mean() < 0.95 and gates.std(0).max() > 0  # images differ
        features = network.body(X)
        for i in range(6):
            x = network.body.stem.bn(network.body.stem.conv.conv(X[i : i + 1]))
            blocks = [network.get_submodule(path) for path in network.blocks]
            for gate, spot, path in zip(gates[i], blocks, network.blocks, strict=True):
                frozen = source.get_submodule(path)
                assert all(a is b for a, b in zip(spot.frozen.parameters(), frozen.parameters(), strict=True))
                x = spot.tuned(x) if gate else frozen(x)
            x = F.relu(network.body.norm(x)).mean((2, 3))
            assert torch.allclose(features[i], x[0], rtol=1e-5, atol=1e-6)
        assert torch.equal(network.body(X), features)  # no noise


def test_the_choice_is_hard_and_its_gradient_soft():
    torch.manual_seed(0)
    logits = torch.randn(5, 4, 2, dtype=torch.float64, requires_grad=True)
    noise, probe = torch.randn(5, 4, 2, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    hard = choose(logits, noise, 2.5)
    noisy = logits + noise
    assert torch.equal(hard, (noisy[..., 1] > noisy[..., 0]).double())
    (gradient,) = torch.autograd.grad((hard * probe).sum(), logits)

    def soft(logits):
        return (((logits + noise) / 2.5).softmax(-1)[..., 1] * probe).sum()

    for i in range(logits.numel()):
        step = torch.zeros_like(logits)
        step.view(-1)[i] = 1e-6
        difference = (soft(logits + step) - soft(logits - step)) / 2e-6
        assert gradient.view(-1)[i].item() == pytest.approx(difference.item(), abs=1e-8)


def test_the_noise_is_gumbels_and_a_function_of_the_counter():
    torch.manual_seed(0)
    policy = Policy(4, 5.0, POLICY)
    first = policy.draw.clone()
    noise = policy.noise(torch.Size((20000, 2)))
    assert policy.draw == first + 1
    assert noise.mean().item() == pytest.approx(0.5772, abs=0.02)
    assert noise.var().item() == pytest.approx(torch.pi**2 / 6, rel=0.03)
    state = torch.get_rng_state()
    again = policy.noise(torch.Size((20000, 2)))
    assert abs(torch.corrcoef(torch.stack([noise.flatten(), again.flatten()]))[0, 1]) < 0.02
    assert torch.equal(torch.get_rng_state(), state)  # the global generator is left alone
    policy.draw.copy_(first)
    assert torch.equal(policy.noise(torch.Size((20000, 2))), noise)


def test_seeds_draw_differently(source):
    draws = {int(policy_of(placed(source, seed)[1]).draw) for seed in range(4)}
    assert len(draws) == 4


def test_training_follows_both_choices(source):
    """Over many draws every image uses both copies of each block; evaluation draws nothing."""
    _, network = placed(source)
    policy = policy_of(network.train())
    taken = torch.stack([policy(X).detach() for _ in range(40)])
    assert set(taken.unique().tolist()) == {0, 1}
    assert taken.mean(0).min() > 0 and taken.mean(0).max() < 1
    before = policy.draw.clone()
    network.eval()(X)
    assert torch.equal(policy.draw, before)


def test_the_counter_is_training_state_and_not_stored(source):
    _, network = placed(source)
    own, stored = own_tensors(network, source), stored_tensors(network, source)
    assert [name for name in own if name.endswith("policy.draw")] == [name for name in own if name not in stored]
    assert own["body.stem.conv.policy.draw"] is policy_of(network).draw
    network.train()(X)
    assert own["body.stem.conv.policy.draw"] is policy_of(network).draw  # the checkpoint sees it move


def test_norms(source):
    """Norms of the tuned copies are the domain's and change, those of frozen blocks keep the source's statistics."""
    _, network = placed(source)
    network.train()
    for path in network.blocks:
        spot = network.get_submodule(path)
        frozen = [m for m in spot.frozen.modules() if isinstance(m, nn.BatchNorm2d)]
        tuned = [m for m in spot.tuned.modules() if isinstance(m, nn.BatchNorm2d)]
        assert len(frozen) == len(tuned) == 2
        assert not any(m.training for m in frozen) and all(m.training for m in tuned)
        assert not any(p.requires_grad for p in spot.frozen.parameters())
        assert all(p.requires_grad for p in spot.tuned.parameters())


def test_sites_name_what_is_trained(source):
    _, network = placed(source)
    for (site, module), frozen in zip(network.conv_sites(), source.sites, strict=True):
        conv = getattr(module, "conv", module)
        assert conv.weight.shape == source.get_submodule(frozen.conv).weight.shape and conv.weight.requires_grad
        assert network.get_submodule(site.norm).weight.requires_grad
    with pytest.raises(AttributeError, match="does not merge"):
        merge_for_inference(network)


@pytest.mark.parametrize("name", ["torchvision/resnet18", "timm/resnet50"])
def test_on_the_libraries_networks(name):
    torch.manual_seed(0)
    source = library_network(name, 7).requires_grad_(False).eval()
    (method,) = select("spottune")
    network, shapes = method.place(source, 3), shapes_of(source)
    trained = {n: p for n, p in network.named_parameters() if p.requires_grad}
    assert sum(p.numel() for p in trained.values()) == method.floats(shapes) + shapes.head(3)
    x = torch.randn(6, 3, 40, 40)
    with torch.no_grad():
        wanted = source.body(x)
        assert torch.allclose(network.eval().body(x), wanted, rtol=1e-5, atol=1e-5 * wanted.abs().max().item())
    F.cross_entropy(network.train()(x), Y).backward()
    lost = [n for n, p in trained.items() if p.grad is None]
    assert not lost


def test_cost(source):
    """Counts both copies of every block and the policy's three convolutions; the frozen copies are not stored."""
    method, network = placed(source)
    stem = conv_macs(source, 16) - 16 * 16 * 27 * 4
    policy = 8 * 8 * 27 * 16 + 4 * 4 * 9 * 16 * 32 + 2 * 2 * 9 * 32 * 64
    assert conv_macs(network, 16) == conv_macs(source, 16) + stem + policy
    shapes = resnet26_shapes(0.125)
    own = 27 * 16 + 9 * 16 * 32 + 9 * 32 * 64 + 2 * (16 + 32 + 64) + 65 * 24
    assert method.floats(shapes) == shapes.base + own == shapes.base + 25256


@pytest.mark.parametrize("temperature", [0, -1.0])
def test_options_that_mean_nothing(temperature):
    with pytest.raises(InputError, match=r"spottune\(temperature="):
        select(f"spottune(temperature={temperature})")
