"""Modules of a joint training, of every entry that has one: a module restored from what is stored computes the same."""

import pytest
import torch
from torch import nn

from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.methods.layers.network import own_tensors, restore, stored_tensors
from visual_decathlon.methods.layers.series import put_series
from visual_decathlon.methods.registry import entries

WIDTH, CLASSES = 0.125, {"a": 3, "b": 4}
JOINT = [method for entry in entries() if (method := entry()).has_joint_stage and not method.joint_method]
each = pytest.mark.parametrize("method", JOINT, ids=lambda method: method.name)


def backbone(method) -> nn.Module:
    torch.manual_seed(0)
    network = resnet26(3, WIDTH)
    if method.backbone_structure == "series":
        put_series(network)
    return network.requires_grad_(False).eval()


def trained(method, source: nn.Module) -> nn.Module:
    """A module whose tensors have all moved, after the work that a training does in its middle."""
    module = method.build_joint(source, CLASSES)
    with torch.no_grad():
        for name, tensor in own_tensors(module, source).items():
            if tensor.is_floating_point() and "basis" not in name:
                tensor.add_(0.1 * torch.rand_like(tensor))
    method.after_step(module, 1, 2)
    return module.eval()


def test_there_are_joint_entries():
    assert {method.name for method in JOINT} >= {"res_adapter_finetune_all", "par_adapter_joint_svd", "joint_signs"}


@each
def test_a_restored_module_computes_the_same(method):
    source = backbone(method)
    module, x = trained(method, source), torch.randn(4, 3, 32, 32)
    stored = stored_tensors(module, source)
    other = method.build_joint(source, CLASSES)
    assert restore(other, source, stored) == ""
    with torch.no_grad():
        for name in CLASSES:
            wanted = module((name, x))
            assert not torch.allclose(wanted, method.build_joint(source, CLASSES).eval()((name, x)), atol=1e-2)
            torch.testing.assert_close(other.eval()((name, x)), wanted, rtol=1e-4, atol=1e-4)


@each
def test_a_domain_is_served_from_its_own_tensors_and_the_trunk(method):
    source = backbone(method)
    module, x = trained(method, source), torch.randn(4, 3, 32, 32)
    trunk = {name: t for name, t in stored_tensors(module, source).items() if name.startswith("trunk.")}
    served = method.build_joint(source, {})
    assert restore(served, source, trunk) == ""
    for name, classes in CLASSES.items():
        network = served.place(classes)
        assert restore(network, served.trunk, stored_tensors(module.networks[name], module.trunk)) == ""
        with torch.no_grad():
            torch.testing.assert_close(network.eval()(x), module((name, x)), rtol=1e-4, atol=1e-4)


@each
def test_a_domain_placed_later_freezes_nothing(method):
    module = method.build_joint(backbone(method), CLASSES)
    trained = {id(p) for p in module.parameters() if p.requires_grad}
    module.place(5)
    assert trained == {id(p) for p in module.parameters() if p.requires_grad}
