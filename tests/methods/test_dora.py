"""DoRA against HF PEFT and finite differences; before a batch norm in training mode it is LoRA."""

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call

from tests.adapters import GEOMETRIES
from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.dora import Dora
from visual_decathlon.methods.low_rank import Lora
from visual_decathlon.methods.shapes import ConvShape


def moved(geometry, dtype=torch.float32):
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 12, **geometry, dtype=dtype).requires_grad_(False)
    layer = Dora(4, 6.0).layer(conv)
    nn.init.normal_(layer.up, std=0.3)
    nn.init.uniform_(layer.magnitude, 0.5, 2)
    return conv, layer


def test_weight_is_pefts_and_a_plain_loops():
    peft = pytest.importorskip("peft")
    for geometry in GEOMETRIES:
        conv, layer = moved(geometry)
        v = conv.weight + 1.5 * (layer.up @ layer.down).view_as(conv.weight)
        loop = torch.stack([m * f / f.flatten().norm() for m, f in zip(layer.magnitude, v, strict=True)])
        torch.testing.assert_close(layer.adapted_weight(), loop, rtol=1e-6, atol=1e-6)
        if conv.groups > 1:  # there HF PEFT has B per group
            continue
        config = peft.LoraConfig(r=4, lora_alpha=6, target_modules=["0"], use_dora=True)
        reference = peft.get_peft_model(nn.Sequential(copy.deepcopy(conv)), config).base_model.model[0]
        with torch.no_grad():
            start = reference.lora_magnitude_vector["default"].weight.flatten()
            torch.testing.assert_close(start, Dora(4).layer(conv).magnitude)
            reference.lora_A["default"].weight.copy_(layer.down.view(4, *conv.weight.shape[1:]))
            reference.lora_B["default"].weight.copy_(layer.up[:, :, None, None])
            start.copy_(layer.magnitude)
            reference.merge()
            torch.testing.assert_close(layer.adapted_weight(), reference.get_base_layer().weight, rtol=1e-6, atol=1e-6)


def test_gradients_are_finite_differences():
    for geometry in GEOMETRIES:
        _, layer = moved(geometry, torch.float64)
        x = torch.randn(2, 8, 6, 7, dtype=torch.float64)
        names, values = zip(*((n, p) for n, p in layer.named_parameters() if p.requires_grad), strict=True)
        assert {"up", "down", "magnitude"} == set(names)
        assert torch.autograd.gradcheck(
            lambda *values, layer=layer, x=x, names=names: functional_call(layer, dict(zip(names, values)), (x,)),
            values,
            fast_mode=True,
        )


def test_merged_is_unmerged():
    for geometry in GEOMETRIES:
        conv, layer = moved(geometry)
        before, x = conv.weight.clone(), torch.randn(2, 8, 9, 11)
        torch.testing.assert_close(layer.merge()(x), layer(x))
        assert torch.equal(conv.weight, before) and layer.merge().weight.data_ptr() != conv.weight.data_ptr()


def test_the_start_is_the_identity_also_of_a_filter_of_zeros():
    conv = nn.Conv2d(8, 12, 3).requires_grad_(False)
    with torch.no_grad():
        conv.weight[3] = 0
    layer = Dora().layer(conv)
    assert torch.equal(layer.adapted_weight(), conv.weight)
    layer(torch.randn(2, 8, 5, 5)).square().sum().backward()
    assert all(p.grad.isfinite().all() for p in (layer.up, layer.down, layer.magnitude))


def test_before_a_batch_norm_it_is_lora():
    """Thirty steps: the same B, and a magnitude whose gradient is suppressed but above rounding."""
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 12, 3, padding=1, bias=False).requires_grad_(False)
    nn.init.normal_(conv.weight, std=9e-2)
    x, y = torch.randn(16, 8, 8, 8), torch.randn(16, 12, 8, 8)
    layers = []
    for method in (Lora(), Dora()):
        torch.manual_seed(1)
        layers.append(method.layer(conv))
    for layer in layers:
        model = nn.Sequential(layer, nn.BatchNorm2d(12))
        optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1, momentum=0.9)
        for _ in range(30):
            optimiser.zero_grad()
            (model(x) - y).square().mean().backward()
            optimiser.step()
    lora, dora = layers
    ratio = dora.magnitude.grad.abs().max() / dora.up.grad.abs().max()
    assert 1e-8 < ratio < 1e-3
    assert float((dora.up - lora.up).detach().abs().max() / lora.up.detach().abs().max()) < 1e-3


def test_counts():
    shapes = resnet26_shapes()
    assert f"{Dora().multiplier(shapes):.2f}" == "1.44"
    assert Dora().floats(shapes) == Lora().floats(shapes) + sum(c.cout for c in shapes.convs)
    conv = nn.Conv2d(8, 12, 1, groups=4, bias=False)
    layer = Dora(8).layer(conv)
    assert layer.up.numel() + layer.down.numel() + layer.magnitude.numel() == Dora(8).new_floats(ConvShape.of(conv))
    assert Dora(8).rank_at(ConvShape.of(conv)) == 2
    network = Dora().place(resnet26(3, 0.25), 5)
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == Dora().floats(
        resnet26_shapes(0.25)
    ) + resnet26_shapes(0.25).head(5)


def test_what_fits_nowhere_is_refused():
    with pytest.raises(InputError, match=r"dora\(rank=300\): the rank is larger than every matrix"):
        Dora(rank=300).check(resnet26_shapes())
    with pytest.raises(InputError, match=r"dora\(alpha=-1.0\): alpha must be above 0"):
        Dora(alpha=-1.0)
