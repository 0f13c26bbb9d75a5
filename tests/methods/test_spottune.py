"""SpotTune: the block each image uses, the noise of training, and its count."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from visual_decathlon.benchmark.backbones.library import library_network
from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes
from visual_decathlon.benchmark.backbones.structure import shapes_of
from visual_decathlon.benchmark.training.macs import conv_macs
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.layers.network import merge_for_inference, own_tensors, stored_tensors
from visual_decathlon.methods.layers.spottune import GATES, Policy, PolicyBlock, Spot, choose, policy_of
from visual_decathlon.methods.registry import select
from visual_decathlon.methods.spottune import policy_widths

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


def test_a_block_computes_what_each_image_chose():
    frozen, tuned = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
    spot, x = Spot(frozen, tuned), torch.randn(4, 3, 5, 6)
    GATES.put(spot, torch.tensor([1.0, 0, 0, 1]))
    got = spot(x)
    for i, chosen in enumerate((tuned, frozen, frozen, tuned)):
        assert torch.equal(got[i], chosen(x)[i])
    with pytest.raises(KeyError):
        GATES.take(spot)  # the pass has taken it


def test_the_policy_is_a_resnet():
    """A convolution and three blocks with the shortcut of the decathlon's ResNet, written out with its functions."""
    torch.manual_seed(0)
    policy = Policy(5, 5.0, (4, 8, 16, 32)).double().eval()
    with torch.no_grad():
        for norm in (m for m in policy.modules() if isinstance(m, nn.BatchNorm2d)):
            for t, low, high in ((norm.weight, 0.5, 1.5), (norm.bias, -1, 1), (norm.running_var, 0.5, 2)):
                t.uniform_(low, high)
        x = images = torch.randn(3, 3, 16, 24, dtype=torch.float64)
        x = policy.bn(F.conv2d(x, policy.conv.weight, padding=1))
        for block in policy.blocks:
            y = block.bn1(F.conv2d(x, block.conv1.weight, stride=2, padding=1)).clamp(min=0)
            y = block.bn2(F.conv2d(y, block.conv2.weight, padding=1))
            y[:, : x.shape[1]] += F.interpolate(x, scale_factor=0.5, mode="area")
            x = y.clamp(min=0)
        wanted = policy.norm(x).clamp(min=0).mean((2, 3)) @ policy.head.weight.T + policy.head.bias
        torch.testing.assert_close(policy.logits(images).flatten(1).double(), wanted, rtol=1e-5, atol=1e-5)
        odd = PolicyBlock(4).eval()(torch.randn(1, 4, 9, 7))
        assert odd.shape == (1, 8, 5, 4)


def test_at_test_the_policy_takes_the_larger_logit(source):
    """Against the plain network, block by block, one image at a time; frozen blocks have norms of their own."""
    _, network = placed(source)
    with torch.no_grad():
        for name, p in network.named_parameters():
            if p.requires_grad and "policy" not in name:
                p.mul_(1.1).add_(0.02)
        network.train()(torch.randn(8, 3, 16, 16))  # statistics of their own too
        policy_of(network).head.weight.normal_(std=30)
        network.eval()
        gates = policy_of(network)(X)
        logits = policy_of(network).logits(X)
        assert torch.equal(gates, (logits[:, :, 1] > logits[:, :, 0]).float())
        assert 0.05 < gates.mean() < 0.95 and gates.std(0).max() > 0  # images differ
        features = network.body(X)
        for i in range(6):
            x = network.body.stem.bn(network.body.stem.conv.conv(X[i : i + 1]))
            blocks = [network.get_submodule(path) for path in network.blocks]
            for gate, spot, path in zip(gates[i], blocks, network.blocks, strict=True):
                frozen = source.get_submodule(path)
                for unit in ("unit1", "unit2"):
                    mine, theirs = spot.frozen.get_submodule(unit), frozen.get_submodule(unit)
                    assert mine.conv.weight is theirs.conv.weight
                    assert not torch.equal(mine.bn.running_mean, theirs.bn.running_mean)
                x = spot.tuned(x) if gate else spot.frozen(x)
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


def test_seeds_draw_differently(source):
    draws = {int(policy_of(placed(source, seed)[1]).noise.drawn) for seed in range(4)}
    assert len(draws) == 4


def test_training_follows_both_choices(source):
    """Over many draws every image uses both copies of each block; evaluation draws nothing."""
    _, network = placed(source)
    policy = policy_of(network.train())
    taken = torch.stack([policy(X).detach() for _ in range(40)])
    assert set(taken.unique().tolist()) == {0, 1}
    assert taken.mean(0).min() > 0 and taken.mean(0).max() < 1
    before = policy.noise.drawn.clone()
    network.eval()(X)
    assert torch.equal(policy.noise.drawn, before)


