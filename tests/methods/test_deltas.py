"""The pure functions behind the layers, each compared with its formula written out over single entries or filters."""

import copy
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from visual_decathlon.methods.layers.adalora import orthogonality_error, scaled_rows
from visual_decathlon.methods.layers.arc import recompose
from visual_decathlon.methods.layers.dan import combine_filters
from visual_decathlon.methods.layers.delta import FormulaConv
from visual_decathlon.methods.layers.dora import with_lengths
from visual_decathlon.methods.layers.grid import serial_weight, tiled_matrix
from visual_decathlon.methods.layers.hadamard import hadamard_delta, kronecker_delta, relative_weight
from visual_decathlon.methods.layers.householder import reflected_diagonals
from visual_decathlon.methods.layers.low_rank import add_low_rank, khatri_rao, tucker_cp_rows, tucker_rows
from visual_decathlon.methods.layers.masks import THRESHOLD, input_masked_weight, masked_weight
from visual_decathlon.methods.layers.orthogonal import boft_matrix, oft_matrix, reflected_matrix
from visual_decathlon.methods.layers.parallel import nearest_factors
from visual_decathlon.methods.layers.rep_adapter import weight_after_mix
from visual_decathlon.methods.layers.snell import largest_distances


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def same(got: Tensor, expected) -> None:
    assert got.dtype == torch.float64
    np.testing.assert_allclose(got.numpy(), np.asarray(expected), rtol=1e-9, atol=1e-12)


def rotation(free: Tensor, size: int) -> np.ndarray:
    """The Cayley transform of the skew matrix with `free` above its diagonal, by an explicit inverse."""
    skew = np.zeros((size, size))
    entries = iter(free.tolist())
    for i in range(size):
        for j in range(i + 1, size):
            skew[i, j] = next(entries)
            skew[j, i] = -skew[i, j]
    return (np.eye(size) - skew) @ np.linalg.inv(np.eye(size) + skew)


def reflection(v: Tensor) -> np.ndarray:
    v = v.numpy()
    return np.eye(len(v)) - 2 * np.outer(v, v) / (v @ v)


def test_low_rank():
    weight, up, rows = draw(4, 3, 2, 2), draw(4, 2), draw(2, 12)
    same(add_low_rank(weight, up, rows), weight.numpy() + (up.numpy() @ rows.numpy()).reshape(4, 3, 2, 2))


def test_rows_of_cp_and_tucker():
    channels, taps, core = draw(3, 2), draw(4, 2), draw(5, 2, 4)
    expected = [[channels[c, r] * taps[s, r] for c, s in product(range(3), range(4))] for r in range(2)]
    same(khatri_rao(channels, taps), expected)
    same(tucker_rows(channels, core), np.einsum("cb,abs->acs", channels, core).reshape(5, 12))
    up, inner = draw(5, 6), draw(2, 6)
    last = draw(4, 6)
    same(
        tucker_cp_rows(channels, up, inner, last),
        np.einsum("cb,ar,br,sr->acs", channels, up, inner, last).reshape(5, 12),
    )


def test_adalora():
    values, right, left = draw(2), draw(2, 5), draw(4, 2)
    same(scaled_rows(values, right, 0.3), 0.3 * np.diag(values) @ right.numpy())
    p, q = left.numpy(), right.numpy()
    expected = np.linalg.norm(p.T @ p - np.eye(2)) ** 2 + np.linalg.norm(q @ q.T - np.eye(2)) ** 2
    same(orthogonality_error(left, right), expected)


def test_products():
    b1, a1, b2, a2 = draw(4, 2), draw(2, 6), draw(4, 3), draw(3, 6)
    same(hadamard_delta(b1, a1, b2, a2), (b1.numpy() @ a1.numpy()) * (b2.numpy() @ a2.numpy()))
    left, right = draw(2, 3), draw(4, 2 * 6)
    got = kronecker_delta(left, right, (3, 2))
    assert got.shape == (8, 6, 3, 2)
    for o1, o2, i1, i2 in product(range(2), range(4), range(3), range(2)):
        same(got[4 * o1 + o2, 2 * i1 + i2], left[o1, i1] * right[o2].view(2, 3, 2)[i2])
    weight, up, down = draw(4, 3, 1, 2), draw(4, 2), draw(2, 6)
    same(
        relative_weight(weight, up, down),
        weight.numpy() + weight.numpy() * (up.numpy() @ down.numpy()).reshape(4, 3, 1, 2),
    )


def test_filters_combined_and_their_lengths():
    weight, change = draw(4, 3, 2, 2), draw(4, 4)
    same(combine_filters(weight, change), np.einsum("oj,jikl->oikl", np.eye(4) + change.numpy(), weight))
    same(serial_weight(weight, change), np.einsum("oj,jikl->oikl", np.eye(4) + change.numpy(), weight))
    magnitude = draw(4)
    expected = [float(m) * f.numpy() / np.sqrt((f.numpy() ** 2).sum()) for m, f in zip(magnitude, weight, strict=True)]
    same(with_lengths(weight, magnitude), expected)


def test_arc():
    weight, p, c = draw(5, 4, 3, 2), draw(4, 2), draw(2)
    mix = np.eye(4) + p.numpy() @ np.diag(c) @ p.numpy().T
    same(recompose(weight, p, c), np.einsum("oikl,ij->ojkl", weight, mix))


