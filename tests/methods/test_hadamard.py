"""LoHa, LoKr and HiRA against HF PEFT and finite differences; their shapes and counts."""

import pytest
import torch
from torch import nn
from torch.func import functional_call

from tests.adapters import GEOMETRIES, geometries, moved_adapter
from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.hadamard import HiRA, LoHa, LoKr, two_factors
from visual_decathlon.methods.shapes import ConvShape

FAMILY = [LoHa(3, 6.0), LoKr(2, 3.0), LoKr(8, 4.0), LoKr(1, 2.0, 4), HiRA(3)]
families = pytest.mark.parametrize("method", FAMILY, ids=lambda method: method.full_spec)


def moved(method, geometry, dtype=torch.float32):
    return moved_adapter(method, geometry, 16, 24, dtype, std=0.3)


@families
@geometries
def test_delta_is_pefts(method, geometry):
    peft = pytest.importorskip("peft")
    conv, layer, own = moved(method, geometry)
    if isinstance(method, HiRA):
        plain = (own["up"] @ own["down"]).view_as(conv.weight) * conv.weight
        torch.testing.assert_close(layer.adapted_weight() - conv.weight, plain, rtol=1e-5, atol=1e-6)
        if conv.groups > 1:  # HF PEFT refuses them
            return
        config = peft.HiraConfig(r=method.rank, target_modules=["0"])
    elif isinstance(method, LoHa):
        config = peft.LoHaConfig(r=method.rank, alpha=method.alpha, target_modules=["0"])
    else:
        config = peft.LoKrConfig(
            r=method.rank, alpha=method.alpha, decompose_factor=method.factor, target_modules=["0"]
        )
    reference = peft.get_peft_model(nn.Sequential(conv), config).base_model.model[0]
    names = {
        "hira_A": "down", "hira_B": "up",
        "hada_w1_a": "up1", "hada_w1_b": "down1", "hada_w2_a": "up2", "hada_w2_b": "down2",
        "lokr_w1": "left", "lokr_w2": "right", "lokr_w2_a": "up", "lokr_w2_b": "down",
    }  # fmt: skip
    held = {own: getattr(reference, name)["default"] for name, own in names.items() if getattr(reference, name, None)}
    assert held.keys() == own.keys()
    with torch.no_grad():
        for name, p in own.items():
            held[name].copy_(p.view_as(held[name]))
        wanted = reference.get_delta_weight("default")
        if isinstance(method, HiRA):
            wanted = wanted * conv.weight
        torch.testing.assert_close(layer.adapted_weight() - conv.weight, wanted, rtol=1e-6, atol=1e-6)


def test_channels_split_as_pefts():
    pytest.importorskip("peft")
    from peft.tuners.lokr.layer import factorization

    for channels in range(1, 260):
        for factor in (-1, 1, 2, 3, 4, 7, 16, 64):
            assert two_factors(channels, factor) == factorization(channels, factor), (channels, factor)
            first, second = two_factors(channels, factor)
            assert first * second == channels


@families
def test_gradients_are_finite_differences(method):
    for geometry in GEOMETRIES:
        _, layer, own = moved(method, geometry, torch.float64)
        x = torch.randn(2, 16, 6, 7, dtype=torch.float64)
        assert torch.autograd.gradcheck(
            lambda *values, layer=layer, x=x, own=own: functional_call(layer, dict(zip(own, values)), (x,)),
            tuple(own.values()),
            fast_mode=True,
        )


@families
@geometries
def test_merged_is_unmerged_and_the_start_is_the_identity(method, geometry):
    conv, layer, _ = moved(method, geometry)
    before, x = conv.weight.clone(), torch.randn(2, 16, 9, 11)
    torch.testing.assert_close(layer.merge()(x), layer(x))
    assert torch.equal(method.layer(conv).adapted_weight(), before) and torch.equal(conv.weight, before)


@families
@geometries
def test_counts_are_the_closed_form(method, geometry):
    conv, _, own = moved(method, geometry)
    assert sum(p.numel() for p in own.values()) == method.new_floats(ConvShape.of(conv))


def test_counts_of_the_paper():
    shapes = resnet26_shapes()
    for method, printed in ((LoHa(), "1.43"), (HiRA(), "1.43"), (LoKr(), "1.08")):
        assert f"{method.multiplier(shapes):.2f}" == printed, method.spec
    assert all(LoKr().shapes_at(c).rank == 0 for c in shapes.convs)
    stem = LoKr(2).shapes_at(ConvShape(3, 32, (3, 3)))
    assert (stem.out1, stem.out2, stem.in1, stem.in2, stem.rank) == (4, 8, 1, 3, 2)


def test_both_pairs_of_loha_learn_at_loras_pace():
    """B1 A1 has entries of variance one, so that B2 has LoRA's gradient with other signs and sizes."""
    torch.manual_seed(0)
    layer = LoHa().layer(nn.Conv2d(64, 64, 3))
    product = (layer.up1 @ layer.down1).detach()
    assert 0.7 < float(product.square().mean()) < 1.4


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: LoHa(rank=0), r"loha\(rank=0\): rank must be 1 or more"),
        (lambda: LoHa(rank=300), r"loha\(rank=300\): the rank is larger than every matrix"),
        (lambda: LoKr(factor=0), r"lokr\(factor=0\): factor must be 1 or more, or -1"),
        (lambda: LoKr(rank=32), r"lokr\(rank=32\): .* allows 16\); lower"),
        (lambda: LoKr(alpha=0.0), r"lokr\(alpha=0.0\): alpha must be above 0"),
        (lambda: HiRA(rank=-2), r"hira\(rank=-2\): rank must be 1 or more"),
    ],
)
def test_what_fits_nowhere_is_refused(make, words):
    with pytest.raises(InputError, match=words):
        make().check(resnet26_shapes())
