"""Parallel adapters compressed jointly: the common basis, what is trained and stored after it, and the count."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.layers.joint_svd import (
    SharedBasisConv,
    common_basis,
    compress,
    give_basis,
)
from visual_decathlon.methods.layers.network import (
    merge_for_inference,
    own_tensors,
    restore,
    stored_tensors,
    tensors_of,
)
from visual_decathlon.methods.layers.parallel import ParallelConv
from visual_decathlon.methods.registry import select

WIDTH, CLASSES = 0.125, {"a": 3, "b": 4, "c": 5}
SHAPES = resnet26_shapes(WIDTH)
(METHOD,) = select("par_adapter_joint_svd")


@pytest.fixture
def source():
    torch.manual_seed(0)
    return resnet26(3, WIDTH).requires_grad_(False).eval()


@pytest.fixture
def module(source):
    torch.manual_seed(1)
    return METHOD.build_joint(source, CLASSES)


def stirred(module):
    for adapter in adapters_of(module):
        nn.init.normal_(adapter.side.weight)
    return module


def adapters_of(module, kind=SharedBasisConv) -> list:
    return [m for m in module.modules() if isinstance(m, kind)]


def test_the_common_basis_loses_least():
    """By the eigenvectors of the sum of all Aᵀ A, in float64: another way to the same rows."""
    torch.manual_seed(0)
    matrices = [scale * torch.randn(7, 11) for scale in (1.0, 3.0, 0.1)]
    basis = common_basis(matrices, 4)
    assert torch.allclose(basis @ basis.t(), torch.eye(4), atol=1e-5)
    gram = sum(m.double().numpy().T @ m.double().numpy() for m in matrices)
    largest = np.linalg.eigh(gram)[1][:, ::-1][:, :4]
    assert np.allclose(basis.T.numpy() @ basis.numpy(), largest @ largest.T, atol=1e-5)
    lost = sum(float((m - m @ basis.t() @ basis).square().sum()) for m in matrices)
    assert lost == pytest.approx(float(np.linalg.eigvalsh(gram)[:-4].sum()), rel=1e-4)


def test_a_basis_larger_than_all_matrices_loses_nothing():
    """As of one domain and a layer with fewer outputs than the rank, which vision transformers have."""
    torch.manual_seed(0)
    matrix = torch.randn(5, 11)
    basis = common_basis([matrix], 8)
    assert torch.allclose(basis @ basis.t(), torch.eye(8), atol=1e-5)
    assert torch.allclose(matrix @ basis.t() @ basis, matrix, atol=1e-4)


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(6, 10, 3, padding=1),
        nn.Conv2d(6, 4, (3, 5), stride=2, padding=(1, 2)),
        nn.Conv2d(6, 8, 3, padding=2, dilation=2, bias=False),
        nn.Conv2d(6, 8, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(6, 8, 1),
    ],
)
def test_the_form_as_two_pointwise_convolutions(conv):
    """conv(x) + C (V x): the basis as a 1x1 to r channels, the domain's factor as a 1x1 behind it; merged too."""
    torch.manual_seed(0)
    conv.requires_grad_(False)
    give_basis(conv, 2, persistent=True)
    adapter = SharedBasisConv(conv)
    nn.init.normal_(adapter.side.weight)
    x = torch.randn(2, 6, 9, 12)
    with torch.no_grad():
        whole = conv(x) + F.conv2d(x, adapter.side.weight, stride=conv.stride)
        assert torch.allclose(adapter(x), whole, atol=1e-5)  # before the basis is set, A is whole
        conv.basis.copy_(torch.linalg.qr(torch.randn(6, 2))[0].t())
        conv.full.fill_(False)
        factor = adapter.stored()["coefficients"]
        assert factor.shape == (conv.out_channels, 2)
        wanted = conv(x) + F.conv2d(
            F.conv2d(x, conv.basis[:, :, None, None], stride=conv.stride), factor[..., None, None]
        )
        assert torch.allclose(adapter(x), wanted, atol=1e-5)
        merged = adapter.merge()
        assert torch.allclose(merged(x), wanted, atol=1e-5) and not dict(merged.named_buffers())
        assert conv.basis is adapter.conv.basis  # merging took nothing from the adapter


def test_a_step_on_the_side_is_the_same_step_on_the_factor():
    """SGD with momentum and weight decay on `side`, against the same on C with A = C V."""
    torch.manual_seed(0)
    conv, x = nn.Conv2d(6, 8, 3, padding=1).requires_grad_(False), torch.randn(4, 6, 7, 7)
    give_basis(conv, 3, persistent=True)
    conv.basis.copy_(torch.linalg.qr(torch.randn(6, 3))[0].t())
    conv.full.fill_(False)
    adapter = SharedBasisConv(conv)
    nn.init.normal_(adapter.side.weight)
    factor = nn.Parameter(adapter.stored()["coefficients"].clone())
    trained = torch.optim.SGD([adapter.side.weight, factor], 0.05, momentum=0.9, weight_decay=0.01, nesterov=True)
    for _ in range(4):
        trained.zero_grad()
        adapter(x).square().mean().backward()
        (conv(x) + F.conv2d(x, (factor @ conv.basis)[..., None, None])).square().mean().backward()
        trained.step()
    assert torch.allclose(adapter.stored()["coefficients"], factor, atol=1e-6)
    outside = adapter.side.weight[:, :, 0, 0] - factor @ conv.basis
    assert outside.abs().max() > 0.1  # the part that is not stored decays and does not act