@pytest.mark.parametrize(("groups", "copies"), [(1, 1), (2, 1), (1, 3)])
def test_the_matrix_of_the_grid(groups: int, copies: int):
    rows, columns = 4, 6 // groups
    blocks = draw(rows, columns)
    got = tiled_matrix(blocks, groups, copies)
    assert got.shape == (rows * copies, 6)
    for i, j in product(range(rows * copies), range(6)):
        row = i % rows
        group = row // (rows // groups)
        inside = group * columns <= j < (group + 1) * columns
        assert got[i, j] == (blocks[row, j - group * columns] if inside else 0)


def test_a_bottleneck_before_the_kernel():
    weight, change, x = draw(4, 3, 2, 2), draw(3, 3), draw(1, 3, 5, 5)
    mixed = x + torch.einsum("ij,njhw->nihw", change, x)
    same(torch.conv2d(x, weight_after_mix(weight, change)), torch.conv2d(mixed, weight))


def test_householder():
    for cout, cin in ((4, 3), (2, 5)):
        left, right, d = draw(cout), draw(cin), draw(6, min(cout, cin))
        got = reflected_diagonals(left, right, d)
        for tap in range(6):
            diagonal = np.zeros((cout, cin))
            np.fill_diagonal(diagonal, d[tap])
            same(got[:, :, tap], reflection(left) @ diagonal @ reflection(right))


def test_orthogonal():
    matrix = draw(4, 8)
    free = draw(2, 1)
    blocks = [rotation(each, 2) for each in free]
    same(oft_matrix(matrix, free, 2, "left")[:2], blocks[0] @ matrix[:2].numpy())
    same(oft_matrix(matrix, free, 2, "left")[2:], blocks[1] @ matrix[2:].numpy())
    free = draw(2, 6)
    right = np.zeros((8, 8))
    right[:4, :4], right[4:, 4:] = (rotation(each, 4) for each in free)
    same(oft_matrix(matrix, free, 4, "right"), matrix.numpy() @ right.T)
    u = draw(8, 3)
    same(reflected_matrix(matrix, u), matrix.numpy() @ np.linalg.multi_dot([reflection(v) for v in u.T]))


def test_butterflies():
    """Blocks of 2: the first butterfly pairs neighbours, the second columns 2 apart."""
    matrix, free = draw(3, 8), draw(2, 4, 1)
    product_of_both = np.eye(8)
    for level, pairs in enumerate(([(0, 1), (2, 3), (4, 5), (6, 7)], [(0, 2), (1, 3), (4, 6), (5, 7)])):
        butterfly = np.eye(8)
        for (a, b), angle in zip(pairs, free[level], strict=True):
            butterfly[np.ix_([a, b], [a, b])] = rotation(angle, 2)
        product_of_both = butterfly @ product_of_both
    same(boft_matrix(matrix, free, 2), matrix.numpy() @ product_of_both.T)


def test_masks():
    weight, mask = draw(4, 3, 2, 2), THRESHOLD + draw(4, 3, 2, 2)
    same(masked_weight(weight, mask), np.where(mask > THRESHOLD, weight, 0))
    switch = THRESHOLD + draw(6)
    got = input_masked_weight(weight, switch, groups=2)  # filters 0 and 1 read channels 0 to 2, the others 3 to 5
    for o, i in product(range(4), range(3)):
        same(got[o, i], weight[o, i] * float(switch[i + 3 * (o // 2)] > THRESHOLD))


def test_snell():
    o, i = draw(4, 3), draw(4, 5)
    dense = np.zeros((3, 5))
    for r, c in product(range(3), range(5)):
        first, second = (o[:2, r] - i[:2, c]).norm(), (o[2:, r] - i[2:, c]).norm()
        dense[r, c] = 0.1 * first - 0.1 * second
    least = np.sort(abs(dense).flatten())[-4]
    same(largest_distances(o, i, 4), np.where(abs(dense) >= least, dense, 0))


def test_the_nearest_matrix_of_a_rank():
    matrix = draw(5, 4)
    left, size, right = np.linalg.svd(matrix.numpy())
    up, down = nearest_factors(matrix, 2)
    same(up @ down, left[:, :2] * size[:2] @ right[:2])
    same(up.norm(dim=0), np.sqrt(size[:2]))
    same(down.norm(dim=1), np.sqrt(size[:2]))


def test_a_layer_from_a_formula():
    """FormulaConv: its tensors by name, trained, merged, and copied with the module."""
    conv = nn.Conv2d(3, 4, 2, dtype=torch.float64).requires_grad_(False)
    layer = FormulaConv(conv, relative_weight, up=torch.zeros_like(draw(4, 2)), down=draw(2, 12))
    assert [name for name, p in layer.named_parameters() if p.requires_grad] == ["up", "down"]
    assert torch.equal(layer.adapted_weight(), conv.weight)
    layer.up.data += 1
    copied = copy.deepcopy(layer)
    layer.up.data += 1
    x = draw(2, 3, 5, 5)
    for each, b in ((layer, 2), (copied, 1)):
        expected = conv.weight.numpy() * (1 + (b * np.ones((4, 2)) @ each.down.detach().numpy()).reshape(4, 3, 2, 2))
        same(each.adapted_weight().detach(), expected)
        assert torch.equal(each.merge()(x), each(x))
