"""AdaLoRA against HF PEFT: ΔW, penalty, schedule and the triplets that its allocator keeps."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from tests.adapters import GEOMETRIES
from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.adalora import FINAL, WARM, AdaLora
from visual_decathlon.methods.layers.adalora import Importance, penalty, svd_convs
from visual_decathlon.methods.layers.network import own_tensors, stored_tensors

STEPS = 40


def moved(geometry, dtype=torch.float32):
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 12, **geometry, dtype=dtype).requires_grad_(False)
    layer = AdaLora(4, 2, 6.0).layer(conv)
    for p in (layer.left, layer.values, layer.right):
        nn.init.normal_(p)
    return conv, layer


def pefts(modules, method, **options):
    peft = pytest.importorskip("peft")
    config = peft.AdaLoraConfig(
        init_r=method.rank, target_r=method.target, lora_alpha=method.alpha, orth_reg_weight=method.gamma,
        tinit=int(WARM * STEPS), tfinal=int(FINAL * STEPS), deltaT=method.interval, total_step=STEPS,
        target_modules=[str(i) for i in range(len(modules))], **options,
    )  # fmt: skip
    return peft.get_peft_model(nn.Sequential(*modules), config).base_model


@torch.no_grad()
def copy_to(reference, layer):
    reference.lora_A["default"].copy_(layer.right)
    reference.lora_B["default"].copy_(layer.left)
    reference.lora_E["default"].copy_(layer.values[:, None])


def test_delta_is_pefts():
    for geometry in GEOMETRIES:
        conv, layer = moved(geometry)
        delta = (layer.adapted_weight() - conv.weight).detach()
        plain = 1.5 * layer.left @ torch.diag(layer.values) @ layer.right
        torch.testing.assert_close(delta, plain.view_as(delta), rtol=1e-5, atol=1e-5)
        if conv.groups == 1:
            reference = pefts([conv], AdaLora(4, 2, 6.0)).model[0]
            copy_to(reference, layer)
            # HF PEFT divides by rank + 1e-5
            wanted = reference.get_delta_weight("default") * (4 + 1e-5) / 4
            torch.testing.assert_close(delta, wanted.detach(), rtol=1e-6, atol=2e-6)


def test_gradients_are_finite_differences():
    for geometry in GEOMETRIES:
        _, layer = moved(geometry, torch.float64)
        x = torch.randn(2, 8, 6, 7, dtype=torch.float64)
        torch.testing.assert_close(layer.merge()(x), layer(x))
        names = ("left", "values", "right")
        assert torch.autograd.gradcheck(
            lambda *values, layer=layer, x=x, names=names: functional_call(layer, dict(zip(names, values)), (x,)),
            (layer.left, layer.values, layer.right),
            fast_mode=True,
        )


@pytest.mark.parametrize("geometry", GEOMETRIES[:4], ids=str)
def test_beside_the_convolution_it_is_the_same(geometry):
    _, layer = moved(geometry, torch.float64)
    x, result = torch.randn(2, 8, 9, 11, dtype=torch.float64), []
    for factored in (False, True):
        layer.factored_path = factored
        y = layer(x)
        result.append((y, torch.autograd.grad(y.square().sum(), (layer.left, layer.values, layer.right))))
    torch.testing.assert_close(*result, rtol=1e-10, atol=1e-8)
    assert (
        AdaLora().layer(nn.Conv2d(256, 256, 3).requires_grad_(False)).factored_path
        and not moved(geometry)[1].factored_path
    )


def test_the_allocator_is_pefts():
    """With the same values and gradients at every step, importance and the Λ set to zero are the same."""
    pytest.importorskip("peft")
    from peft.tuners.adalora.layer import RankAllocator

    torch.manual_seed(0)
    method = AdaLora(4, 2, 4.0, interval=3)
    convs = [nn.Conv2d(8, 12, 3), nn.Conv2d(8, 8, 1), nn.Conv2d(6, 16, (1, 3))]
    network = nn.Sequential(*map(method.layer, convs))
    network.aids = {"importance": [Importance(conv) for conv in network]}
    reference = pefts(convs, method)
    allocator = RankAllocator(reference.model, reference.peft_config["default"], "default")
    kept = []
    for step in range(1, STEPS + 1):
        for mine, other in zip(network, reference.model, strict=True):
            with torch.no_grad():
                for p in (mine.left, mine.values, mine.right):
                    p.add_(0.1 * torch.randn_like(p) * torch.rand(()))
            copy_to(other, mine)
            for p in (mine.left, mine.values, mine.right):
                p.grad = torch.randn_like(p)
            other.lora_A["default"].grad = mine.right.grad
            other.lora_B["default"].grad = mine.left.grad
            other.lora_E["default"].grad = mine.values.grad[:, None]
        method.after_step(network, step, STEPS)
        budget, allowed = allocator.budget_schedule(step)
        assert method.budget(step, STEPS, 12, 6) == budget
        if step < STEPS - int(FINAL * STEPS):
            allocator.update_ipt(reference.model)
        if allowed and budget < 12:  # it cannot keep all
            allocator.mask_to_budget(reference.model, budget)
        for mine, other in zip(network, reference.model, strict=True):
            assert torch.equal(mine.values, other.lora_E["default"].flatten()), step
        kept.append(sum(int((m.values != 0).sum()) for m in network))
    assert kept[0] == 12 and 6 < kept[8] < kept[5] < 12 and set(kept[-int(FINAL * STEPS) :]) == {6}


def test_the_penalty():
    torch.manual_seed(0)
    convs = [AdaLora(4, 2).layer(nn.Conv2d(8, 12, 3)) for _ in range(2)]
    assert float(penalty(convs).detach()) < 1e-9
    with torch.no_grad():
        for conv in convs:
            conv.left.normal_()
            conv.right.normal_()
    one = torch.eye(4)
    wanted = sum(torch.norm(a - one, p="fro") ** 2 for c in convs for a in (c.left.t() @ c.left, c.right @ c.right.t()))
    torch.testing.assert_close(penalty(convs), wanted)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(penalty(convs), penalty(convs).float()) and penalty(convs).dtype == torch.float32


def test_trained_it_ends_at_its_budget():
    """Half of the triplets are zero, not equally many in each convolution; the running means are not stored."""
    torch.manual_seed(0)
    source = resnet26(3, 0.25).requires_grad_(False)
    method = AdaLora(4, 2, 4.0, interval=2)
    network = method.place(source, 5).train()
    x, y = torch.randn(8, 3, 16, 16), torch.arange(8) % 5
    optimiser = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 0.05, momentum=0.9)
    for step in range(1, 13):
        loss, logits = method.loss(network, x, y, F.cross_entropy)
        assert float(loss.detach()) >= float(F.cross_entropy(logits, y).detach())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        method.after_step(network, step, 12)
    convs = svd_convs(network)
    assert sum(int((c.values != 0).sum()) for c in convs) == 2 * len(convs) == 50
    assert len({int((c.values != 0).sum()) for c in convs}) > 1
    own, stored = own_tensors(network, source), stored_tensors(network, source)
    means = {name for name in own if name.endswith(("_size", "_unrest"))}
    assert len(means) == 6 * len(convs) and own.keys() - stored.keys() == means
    assert all(own[name].abs().sum() > 0 for name in means)


def test_counts():
    shapes = resnet26_shapes()
    assert f"{AdaLora().multiplier(shapes):.2f}" == "1.64"
    assert AdaLora().floats(shapes) == shapes.affine + 12 * sum(c.cout + c.fan_in + 1 for c in shapes.convs)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: AdaLora(target=13), r"adalora\(rank=12, target=13\): target must be at most rank"),
        (lambda: AdaLora(target=0), r"adalora\(target=0\): target must be above 0"),
        (lambda: AdaLora(interval=0), r"adalora\(interval=0\): interval must be above 0"),
        (lambda: AdaLora(gamma=-0.1), r"adalora\(gamma=-0.1\): gamma must be 0 or more"),
        (lambda: AdaLora(rank=300), r"adalora\(rank=300\): the rank is larger than every matrix"),
    ],
)
def test_what_fits_nowhere_is_refused(make, words):
    with pytest.raises(InputError, match=words):
        make().check(resnet26_shapes())