def test_domains_share_the_basis_and_nothing_that_is_trained(module, source):
    assert all(
        torch.equal(t, source.state_dict()[n])
        for n, t in module.trunk.state_dict().items()
        if "basis" not in n and "full" not in n
    )
    trained = [{id(p) for p in n.parameters() if p.requires_grad} for n in module.networks.values()]
    assert not set.intersection(*trained)
    shared = {id(t) for t in tensors_of(module.trunk).values()}
    for network in module.networks.values():
        assert all(id(a.conv.basis) in shared and id(a.conv.full) in shared for a in adapters_of(network))
    names = own_tensors(module, source)  # what the file of the joint training holds
    assert sum(n.endswith("basis") for n in names) == len(adapters_of(module.networks["a"])) == 25
    assert not any("conv.weight" in n for n in names)


def test_the_bases_are_set_once_in_the_middle(module):
    before = [adapter.conv.basis.clone() for adapter in adapters_of(module.networks["a"])]
    for step in range(1, 11):
        stirred(module)
        METHOD.after_step(module, step, 10)
        now = [adapter.conv.basis.clone() for adapter in adapters_of(module.networks["a"])]
        changed = [not torch.equal(a, b) for a, b in zip(before, now, strict=True)]
        assert all(changed) if step == 5 else not any(changed)
        assert all(bool(a.conv.full) == (step < 5) for a in adapters_of(module))
        before = now


def test_the_basis_is_that_of_all_domains(module):
    stirred(module)
    path = next(
        n
        for n, m in module.networks["a"].named_modules()
        if isinstance(m, SharedBasisConv) and m.side.weight.shape[1] > 8
    )
    sides = [n.get_submodule(path).side.weight.detach()[:, :, 0, 0] for n in module.networks.values()]
    compress([*module.networks.values()])
    basis = module.networks["b"].get_submodule(path).conv.basis
    _, _, rows = np.linalg.svd(torch.cat(sides).double().numpy())
    wanted = rows[: len(basis)]
    assert np.allclose(basis.T.numpy() @ basis.numpy(), wanted.T @ wanted, atol=1e-4)


def test_stored_and_loaded_on_the_trunk_of_another_process(module, source):
    """The trunk's tensors and the domain's file give the network again, to the bit; a merged one computes the same."""
    stirred(module)
    compress([*module.networks.values()])
    x = torch.randn(2, 3, 32, 32)
    other = METHOD.build_joint(source, {})
    trunk = {n: t for n, t in own_tensors(module, source).items() if n.startswith("trunk.")}
    assert restore(other, source, trunk) == ""
    for name, classes in CLASSES.items():
        network = module.networks[name].eval()
        stored = stored_tensors(network, module.trunk)
        floats = sum(t.numel() for n, t in stored.items() if not n.endswith(("mean", "var", "tracked")))
        assert floats == METHOD.floats(SHAPES) + SHAPES.head(classes)
        assert restore(network, module.trunk, stored) == ""
        loaded = other.place(classes).eval()
        assert restore(loaded, other.trunk, {n: t.clone() for n, t in stored.items()}) == ""
        with torch.no_grad():
            assert torch.equal(loaded(x), network(x))
            assert torch.allclose(merge_for_inference(network)(x), network(x), rtol=1e-3, atol=1e-3)


def test_the_count():
    """9 (cout r + the batch norms) and one r cin, in two ways; 1.50 is printed."""
    shapes = resnet26_shapes()
    widths = {3: 1, 32: 14, 64: 28, 128: 56, 256: 113}
    own = sum(c.cout * widths[c.cin] for c in shapes.convs) + 7_744
    once = sum(c.cin * widths[c.cin] for c in shapes.convs)
    assert METHOD.multiplier(shapes) == pytest.approx(1 + (9 * own + once) / 5_814_688, rel=1e-12)
    assert f"{METHOD.multiplier(shapes):.2f}" == "1.50"
    module = METHOD.build_joint(resnet26(3, WIDTH), {})
    assert METHOD.shared_params(SHAPES) == sum(b.numel() for n, b in module.named_buffers() if n.endswith("basis"))


def test_all_of_the_channels_is_par_adapter():
    (whole,) = select("par_adapter_joint_svd(kept=1)")
    assert whole.shared_params(SHAPES) == 0 and whole.floats(SHAPES) == select("par_adapter")[0].floats(SHAPES)
    module = whole.build_joint(resnet26(3, WIDTH), {"a": 2})
    assert not adapters_of(module) and len(adapters_of(module.networks, ParallelConv)) == 25


@pytest.mark.parametrize("kept", ["0", "1.1", "-0.5"])
def test_bad_options(kept):
    with pytest.raises(InputError, match="must be above 0, at most 1"):
        select(f"par_adapter_joint_svd(kept={kept})")