def test_the_counter_is_training_state_and_not_stored(source):
    _, network = placed(source)
    own, stored = own_tensors(network, source), stored_tensors(network, source)
    assert [name for name in own if name not in stored] == ["body.stem.conv.policy.noise.drawn"]
    counter = own["body.stem.conv.policy.noise.drawn"]
    before = counter.clone()
    network.train()(X)
    assert counter is policy_of(network).noise.drawn  # the checkpoint sees it move
    assert counter == before + len(X) * 12 * 2


def test_norms(source):
    """Norms of both copies are the domain's and trained; of the frozen one, only the convolutions are the source's."""
    _, network = placed(source)
    network.train()
    for path in network.blocks:
        spot = network.get_submodule(path)
        for copy in (spot.frozen, spot.tuned):
            norms = [m for m in copy.modules() if isinstance(m, nn.BatchNorm2d)]
            assert len(norms) == 2 and all(m.training and m.weight.requires_grad for m in norms)
        frozen, tuned = (dict(copy.named_parameters()) for copy in (spot.frozen, spot.tuned))
        assert {name for name, p in frozen.items() if not p.requires_grad} == {"unit1.conv.weight", "unit2.conv.weight"}
        assert all(p.requires_grad for p in tuned.values())
        assert not {id(p) for p in frozen.values()} & {id(p) for p in tuned.values()}


def test_the_policy_has_a_tenth_of_the_rate_and_its_own_decay(source):
    method, network = placed(source)
    rest, policy = method.groups(network, 5e-4, 1000)
    assert {id(p) for p in policy["params"]} == {id(p) for p in policy_of(network).parameters()}
    assert (policy["scale"], policy["weight_decay"], rest["weight_decay"]) == (0.1, 1e-3, 5e-4) and "scale" not in rest


def test_after_training_images_still_use_both_copies(source):
    """Some blocks are frozen for some images: it is not fine-tuning."""
    method, network = placed(source)
    generator = torch.Generator().manual_seed(4)
    y = torch.arange(24) % 3
    x = torch.randn(24, 3, 16, 16, generator=generator) + y.view(-1, 1, 1, 1) - 1
    optimiser = method.optimiser(method.groups(network.train(), 5e-4, 24), 0.05, 0.9, True)
    for group in optimiser.param_groups:
        group["lr"] = 0.05 * group.get("scale", 1.0)
    for _ in range(30):
        optimiser.zero_grad()
        loss, _ = method.loss(network, x, y, F.cross_entropy)
        loss.backward()
        optimiser.step()
    gates = policy_of(network.eval())(x)
    assert loss < 0.5 and 0.1 < gates.mean() < 0.9


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
    """Counts both copies of every block and the policy; of the frozen copies only the norms are stored."""
    method, network = placed(source)
    stem = conv_macs(source, 16) - 16 * 16 * 27 * 4
    policy = 16 * 16 * 27 * 4 + sum((16 >> b) ** 2 * 9 * (4 << b) * ((4 << b) + (4 << b) // 2) for b in (1, 2, 3))
    assert conv_macs(network, 16) == conv_macs(source, 16) + stem + policy
    shapes = resnet26_shapes(0.125)
    own = 27 * 4 + sum(9 * c * (c // 2 + c) for c in (8, 16, 32)) + 2 * (4 + 2 * (8 + 16 + 32) + 32) + 33 * 24
    assert method.floats(shapes) == shapes.base + own + 8 * 2 * (8 + 16 + 32)


def test_count_is_the_releases():
    """Its network has 2 x 7,168 floats of norms in blocks; its policy a stem, three blocks, a last norm, 24 logits."""
    (method,) = select("spottune")
    shapes = resnet26_shapes()
    convs = 27 * 32 + 9 * (32 * 64 + 64 * 64 + 64 * 128 + 128 * 128 + 128 * 256 + 256 * 256)
    policy = convs + 2 * (32 + 64 + 64 + 128 + 128 + 256 + 256 + 256) + 257 * 24
    assert policy == 1_170_616 and method.floats(shapes) == 5_814_688 + 7_168 + policy
    assert f"{method.multiplier(shapes):.2f}" == "11.82"
    assert policy_widths(64) == policy_widths(32) == (32, 64, 128, 256) and policy_widths(8) == (8, 16, 32, 64)


@pytest.mark.parametrize("temperature", [0, -1.0])
def test_options_that_mean_nothing(temperature):
    with pytest.raises(InputError, match=r"spottune\(temperature="):
        select(f"spottune(temperature={temperature})")
