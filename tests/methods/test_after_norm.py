"""BitFit, SSF and (IA)³ after batch norm: written out, against peft, and why they are not before it."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes
from visual_decathlon.methods.layers.after_norm import ScaledNorm
from visual_decathlon.methods.layers.network import merge_for_inference
from visual_decathlon.methods.registry import select


@pytest.fixture
def source():
    torch.manual_seed(0)
    network = resnet26(3, 0.125)
    with torch.no_grad():
        for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.uniform_(-0.5, 0.5)
            norm.running_mean.uniform_(-0.5, 0.5)
            norm.running_var.uniform_(0.5, 1.5)
    return network.requires_grad_(False).eval()


def a_norm(channels: int = 6) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels).double().eval().requires_grad_(False)
    for t in (norm.weight, norm.bias, norm.running_mean):
        t.normal_()
    norm.running_var.uniform_(0.5, 2)
    return norm


@pytest.mark.parametrize(("scales", "shifts"), [(True, True), (True, False), (False, True)])
def test_the_formula_the_fold_and_the_gradient(scales: bool, shifts: bool):
    torch.manual_seed(0)
    norm = a_norm()
    adapter, x = ScaledNorm(norm, scales, shifts), torch.randn(3, 6, 5, 4, dtype=torch.float64)
    assert torch.equal(adapter(x), norm(x))
    trained = [p for p in adapter.parameters() if p.requires_grad]
    assert len(trained) == scales + shifts and not any(p.count_nonzero() for p in trained)
    with torch.no_grad():
        for p in trained:
            p.normal_()
    zero = torch.zeros(6)
    change, shift = adapter.change if scales else zero, adapter.shift if shifts else zero
    wanted = (1 + change).view(1, -1, 1, 1) * norm(x) + shift.view(1, -1, 1, 1)
    for got in (adapter.train()(x), adapter.eval()(x), adapter.merge()(x)):
        assert torch.allclose(got, wanted, rtol=1e-12, atol=1e-12)
    got, plain = (torch.autograd.grad(out.pow(3).sum(), trained) for out in (adapter(x), wanted))
    for a, b in zip(got, plain, strict=True):
        assert torch.allclose(a, b, rtol=1e-10)


@pytest.mark.parametrize("spec", ["bitfit", "ssf", "ia3"])
def test_decay_pulls_to_the_sources_network(spec, source):
    """Steps of decay alone, until nothing is left of what was learned: the features are the source's."""
    (method,) = select(spec)
    network = method.place(source, 3).eval()
    (group,) = method.groups(network, 5e-4, 1000)
    with torch.no_grad():
        for p in group["params"]:
            p.add_(0.3)
    x = torch.randn(2, 3, 16, 16)
    assert not torch.allclose(network.body(x), source.body(x), rtol=1e-2)
    optimiser = method.optimiser([group | {"weight_decay": 0.5}], 1.0, 0.0, False)
    for _ in range(30):
        for p in group["params"]:
            p.grad = torch.zeros_like(p)
        optimiser.step()
    torch.testing.assert_close(network.body(x), source.body(x))
    assert method.full_spec == f"{spec}(revision=2)"


def test_ia3_is_that_of_peft():
    """peft scales a convolution's output; with the batch norm fused into it, that is after the norm."""
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(4, 6, (3, 5), (2, 1), (1, 2), bias=False).double().requires_grad_(False), a_norm()
    reference = peft.get_peft_model(
        nn.Sequential(fuse_conv_bn_eval(conv.eval(), norm)),
        peft.IA3Config(target_modules=["0"], feedforward_modules=[]),
    )
    adapter, x = ScaledNorm(norm, True, False), torch.randn(2, 4, 9, 11, dtype=torch.float64)
    vector = reference.base_model.model[0].ia3_l["default"]
    with torch.no_grad():
        adapter.change.normal_()
        vector.copy_(1 + adapter.change.view_as(vector))
    assert torch.allclose(adapter(conv(x)), reference(x), rtol=1e-6, atol=1e-6)  # its vector is in float32
    wanted = reference.merge_and_unload()[0]
    merged = fuse_conv_bn_eval(conv, adapter.merge())
    assert torch.allclose(merged.weight, wanted.weight, rtol=1e-6, atol=1e-7)
    assert torch.allclose(merged.bias, wanted.bias, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("spec", ["bitfit", "ssf", "ia3"])
def test_statistics_and_affine_stay_the_sources(spec, source):
    """Equal to the bit, in training too; one or two tensors for each norm and the head are trained."""
    (method,) = select(spec)
    network = method.place(source, 3).train()
    trained = {n: p for n, p in network.named_parameters() if p.requires_grad and not n.startswith("head.")}
    ends = {"bitfit": {"shift"}, "ssf": {"change", "shift"}, "ia3": {"change"}}[spec]
    assert len(trained) == 26 * len(ends) and {n.rpartition(".")[2] for n in trained} == ends
    before = {n: t.clone() for n, t in source.state_dict().items()}
    optimiser = torch.optim.SGD(trained.values(), 0.1)
    x, y = torch.randn(8, 3, 16, 16), torch.arange(8) % 3
    for _ in range(2):
        F.cross_entropy(network(x), y).backward()
        optimiser.step()
    assert all(torch.equal(t, before[n]) for n, t in source.state_dict().items())
    logits = network(x).detach()
    assert torch.allclose(network.eval()(x), logits, rtol=1e-4, atol=1e-5)  # no batch statistics in it
    with torch.no_grad():
        assert torch.allclose(merge_for_inference(network)(x), logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("spec", "floats"), [("bitfit", 3_872), ("ssf", 7_744), ("ia3", 3_872)])
def test_counts_at_width_one(spec, floats):
    (method,) = select(spec)
    assert method.floats(resnet26_shapes()) == floats
    assert f"{method.multiplier(resnet26_shapes()):.2f}" == "1.01"


def test_in_front_of_a_training_batch_norm_they_would_have_no_gradient():
    """Before a batch norm they would have no effect, so this family puts them after it."""
    torch.manual_seed(0)
    x, probe = torch.randn(2, 8, 6, 9, 9, dtype=torch.float64)
    scale, shift = (torch.full((6, 1, 1), v, dtype=torch.float64, requires_grad=True) for v in (1.0, 0.0))
    norm = nn.BatchNorm2d(6).double()
    (norm(x * scale + shift) * probe).sum().backward()
    front = float(scale.grad.abs().max()), float(shift.grad.abs().max())
    scale.grad = shift.grad = None
    ((norm(x) * scale + shift) * probe).sum().backward()
    assert front[0] < 1e-3 * scale.grad.abs().max() and front[1] < 1e-10 * shift.grad.abs().max()
