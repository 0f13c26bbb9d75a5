"""Filter atoms: the cosines, the decomposition with explicit coefficients, and the counts."""

import pytest
import torch
import torch.nn.functional as F
from scipy.fft import dct
from torch import nn

from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.layers.filter_atoms import AtomsConv, InnerAtomsConv, cosine_atoms
from visual_decathlon.methods.registry import select
from visual_decathlon.methods.shapes import ConvShape

GEOMETRIES = {
    "stride": {"kernel_size": 3, "padding": 1, "stride": 2},
    "dilation": {"kernel_size": 3, "padding": 2, "dilation": 2},
    "groups": {"kernel_size": 3, "padding": 1, "groups": 2},
    "depthwise": {"kernel_size": 3, "padding": 1, "groups": 4},
    "non-square": {"kernel_size": (3, 5), "padding": (0, 2), "stride": (2, 1)},
    "bias, reflect": {"kernel_size": (2, 3), "padding": 1, "padding_mode": "reflect", "bias": True},
    "1x1": {"kernel_size": 1, "stride": 2},
}
geometry = pytest.mark.parametrize("how", GEOMETRIES.values(), ids=GEOMETRIES)


def conv_of(how) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(4, 8, **{"bias": False, **how}).double().requires_grad_(False)


@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (2, 5), (7, 1)])
def test_the_atoms_are_a_basis_of_cosines(kernel):
    """Against SciPy's transform of single pixels."""
    atoms = cosine_atoms(kernel)
    size = kernel[0] * kernel[1]
    pixels = torch.eye(size, dtype=torch.float64).view(size, *kernel).numpy()
    wanted = torch.from_numpy(dct(dct(pixels, axis=1, norm="ortho"), axis=2, norm="ortho")).view(size, size).t()
    assert torch.allclose(atoms, wanted, rtol=1e-12, atol=1e-12)
    assert torch.allclose(atoms @ atoms.t(), torch.eye(size, dtype=torch.float64), atol=1e-12)


@geometry
def test_the_combination_with_new_atoms(how):
    """Coefficients from W, slice by slice, then the kernel of the same coefficients over the changed atoms."""
    conv = conv_of(how)
    adapter, x = AtomsConv(conv), torch.randn(2, 4, 11, 9, dtype=torch.float64)
    assert torch.equal(adapter.adapted_weight(), conv.weight)
    nn.init.normal_(adapter.change)
    weight = torch.empty_like(conv.weight)
    for o in range(weight.shape[0]):
        for i in range(weight.shape[1]):
            a = [(conv.weight[o, i].flatten() * atom).sum() for atom in adapter.atoms]
            changed = sum(c * (atom + d) for c, atom, d in zip(a, adapter.atoms, adapter.change, strict=True))
            weight[o, i] = changed.detach().view(conv.kernel_size)
    plain = conv_of(how)
    plain.weight.copy_(weight)
    for got in (adapter(x), adapter.merge()(x)):
        assert torch.allclose(got, plain(x), rtol=1e-10, atol=1e-10)


@geometry
def test_each_channel_has_its_own_atoms(how):
    """As convolutions: each input channel is filtered by its changed atoms, and the coefficients combine the maps."""
    conv = conv_of(how)
    adapter, x = InnerAtomsConv(conv, 2), torch.randn(2, 4, 11, 9, dtype=torch.float64)
    assert torch.equal(adapter.adapted_weight(), conv.weight)
    nn.init.normal_(adapter.inner)
    size = adapter.atoms.shape[0]
    change = torch.einsum("mij,mjt->imt", adapter.coefficients, adapter.inner) + adapter.atoms
    side = nn.Conv2d(4, 4 * size, conv.kernel_size, conv.stride, conv.padding, conv.dilation, 4, False).double()
    side.padding_mode, side._reversed_padding_repeated_twice = conv.padding_mode, conv._reversed_padding_repeated_twice
    maps = side._conv_forward(x, change.reshape(-1, 1, *conv.kernel_size), None)  # (N, cin m, H', W')
    a = torch.einsum("oit,mt->oim", conv.weight.flatten(2), adapter.atoms).flatten(1)
    wanted = F.conv2d(maps, a[:, :, None, None], conv.bias, groups=conv.groups)
    for got in (adapter(x), adapter.merge()(x)):
        assert torch.allclose(got, wanted, rtol=1e-10, atol=1e-10)


def test_counts():
    shapes = resnet26_shapes()
    assert select("filter_atoms(inner=0)")[0].floats(shapes) == 7_744 + 25 * 81
    inner = sum(9 * 4 * (c.cin + 9) for c in shapes.convs[1:]) + 9 * 3 * (3 + 9)
    (method,) = select("filter_atoms")
    assert method.floats(shapes) == 7_744 + inner
    assert f"{method.multiplier(shapes):.2f}" == "1.21"


def test_a_size_that_batch_norm_cancels_is_not_trained():
    plain, inner = select("filter_atoms(inner=0),filter_atoms(inner=1)")
    for conv, skipped in ((ConvShape(4, 8, (1, 1)), (True, False)), (ConvShape(4, 4, (1, 1), groups=4), (True, True))):
        assert tuple(method.skip_reason(conv) != "" for method in (plain, inner)) == skipped
    assert not plain.skip_reason(ConvShape(4, 4, (3, 3), groups=4))


def test_wrong_options():
    with pytest.raises(InputError, match="number of atoms"):
        select("filter_atoms(inner=-1)")
    with pytest.raises(InputError, match="at most 9 inner atoms"):
        select("filter_atoms(inner=10)")[0].check(resnet26_shapes())
